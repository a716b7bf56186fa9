#include "core/session.hpp"

#include <gtest/gtest.h>

#include <memory>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

class Hits : public testing::Test {
protected:
    TestRegion r{0, 3};
    Scope scope = shared_scope(1);

    void hit(std::string_view name, unsigned session = 0, unsigned times = 1) {
        for (unsigned i = 0; i < times; ++i) {
            Lookup found;
            ASSERT_EQ(r.find(scope, name, found), Found::kHit);
            r.store().count_hit(r.base(), r.region.session(session), found, kNow + 5 * kSecond);
        }
    }
    std::uint32_t hits(std::string_view name) {
        for (const auto& e : r.entries()) {
            if (e.key_text == name) return e.hits;
        }
        return UINT32_MAX;
    }
};

TEST(Counters, add_up_over_all_sessions) {
    TestRegion r(0, 3);
    r.region.session(0).counters.add(Counter::kHits);
    r.region.session(1).counters.add(Counter::kHits, 5);
    r.region.session(2).counters.add(Counter::kMisses, 7);
    EXPECT_EQ(r.region.total(Counter::kHits), 6u);
    EXPECT_EQ(r.region.total(Counter::kMisses), 7u);
    EXPECT_EQ(r.region.total(Counter::kSets), 0u);
}

TEST_F(Hits, are_added_when_the_session_flushes) {
    r.put(scope, "a", "1");
    hit("a", 0, 3);
    EXPECT_EQ(hits("a"), 0u);
    r.store().flush_hits(r.base(), r.region.session(0), kNow + 6 * kSecond);
    EXPECT_EQ(hits("a"), 3u);
    EXPECT_EQ(r.entries()[0].used_at, static_cast<std::uint32_t>(kNow / kSecond) + 6);
    r.store().flush_hits(r.base(), r.region.session(0), kNow);
    EXPECT_EQ(hits("a"), 3u);
}

TEST_F(Hits, of_all_sessions_are_gathered_and_none_twice) {
    r.put(scope, "a", "1");
    hit("a", 0, 3);
    hit("a", 1, 4);
    r.store().gather_hits(r.base(), kNow);
    EXPECT_EQ(hits("a"), 7u);
    hit("a", 1, 2);
    r.store().gather_hits(r.base(), kNow);
    EXPECT_EQ(hits("a"), 9u);
    r.store().flush_hits(r.base(), r.region.session(0), kNow);
    r.store().flush_hits(r.base(), r.region.session(1), kNow);
    EXPECT_EQ(hits("a"), 9u);
}

TEST_F(Hits, are_exact_when_there_are_more_entries_than_cells) {
    constexpr unsigned kKeys = 5 * HitBuffer::kCells;
    for (unsigned i = 0; i < kKeys; ++i)
        ASSERT_EQ(r.put(scope, "k" + std::to_string(i), "v"), Put::kStored);
    for (unsigned round = 0; round < 3; ++round) {
        for (unsigned i = 0; i < kKeys; ++i)
            hit("k" + std::to_string(i), 0, i % 4);
    }
    r.store().flush_hits(r.base(), r.region.session(0), kNow);
    for (unsigned i = 0; i < kKeys; ++i)
        EXPECT_EQ(hits("k" + std::to_string(i)), 3 * (i % 4)) << i;
}

TEST_F(Hits, of_an_entry_that_has_gone_are_dropped) {
    r.put(scope, "a", "1");
    hit("a", 0, 3);
    r.store().remove(r.base(), r.key(scope, "a"));
    r.store().flush_hits(r.base(), r.region.session(0), kNow);
    r.put(scope, "a", "2");
    EXPECT_EQ(hits("a"), 0u);
    r.audit();
}

TEST_F(Hits, of_an_entry_that_has_gone_never_go_to_another_key_in_its_place) {
    // Many keys share one bucket while the index is small; the memory of one is reused at once by the next of its size.
    r.put(scope, "victim-000", "v");
    Lookup old;
    ASSERT_EQ(r.find(scope, "victim-000", old), Found::kHit);
    unsigned reused = 0;
    for (int i = 1; i < 500; ++i) {
        hit("victim-" + std::string(i < 11 ? "00" : i < 101 ? "0" : "") + std::to_string(i - 1), 0, 5);
        const std::string before = "victim-" +
                                   std::string(i < 11    ? "00"
                                               : i < 101 ? "0"
                                                         : "") +
                                   std::to_string(i - 1);
        const std::string name = "victim-" +
                                 std::string(i < 10    ? "00"
                                             : i < 100 ? "0"
                                                       : "") +
                                 std::to_string(i);
        ASSERT_TRUE(r.store().remove(r.base(), r.key(scope, before)));
        ASSERT_EQ(r.put(scope, name, "v"), Put::kStored);
        Lookup now;
        ASSERT_EQ(r.find(scope, name, now), Found::kHit);
        reused += now.entry == old.entry;
        old = now;
        r.store().flush_hits(r.base(), r.region.session(0), kNow);
        ASSERT_EQ(hits(name), 0u) << i;
    }
    EXPECT_GT(reused, 400u) << "the test is about reused memory";
}

TEST_F(Hits, of_a_replaced_entry_end_with_it) {
    r.put(scope, "a", "1");
    hit("a", 0, 3);
    r.put(scope, "a", "2");
    r.store().flush_hits(r.base(), r.region.session(0), kNow);
    EXPECT_EQ(hits("a"), 0u);
    hit("a", 0, 2);
    r.store().flush_hits(r.base(), r.region.session(0), kNow);
    EXPECT_EQ(hits("a"), 2u);
}

TEST_F(Hits, protect_from_eviction) {
    ASSERT_EQ(r.put(scope, "hot", text_of(1000, 0)), Put::kStored);
    for (unsigned i = 0; i < 2000; ++i) {
        hit("hot", 1);
        PutOptions how;
        how.now = kNow + static_cast<Timestamp>(i) *
                             20'000;  // far enough apart for other sessions' hits to be looked at
        ASSERT_EQ(r.put(scope, "cold" + std::to_string(i), text_of(1000, i), {}, how), Put::kStored);
    }
    EXPECT_GT(r.region.total(Counter::kEvictions), 0u);
    EXPECT_TRUE(r.get(scope, "hot"));
}

TEST(HitBuffer, tells_when_it_has_no_cell_left) {
    auto buffer = std::make_unique<HitBuffer>();
    unsigned added = 0;
    for (Ref ref = 1; ref < 10'000; ++ref)
        added += buffer->add(ref, ref);
    EXPECT_EQ(added, HitBuffer::kCells);
    for (auto& cell : *buffer)
        EXPECT_EQ(cell.count.load(), 1u);
}

TEST(HitBuffer, tells_entries_at_one_place_apart_by_their_hash) {
    auto buffer = std::make_unique<HitBuffer>();
    EXPECT_TRUE(buffer->add(7, 1));
    EXPECT_TRUE(buffer->add(7, 2));
    EXPECT_TRUE(buffer->add(7, 1));
    unsigned used = 0;
    for (auto& cell : *buffer)
        used += cell.entry.load() != 0;
    EXPECT_EQ(used, 2u);
}

}  // namespace
}  // namespace cache_ext::core
