#include "core/region.hpp"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

TEST(Region, too_little_memory_makes_none) {
    RegionOptions options = TestRegion::make_options(0, 4, 2, 1);
    RegionMemory memory(options.bytes);
    options.bytes -= 4096;
    EXPECT_FALSE(Region::create(memory.map(), options));
}

TEST(Region, the_smallest_one_works_for_any_number_of_sessions) {
    for (const unsigned sessions : {1U, 100U, 3000U}) {
        TestRegion r(0, sessions, sessions);
        ASSERT_TRUE(r.region);
        EXPECT_EQ(r.put(shared_scope(1), "k", text_of(100'000, 1)), Put::kStored);
        EXPECT_EQ(r.get(shared_scope(1), "k"), text_of(100'000, 1));
        r.audit();
    }
}

TEST(Region, any_size_from_the_smallest_on_can_be_made) {
    for (std::size_t bytes = 1 << 19; bytes < (64U << 20); bytes += bytes / 3) {
        RegionOptions options = TestRegion::make_options(bytes, 50, 5, 1);
        RegionMemory memory(options.bytes);
        ASSERT_TRUE(Region::create(memory.map(), options)) << bytes;
    }
}

TEST(Region, memory_that_holds_none_is_not_opened) {
    RegionMemory memory(1 << 20);
    EXPECT_FALSE(Region::open(memory.map()));
}

TEST(Region, one_of_another_layout_is_not_opened) {
    TestRegion r;
    ++r.region.header().layout_version;
    EXPECT_FALSE(r.second_view());
}

TEST(Region, two_views_at_different_addresses_see_the_same_entries) {
    TestRegion r;
    const Region other = r.second_view();
    ASSERT_TRUE(other);
    ASSERT_NE(other.base().p, r.base().p);
    const Scope scope = shared_scope(1);
    ASSERT_EQ(r.put(scope, "k", "here", {"t"}), Put::kStored);

    Lookup found;
    const Key key = r.key(scope, "k");
    ASSERT_EQ(other.store().find(other.base(), key, UINT64_MAX, kNow, found), Found::kHit);
    std::string value(found.value_bytes, '\0');
    ASSERT_TRUE(other.store().copy(other.base(), found, value.data()));
    EXPECT_EQ(value, "here");

    PendingMark mark{};
    other.store().stamp_tag(other.base(), r.tag("t"), other.clock().stamp(mark, 500));
    EXPECT_EQ(r.look(scope, "k"), Found::kInvalidated);
    EXPECT_TRUE(other.store().remove_if(other.base(),
                                        Index::bucket_of(key.hash, other.store().bucket_count()),
                                        [](const EntryInfo& e) { return e.dead; }));
    EXPECT_EQ(r.look(scope, "k"), Found::kAbsent);
    r.audit();
    EXPECT_TRUE(other.store().check(other.base()));
}

TEST(Region, a_bound_respects_the_marks_of_sessions_and_prepared_transactions) {
    TestRegion r(0, 4, 2);
    r.stamp();
    r.stamp();
    EXPECT_EQ(r.region.settled_bound(), 3u);
    r.region.clock().stamp(r.region.session(3).mark, 700);
    r.stamp();
    EXPECT_EQ(r.region.settled_bound(), 3u);
    r.region.session(3).mark.version.store(0);
    EXPECT_EQ(r.region.settled_bound(), 5u);
    r.region.clock().stamp(r.region.prepared(1).mark, 701);
    EXPECT_EQ(r.region.settled_bound(), 5u);
    r.region.prepared(1).mark.version.store(0);
    EXPECT_EQ(r.region.settled_bound(), 6u);
}

/// What a process does with the region in the next test; false: something was wrong.
bool work_on(const Region& region, unsigned process, unsigned rounds) {
    const Scope scope = shared_scope(1);
    Store& store = region.store();
    const Base base = region.base();
    SessionSlot& session = region.session(process);
    std::uint64_t state = process + 1;
    for (unsigned i = 0; i < rounds; ++i) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        const unsigned n = static_cast<unsigned>(state >> 33) % 300;
        const std::string name = "k" + std::to_string(n);
        const Key key{scope.id, name, store.key_hash(scope.id, name)};
        const std::string tag_text = "t" + std::to_string(n % 20);
        const TagName tag{scope.space, tag_text, store.tags().hash(scope.space, tag_text)};
        Lookup found;
        switch ((state >> 20) % 8) {
            case 0: {
                const std::string value = text_of((state >> 40) % 6000, n);
                NewEntry entry;
                entry.scope = &scope;
                entry.key = key;
                entry.tags = {&tag, 1};
                entry.value = std::as_bytes(std::span(value.data(), value.size()));
                entry.birth = region.clock().now();
                entry.created_at = kNow;
                entry.expires_at = kNever;
                entry.now = kNow;
                store.put(base, session, entry, {});
                break;
            }
            case 1:
                if (i % 16 == 0) store.stamp_tag(base, tag, region.clock().stamp(session.mark, 1000 + i));
                session.mark.version.store(0);
                break;
            default: {
                if (store.find(base, key, UINT64_MAX, kNow, found) != Found::kHit) break;
                std::string value(found.value_bytes, '\0');
                if (!store.copy(base, found, value.data())) break;
                if (value != text_of(value.size(), n)) return false;
                store.count_hit(base, session, found, kNow);
            }
        }
    }
    return true;
}

TEST(Region, processes_share_it_at_addresses_of_their_own) {
    TestRegion r(0, 4);
    const unsigned rounds = static_cast<unsigned>(150'000 * test_scale());
    std::vector<pid_t> children;
    for (unsigned process = 1; process <= 2; ++process) {
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            const Region own = r.second_view();  // not where the parent has it
            _exit(own && own.base().p != r.base().p && work_on(own, process, rounds) ? 0 : 1);
        }
        children.push_back(child);
    }
    EXPECT_TRUE(work_on(r.region, 0, rounds));
    for (const pid_t child : children) {
        int status = -1;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
    r.audit();
    EXPECT_GT(r.region.total(Counter::kEvictions), 0u);
    r.remove_all();
    r.audit();
    EXPECT_EQ(r.allocator().used_bytes(), r.index_blocks_bytes());
}

}  // namespace
}  // namespace cache_ext::core
