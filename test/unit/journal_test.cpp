// Why entries went: what is told of those that are still in their place, what is noted of those that are removed, and what is forgotten.

#include "core/journal.hpp"

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

class JournalTest : public ::testing::Test {
protected:
    TestRegion r;
    Scope scope = shared_scope(1);
    Scope mine = private_scope(1, 1);

    Version take() {
        PendingMark mark{};
        return r.region.take_version(mark, ++r.last_xid);
    }
    void stamp_tag(std::string_view tag) { r.store().stamp_tag(r.base(), r.tag(tag), take()); }

    std::vector<Departure> notes(std::string_view key) {
        std::vector<Departure> found;
        r.store().visit_departures(r.base(), scope.space, key,
                                   [&](const Departure& d) { found.push_back(d); });
        return found;
    }
    Departure in_place(std::string_view key, Timestamp now = kNow) {
        Departure d;
        r.store().visit_one(r.base(), r.key(scope, key),
                            [&](const EntryInfo& e) { d = r.store().departure_of(r.base(), e, now); });
        return d;
    }
};

TEST_F(JournalTest, a_live_entry_has_not_gone) {
    ASSERT_EQ(r.put(scope, "k", "v", {"a"}), Put::kStored);
    EXPECT_EQ(in_place("k").reason, Gone::kNot);
    ASSERT_EQ(r.put(scope, "k", "w", {"a"}), Put::kStored);
    EXPECT_TRUE(notes("k").empty());
}

TEST_F(JournalTest, a_dead_entry_names_the_first_tag_that_killed_it_and_whose_it_was) {
    ASSERT_EQ(r.put(scope, "k", "v", {"a", "b", "c"}), Put::kStored);
    stamp_tag("b");
    const FullXid by = r.last_xid;
    stamp_tag("a");
    const Departure d = in_place("k");
    EXPECT_EQ(d.reason, Gone::kTag);
    EXPECT_EQ(d.name(), "b");
    EXPECT_EQ(d.origin.xid, by);
    EXPECT_GT(d.origin.at, 0);
    EXPECT_FALSE(d.is_relation);
}

TEST_F(JournalTest, what_replaces_a_dead_entry_leaves_a_note_of_it) {
    ASSERT_EQ(r.put(scope, "k", "v", {"a"}), Put::kStored);
    stamp_tag("a");
    const FullXid by = r.last_xid;
    ASSERT_EQ(r.put(scope, "k", "w", {"a"}), Put::kStored);
    EXPECT_EQ(in_place("k").reason, Gone::kNot);
    ASSERT_EQ(notes("k").size(), 1u);
    EXPECT_EQ(notes("k")[0].name(), "a");
    EXPECT_EQ(notes("k")[0].origin.xid, by);
    EXPECT_TRUE(notes("other").empty());
}

TEST_F(JournalTest, a_key_and_a_pattern_are_noted_in_each_scope) {
    ASSERT_EQ(r.put(scope, "k", "v"), Put::kStored);
    ASSERT_EQ(r.put(mine, "k", "v"), Put::kStored);
    r.store().stamp_key(r.base(), scope, "k", true, take());
    ASSERT_EQ(notes("k").size(), 2u);
    EXPECT_EQ(notes("k")[0].reason, Gone::kKey);
    EXPECT_EQ(notes("k")[0].origin.xid, r.last_xid);
    EXPECT_NE(notes("k")[0].is_private, notes("k")[1].is_private);

    ASSERT_EQ(r.put(scope, "key", "v"), Put::kStored);
    r.store().stamp_pattern(r.base(), scope.space, nullptr, "ke*", take());
    ASSERT_EQ(notes("key").size(), 1u);
    EXPECT_EQ(notes("key")[0].reason, Gone::kPattern);
    EXPECT_EQ(notes("key")[0].name(), "ke*");
}

TEST_F(JournalTest, everything_and_the_end_of_its_time) {
    PutOptions how;
    how.expires_at = kNow + 10;
    ASSERT_EQ(r.put(scope, "k", "v", {}, how), Put::kStored);
    EXPECT_EQ(in_place("k", kNow + 10).reason, Gone::kExpired);
    EXPECT_EQ(in_place("k", kNow + 10).origin.at, kNow + 10);
    r.store().stamp_space(r.base(), scope.space, take());
    EXPECT_EQ(in_place("k", kNow + 10).reason, Gone::kEverything);
    EXPECT_EQ(in_place("k", kNow + 10).origin.xid, r.last_xid);
}

TEST_F(JournalTest, a_quarantine_is_told) {
    ASSERT_EQ(r.put(scope, "k", "v", {"a"}), Put::kStored);
    std::uint32_t cell = 0;
    ASSERT_TRUE(r.store().quarantine_tag(r.base(), r.tag("a"), cell));
    EXPECT_TRUE(in_place("k").in_quarantine);
    EXPECT_EQ(in_place("k").name(), "a");
    r.store().lift(r.base(), cell, take());
    EXPECT_FALSE(in_place("k").in_quarantine);
    EXPECT_EQ(in_place("k").origin.xid, r.last_xid);
}

TEST_F(JournalTest, evictions_push_no_invalidation_out) {
    ASSERT_EQ(r.put(scope, "k", "v", {"a"}), Put::kStored);
    stamp_tag("a");
    r.store().remove(r.base(), r.key(scope, "k"));
    ASSERT_EQ(notes("k").size(), 1u);
    for (int i = 0; r.region.total(Counter::kEvictions) < 1000; ++i) {
        ASSERT_EQ(r.put(scope, "many" + std::to_string(i), std::string(500, 'x')), Put::kStored);
    }
    ASSERT_EQ(notes("k").size(), 1u);
    EXPECT_EQ(notes("k")[0].reason, Gone::kTag);
}

TEST_F(JournalTest, the_oldest_is_forgotten) {
    const std::uint32_t room = r.store().journal().note_count();
    for (std::uint32_t i = 0; i <= room; ++i) {
        const std::string key = "k" + std::to_string(i);
        ASSERT_EQ(r.put(scope, key, "v"), Put::kStored);
        r.store().stamp_key(r.base(), scope, key, false, take());
    }
    EXPECT_TRUE(notes("k0").empty());
    EXPECT_EQ(notes("k1").size(), 1u);
    EXPECT_EQ(notes("k" + std::to_string(room)).size(), 1u);

    // Of versions too: the reason stays, whose it was is not known.
    ASSERT_EQ(r.put(scope, "old", "v", {"a"}), Put::kStored);
    stamp_tag("a");
    for (int i = 0; i < 100'000; ++i)
        take();
    EXPECT_EQ(in_place("old").reason, Gone::kTag);
    EXPECT_EQ(in_place("old").origin.xid, 0u);
    EXPECT_EQ(in_place("old").origin.at, 0);
}

TEST_F(JournalTest, a_long_text_is_cut) {
    const std::string tag(kMaxTagBytes, 't');
    ASSERT_EQ(r.put(scope, "k", "v", {tag}), Put::kStored);
    stamp_tag(tag);
    EXPECT_EQ(in_place("k").name(), tag);
    EXPECT_FALSE(in_place("k").is_cut);
    r.store().remove(r.base(), r.key(scope, "k"));
    ASSERT_EQ(notes("k").size(), 1u);
    EXPECT_TRUE(notes("k")[0].is_cut);
    EXPECT_EQ(notes("k")[0].name(), tag.substr(0, Journal::Note::kText));
}

}  // namespace
}  // namespace cache_ext::core
