#include "core/index.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

/// An index of its own, over made-up entries whose hashes a map knows.
class IndexTest : public testing::Test {
protected:
    void make(std::uint32_t max_pages) {
        const Ref directory = r.allocator().allocate(r.base(), max_pages * sizeof(Ref));
        std::memset(r.base().at<void>(directory), 0, max_pages * sizeof(Ref));
        ASSERT_TRUE(index.init(r.base(), r.allocator(), directory, max_pages));
    }
    Index::HashOf hash_of() {
        return {
            [](const void* self, Base, Ref e) { return static_cast<const IndexTest*>(self)->hashes.at(e); },
            this};
    }
    bool insert(Ref e, std::uint64_t hash) {
        hashes[e] = hash;
        return index.insert(r.base(), r.allocator(), hash, e, hash_of());
    }
    void expect_complete() {
        std::multiset<Ref> seen;
        for (std::uint32_t b = 0; b < index.bucket_count(); ++b) {
            for (Bucket* at = index.bucket(r.base(), b); at != nullptr; at = Index::next(r.base(), *at)) {
                for (auto& slot : at->slots) {
                    const Ref ref = Bucket::slot_ref(slot.load());
                    if (ref == 0) continue;
                    seen.insert(ref);
                    ASSERT_EQ(Index::bucket_of(hashes.at(ref), index.bucket_count()), b);
                    ASSERT_EQ(slot.load() >> 32, hashes.at(ref) >> 32);
                }
            }
        }
        ASSERT_EQ(seen.size(), hashes.size());
        for (const auto& [ref, hash] : hashes) {
            ASSERT_EQ(seen.count(ref), 1u);
            ASSERT_TRUE(index.contains(r.base(), hash, ref));
        }
    }

    TestRegion r{4 << 20};
    Index index;
    std::map<Ref, std::uint64_t> hashes;
    std::mt19937_64 random{7};
};

TEST_F(IndexTest, buckets_split_in_turn) {
    for (std::uint32_t count = 1; count < 200; ++count) {
        for (int i = 0; i < 50; ++i) {
            const std::uint64_t hash = random();
            const std::uint32_t now = Index::bucket_of(hash, count);
            const std::uint32_t after = Index::bucket_of(hash, count + 1);
            ASSERT_LT(now, count);
            ASSERT_TRUE(after == now || after == count);
            if (after == count) {
                ASSERT_EQ(now, Index::bucket_of(count, count));
            }
        }
    }
}

TEST_F(IndexTest, grows_with_its_entries_and_keeps_them_all) {
    make(1000);
    for (Ref e = 1; e <= 5000; ++e) {
        ASSERT_TRUE(insert(e, random()));
        if (e % 500 == 0) expect_complete();
    }
    EXPECT_GE(index.bucket_count(), 5000 / Index::kEntriesPerBucket);
    EXPECT_TRUE(r.allocator().check(r.base()));
}

TEST_F(IndexTest, at_its_full_size_it_goes_on_in_longer_chains) {
    make(1);
    for (Ref e = 1; e <= 1000; ++e)
        ASSERT_TRUE(insert(e, random()));
    EXPECT_EQ(index.bucket_count(), Index::kPageBuckets);
    expect_complete();
}

TEST_F(IndexTest, entries_with_equal_hashes_are_told_apart) {
    make(100);
    for (Ref e = 1; e <= 100; ++e)
        ASSERT_TRUE(insert(e, 0x1234567812345678));
    for (Ref e = 1; e <= 100; e += 2) {
        index.erase(r.base(), hashes[e], e);
        hashes.erase(e);
    }
    expect_complete();
}

TEST_F(IndexTest, each_removal_raises_the_version_of_its_chain) {
    make(1);
    for (Ref e = 1; e <= 40; ++e)
        ASSERT_TRUE(insert(e, 16 * static_cast<std::uint64_t>(e)));
    auto& version = index.bucket(r.base(), 0)->version;
    std::uint32_t before = version.load();
    for (Ref e = 1; e <= 40; ++e) {
        index.erase(r.base(), hashes[e], e);
        hashes.erase(e);
        ASSERT_GT(version.load(), before);
        before = version.load();
    }
    expect_complete();
}

TEST_F(IndexTest, a_replacement_raises_the_version_and_stays_in_place) {
    make(1);
    ASSERT_TRUE(insert(1, 32));
    const std::uint32_t before = index.bucket(r.base(), 0)->version.load();
    hashes.erase(1);
    hashes[2] = 32;
    index.replace(r.base(), 32, 1, 2);
    EXPECT_GT(index.bucket(r.base(), 0)->version.load(), before);
    expect_complete();
}

TEST_F(IndexTest, growth_raises_the_version_of_the_chain_that_is_split) {
    make(10);
    const auto count = Index::kPageBuckets * Index::kEntriesPerBucket;
    for (Ref e = 1; e <= count; ++e)
        ASSERT_TRUE(insert(e, random()));
    ASSERT_EQ(index.bucket_count(), Index::kPageBuckets);
    const std::uint32_t before = index.bucket(r.base(), 0)->version.load();
    ASSERT_TRUE(insert(count + 1, random()));
    ASSERT_EQ(index.bucket_count(), Index::kPageBuckets + 1);
    EXPECT_GT(index.bucket(r.base(), 0)->version.load(), before);
}

TEST_F(IndexTest, chain_buckets_are_used_again) {
    make(1);
    for (Ref e = 1; e <= 600; ++e)
        ASSERT_TRUE(insert(e, random()));
    const std::uint64_t bytes = index.memory_bytes();
    for (int round = 0; round < 20; ++round) {
        for (const auto& [e, hash] : hashes)
            index.erase(r.base(), hash, e);
        hashes.clear();
        for (Ref e = 1; e <= 400; ++e)
            ASSERT_TRUE(insert(e, random()));
        expect_complete();
    }
    EXPECT_EQ(index.memory_bytes(), bytes);
}

TEST_F(IndexTest, out_of_memory_at_any_allocation_loses_nothing) {
    make(200);
    Ref e = 1;
    for (int round = 0; round < 400; ++round) {
        r.allocator().fail_after(round % 5);
        for (int i = 0; i < 20; ++i, ++e) {
            // A few hashes only: chains are long and are split often.
            const std::uint64_t hash = random() % 40 + (random() << 32);
            if (!insert(e, hash)) hashes.erase(e);
        }
        r.allocator().fail_after(-1);
        while (hashes.size() > 1500) {
            auto it = hashes.begin();
            std::advance(it, static_cast<long>(random() % 100));
            index.erase(r.base(), it->second, it->first);
            hashes.erase(it);
        }
        if (round % 10 == 0) {
            ASSERT_NO_FATAL_FAILURE(expect_complete());
        }
    }
    EXPECT_TRUE(r.allocator().check(r.base()));
}

TEST_F(IndexTest, random_insertions_and_removals_agree_with_a_map) {
    make(500);
    Ref next = 1;
    const int steps = static_cast<int>(40'000 * test_scale());
    for (int step = 0; step < steps; ++step) {
        if (hashes.size() < 50 || random() % 100 < 52) {
            ASSERT_TRUE(insert(next++, random()));
        } else {
            auto it = hashes.lower_bound(static_cast<Ref>(random() % next));
            if (it == hashes.end()) it = hashes.begin();
            index.erase(r.base(), it->second, it->first);
            ASSERT_FALSE(index.contains(r.base(), it->second, it->first));
            hashes.erase(it);
        }
        if (step % 4000 == 0) {
            ASSERT_NO_FATAL_FAILURE(expect_complete());
        }
    }
    expect_complete();
}

}  // namespace
}  // namespace cache_ext::core
