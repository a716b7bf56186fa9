#include "core/store.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <new>
#include <random>
#include <thread>

#include "core/glob.hpp"
#include "core/sweep.hpp"
#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

class StoreTest : public testing::Test {
protected:
    TestRegion r{4 << 20};
    Scope scope = shared_scope(1);
    ~StoreTest() override {
        r.audit();
        r.remove_all();
        r.audit();
    }
};

// --- one entry ----------------------------------------------------------------------------------------

TEST_F(StoreTest, an_empty_one_has_nothing) { EXPECT_EQ(r.look(scope, "k"), Found::kAbsent); }

TEST_F(StoreTest, what_was_put_is_found) {
    PutOptions how;
    how.compute_us = 77;
    how.encoding = Encoding::kLz4;
    how.expires_at = kNow + 10;
    ASSERT_EQ(r.put(scope, "k", "value", {"a", "b"}, how), Put::kStored);
    Lookup found;
    ASSERT_EQ(r.find(scope, "k", found), Found::kHit);
    EXPECT_EQ(found.value_bytes, 5u);
    EXPECT_EQ(found.compute_us, 77u);
    EXPECT_EQ(found.encoding, Encoding::kLz4);
    EXPECT_EQ(found.birth, 1u);
    EXPECT_EQ(found.created_at, kNow);
    EXPECT_EQ(found.expires_at, kNow + 10);
    EXPECT_EQ(r.get(scope, "k"), "value");
}

TEST_F(StoreTest, describes_what_it_holds) {
    const Scope mine = r.known(private_scope(2, 3));
    PutOptions how;
    how.compute_us = 5;
    ASSERT_EQ(r.put(mine, "key", "value", {"a", "b"}, how), Put::kStored);
    const auto all = r.entries();
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].key_text, "key");
    EXPECT_EQ(all[0].scope, mine.id);
    EXPECT_EQ(all[0].space, mine.space);
    EXPECT_TRUE(all[0].is_private);
    EXPECT_EQ(all[0].tag_count, 2u);
    EXPECT_EQ(Store::tag(r.base(), all[0].tag_refs[0]).text(), "a");
    EXPECT_EQ(Store::tag(r.base(), all[0].tag_refs[1]).text(), "b");
    EXPECT_EQ(all[0].value_bytes, 5u);
    EXPECT_EQ(all[0].compute_us, 5u);
    EXPECT_EQ(all[0].used_at, static_cast<std::uint32_t>(kNow / kSecond));
    EXPECT_FALSE(all[0].dead);
}

TEST_F(StoreTest, a_second_value_replaces_the_first) {
    ASSERT_EQ(r.put(scope, "k", "one", {"a"}), Put::kStored);
    ASSERT_EQ(r.put(scope, "k", "another", {"b"}), Put::kStored);
    EXPECT_EQ(r.get(scope, "k"), "another");
    EXPECT_EQ(r.store().usage().entries, 1u);
    EXPECT_FALSE(r.store().has_tag(r.base(), r.tag("a")));
    EXPECT_TRUE(r.store().has_tag(r.base(), r.tag("b")));
}

TEST_F(StoreTest, a_removed_entry_is_gone) {
    ASSERT_EQ(r.put(scope, "k", "one", {"a"}), Put::kStored);
    EXPECT_TRUE(r.store().remove(r.base(), r.key(scope, "k")));
    EXPECT_FALSE(r.store().remove(r.base(), r.key(scope, "k")));
    EXPECT_EQ(r.look(scope, "k"), Found::kAbsent);
    EXPECT_FALSE(r.store().has_tag(r.base(), r.tag("a")));
}

TEST_F(StoreTest, removing_a_dead_entry_tells_that_it_was_dead) {
    ASSERT_EQ(r.put(scope, "k", "one", {"a"}), Put::kStored);
    r.stamp_tag("a");
    EXPECT_FALSE(r.store().remove(r.base(), r.key(scope, "k")));
    EXPECT_EQ(r.store().usage().entries, 0u);
}

TEST_F(StoreTest, nothing_is_served_from_its_end_on) {
    PutOptions how;
    how.expires_at = kNow + 10;
    ASSERT_EQ(r.put(scope, "k", "one", {}, how), Put::kStored);
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 9), Found::kHit);
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 10), Found::kExpired);
}

TEST_F(StoreTest, within_its_grace_it_is_stale) {
    for (const std::uint32_t compute_us : {0U, 5U}) {
        PutOptions how;
        how.expires_at = kNow + 10;
        how.grace_ms = 2;
        how.compute_us = compute_us;
        ASSERT_EQ(r.put(scope, "k", "one", {"a"}, how), Put::kStored);
        EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 9), Found::kHit);
        Lookup found;
        EXPECT_EQ(r.find(scope, "k", found, UINT64_MAX, kNow + 10), Found::kStale);
        EXPECT_EQ(found.compute_us, compute_us);
        char value[3];
        ASSERT_TRUE(r.store().copy(r.base(), found, value));
        EXPECT_EQ(std::string_view(value, 3), "one");
        EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 2009), Found::kStale);
        EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 2010), Found::kExpired);
        EXPECT_EQ(r.entries().at(0).gone_at(), kNow + 2010);
    }
    // Only for who may have it at all.
    EXPECT_EQ(r.look(scope, "k", 0, kNow + 10), Found::kFuture);
    EXPECT_TRUE(r.store().expire(r.base(), r.key(scope, "k"), kNow + 5));
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 5), Found::kStale);
    r.stamp_tag("a");
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 5), Found::kInvalidated);
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 4000), Found::kInvalidated);
}

TEST_F(StoreTest, a_grace_does_not_overflow) {
    PutOptions how;
    how.expires_at = kNever - 5;
    how.grace_ms = UINT32_MAX;
    ASSERT_EQ(r.put(scope, "k", "one", {}, how), Put::kStored);
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNever - 5), Found::kStale);
    EXPECT_EQ(r.entries().at(0).gone_at(), kNever);
}

TEST_F(StoreTest, what_is_stale_makes_room_for_what_is_added) {
    PutOptions how;
    how.expires_at = kNow + 10;
    how.grace_ms = 1000;
    ASSERT_EQ(r.put(scope, "k", "one", {}, how), Put::kStored);
    how.only_if_absent = true;
    EXPECT_EQ(r.put(scope, "k", "two", {}, how), Put::kExists);
    how.now = kNow + 10;
    how.expires_at = kNow + 100;
    EXPECT_EQ(r.put(scope, "k", "two", {}, how), Put::kStored);
    EXPECT_EQ(r.get(scope, "k", UINT64_MAX, kNow + 50), "two");
}

TEST_F(StoreTest, a_sweep_leaves_what_is_within_its_grace) {
    PutOptions how;
    how.expires_at = kNow + 10;
    ASSERT_EQ(r.put(scope, "without", "one", {}, how), Put::kStored);
    how.grace_ms = 1;
    ASSERT_EQ(r.put(scope, "with", "one", {}, how), Put::kStored);
    const auto sweep = [&](Timestamp now) {
        Swept swept;
        for (std::uint32_t b = 0; b < r.store().bucket_count(); ++b)
            sweep_bucket(r.region, b, now, swept, [](const EntryInfo&) { return true; });
        return swept.expired;
    };
    EXPECT_EQ(sweep(kNow + 500), 1u);
    EXPECT_EQ(r.look(scope, "with", UINT64_MAX, kNow + 500), Found::kStale);
    EXPECT_EQ(sweep(kNow + 1009), 0u);
    EXPECT_EQ(sweep(kNow + 1010), 1u);
    EXPECT_EQ(r.store().usage().entries, 0u);
}

TEST_F(StoreTest, an_end_can_be_brought_forward_but_not_put_off) {
    PutOptions how;
    how.expires_at = kNow + 10;
    ASSERT_EQ(r.put(scope, "k", "one", {}, how), Put::kStored);
    EXPECT_TRUE(r.store().expire(r.base(), r.key(scope, "k"), kNow + 20));
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 10), Found::kExpired);
    EXPECT_TRUE(r.store().expire(r.base(), r.key(scope, "k"), kNow + 5));
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 5), Found::kExpired);
    EXPECT_EQ(r.look(scope, "k", UINT64_MAX, kNow + 4), Found::kHit);
    EXPECT_FALSE(r.store().expire(r.base(), r.key(scope, "other"), kNow));
}

TEST_F(StoreTest, only_if_absent_keeps_a_live_entry_and_nothing_else) {
    PutOptions add;
    add.only_if_absent = true;
    add.expires_at = kNow + 10;
    EXPECT_EQ(r.put(scope, "k", "one", {"a"}, add), Put::kStored);
    EXPECT_EQ(r.put(scope, "k", "two", {"a"}, add), Put::kExists);
    EXPECT_EQ(r.get(scope, "k"), "one");
    add.now = kNow + 10;
    add.expires_at = kNow + 100;
    EXPECT_EQ(r.put(scope, "k", "three", {"a"}, add), Put::kStored);
    r.stamp_tag("a");
    EXPECT_EQ(r.put(scope, "k", "four", {"a"}, add), Put::kStored);
    EXPECT_EQ(r.get(scope, "k", UINT64_MAX, kNow + 50), "four");
}

TEST_F(StoreTest, a_value_goes_only_to_snapshots_that_see_what_it_reflects) {
    r.stamp();
    PutOptions how;
    how.birth = 2;
    ASSERT_EQ(r.put(scope, "k", "v", {}, how), Put::kStored);
    EXPECT_EQ(r.look(scope, "k", 1), Found::kFuture);
    EXPECT_EQ(r.look(scope, "k", 2), Found::kHit);
    how.birth = 100;
    ASSERT_EQ(r.put(scope, "k", "v", {}, how), Put::kStored);
    EXPECT_EQ(r.look(scope, "k", 99), Found::kFuture);
    EXPECT_EQ(r.look(scope, "k", 100), Found::kHit);
}

TEST_F(StoreTest, a_copy_of_what_has_gone_is_refused) {
    ASSERT_EQ(r.put(scope, "k", "one"), Put::kStored);
    Lookup found;
    char to[8];
    ASSERT_EQ(r.find(scope, "k", found), Found::kHit);
    r.store().remove(r.base(), r.key(scope, "k"));
    EXPECT_FALSE(r.store().copy(r.base(), found, to));
    ASSERT_EQ(r.put(scope, "k", "two"), Put::kStored);
    ASSERT_EQ(r.find(scope, "k", found), Found::kHit);
    ASSERT_EQ(r.put(scope, "k", "tri"), Put::kStored);
    EXPECT_FALSE(r.store().copy(r.base(), found, to));
}

// --- scopes -------------------------------------------------------------------------------------------

TEST_F(StoreTest, the_same_key_in_two_scopes_is_two_entries) {
    const Scope mine = r.known(private_scope(2, 1)), yours = r.known(private_scope(3, 1));
    ASSERT_EQ(r.put(scope, "k", "shared"), Put::kStored);
    ASSERT_EQ(r.put(mine, "k", "mine"), Put::kStored);
    EXPECT_EQ(r.look(yours, "k"), Found::kAbsent);
    ASSERT_EQ(r.put(yours, "k", "yours"), Put::kStored);
    EXPECT_EQ(r.get(scope, "k"), "shared");
    EXPECT_EQ(r.get(mine, "k"), "mine");
    EXPECT_EQ(r.get(yours, "k"), "yours");
    r.store().remove(r.base(), r.key(mine, "k"));
    EXPECT_EQ(r.get(scope, "k"), "shared");
    EXPECT_EQ(r.get(yours, "k"), "yours");
    EXPECT_EQ(r.look(mine, "k"), Found::kAbsent);
}

TEST_F(StoreTest, scopes_whose_keys_hash_alike_never_mix) {
    // The key's hash is seeded with both halves of the scope together: these two hash alike for every key.
    Scope a = scope, b = scope;
    a.id = {1, 2};
    b.id = {2, 1};
    ASSERT_EQ(r.key(a, "k").hash, r.key(b, "k").hash);
    ASSERT_EQ(r.put(a, "k", "of a"), Put::kStored);
    EXPECT_EQ(r.look(b, "k"), Found::kAbsent);
    ASSERT_EQ(r.put(b, "k", "of b"), Put::kStored);
    EXPECT_EQ(r.get(a, "k"), "of a");
    EXPECT_EQ(r.get(b, "k"), "of b");
}

TEST_F(StoreTest, tags_of_two_spaces_never_mix) {
    const Scope other = shared_scope(2, 1);
    ASSERT_EQ(r.put(scope, "k", "v", {"t"}), Put::kStored);
    ASSERT_EQ(r.put(other, "k", "v", {"t"}), Put::kStored);
    r.stamp_tag("t", 1);
    EXPECT_EQ(r.look(scope, "k"), Found::kHit);
    EXPECT_EQ(r.look(other, "k"), Found::kInvalidated);
}

// --- invalidation -------------------------------------------------------------------------------------

TEST_F(StoreTest, a_stamped_tag_ends_all_that_carry_it_and_nothing_else) {
    ASSERT_EQ(r.put(scope, "a", "v", {"x", "y"}), Put::kStored);
    ASSERT_EQ(r.put(scope, "b", "v", {"y"}), Put::kStored);
    ASSERT_EQ(r.put(scope, "c", "v", {"z"}), Put::kStored);
    ASSERT_EQ(r.put(scope, "d", "v"), Put::kStored);
    r.stamp_tag("y");
    EXPECT_EQ(r.look(scope, "a"), Found::kInvalidated);
    EXPECT_EQ(r.look(scope, "b"), Found::kInvalidated);
    EXPECT_EQ(r.look(scope, "c"), Found::kHit);
    EXPECT_EQ(r.look(scope, "d"), Found::kHit);
    ASSERT_EQ(r.put(scope, "a", "new", {"x", "y"}), Put::kStored);
    EXPECT_EQ(r.get(scope, "a"), "new");
}

TEST_F(StoreTest, a_tag_ends_what_was_born_before_its_stamp_only) {
    PutOptions how;
    how.birth = 2;
    ASSERT_EQ(r.put(scope, "k", "v", {"t"}, how), Put::kStored);
    ASSERT_EQ(r.stamp_tag("t"), 2u);
    EXPECT_EQ(r.look(scope, "k"), Found::kHit);
}

TEST_F(StoreTest, late_fills_are_refused_by_tag) {
    const Version before = r.now();
    r.stamp_tag("t");
    PutOptions how;
    how.birth = before;
    EXPECT_EQ(r.put(scope, "k", "v", {"t"}, how), Put::kLate);
    EXPECT_EQ(r.put(scope, "k", "v", {"other"}, how), Put::kStored);
    how.birth = before + 1;
    EXPECT_EQ(r.put(scope, "k", "v", {"t"}, how), Put::kStored);
}

TEST_F(StoreTest, late_fills_are_refused_by_tag_although_its_slot_came_and_went) {
    const Version before = r.now();
    ASSERT_EQ(r.put(scope, "other", "v", {"t"}), Put::kStored);
    r.stamp_tag("t");
    r.remove_all();
    EXPECT_EQ(r.store().usage().tags, 0u);
    PutOptions how;
    how.birth = before;
    EXPECT_EQ(r.put(scope, "k", "v", {"t"}, how), Put::kLate);
    EXPECT_EQ(r.store().usage().tags, 0u);
}

TEST_F(StoreTest, a_stamped_key_is_gone_and_refuses_late_fills) {
    const Version before = r.now();
    ASSERT_EQ(r.put(scope, "k", "v"), Put::kStored);
    ASSERT_EQ(r.put(scope, "other", "v"), Put::kStored);
    r.stamp_key(scope, "k");
    EXPECT_EQ(r.look(scope, "k"), Found::kAbsent);
    EXPECT_EQ(r.look(scope, "other"), Found::kHit);
    PutOptions how;
    how.birth = before;
    EXPECT_EQ(r.put(scope, "k", "v", {}, how), Put::kLate);
    EXPECT_EQ(r.put(scope, "other", "v", {}, how), Put::kStored);
    how.birth = r.now();
    EXPECT_EQ(r.put(scope, "k", "v", {}, how), Put::kStored);
}

TEST_F(StoreTest, a_key_stamped_in_all_scopes_is_gone_from_private_ones_of_its_space) {
    const Scope mine = r.known(private_scope(2, 1)), yours = r.known(private_scope(3, 2)),
                elsewhere = r.known(private_scope(4, 2, 1));
    for (const Scope& s : {scope, mine, yours, elsewhere})
        ASSERT_EQ(r.put(s, "k", "v"), Put::kStored);
    ASSERT_EQ(r.put(mine, "l", "v"), Put::kStored);
    const Version before = r.now();
    r.stamp_key(scope, "k", true);
    EXPECT_EQ(r.look(scope, "k"), Found::kAbsent);
    EXPECT_EQ(r.look(mine, "k"), Found::kAbsent);
    EXPECT_EQ(r.look(yours, "k"), Found::kAbsent);
    EXPECT_EQ(r.look(elsewhere, "k"), Found::kHit);
    EXPECT_EQ(r.look(mine, "l"), Found::kHit);
    PutOptions how;
    how.birth = before;
    EXPECT_EQ(r.put(mine, "k", "v", {}, how), Put::kLate);
}

TEST_F(StoreTest, a_key_stamped_in_one_scope_stays_in_others) {
    const Scope mine = r.known(private_scope(2, 1));
    ASSERT_EQ(r.put(scope, "k", "v"), Put::kStored);
    ASSERT_EQ(r.put(mine, "k", "v"), Put::kStored);
    r.stamp_key(scope, "k", false);
    EXPECT_EQ(r.look(mine, "k"), Found::kHit);
}

TEST_F(StoreTest, a_stamped_pattern_removes_what_matches_and_refuses_late_fills) {
    const Version before = r.now();
    for (int i = 0; i < 200; ++i)
        ASSERT_EQ(r.put(scope, (i % 2 == 0 ? "a:" : "b:") + std::to_string(i), "v"), Put::kStored);
    r.stamp_pattern("a:*");
    EXPECT_EQ(r.store().usage().entries, 100u);
    PutOptions how;
    how.birth = before;
    EXPECT_EQ(r.put(scope, "a:1000", "v", {}, how), Put::kLate);
    EXPECT_EQ(r.put(scope, "b:1000", "v", {}, how), Put::kStored);
    how.birth = r.now();
    EXPECT_EQ(r.put(scope, "a:1000", "v", {}, how), Put::kStored);
}

TEST_F(StoreTest, a_pattern_for_one_scope_stays_in_it) {
    const Scope other = shared_scope(2), elsewhere = shared_scope(3, 1);
    for (const Scope& s : {scope, other, elsewhere})
        ASSERT_EQ(r.put(s, "k", "v"), Put::kStored);
    r.stamp_pattern("*", &scope.id);
    EXPECT_EQ(r.look(scope, "k"), Found::kAbsent);
    EXPECT_EQ(r.look(other, "k"), Found::kHit);
    r.stamp_pattern("*");
    EXPECT_EQ(r.look(other, "k"), Found::kAbsent);
    EXPECT_EQ(r.look(elsewhere, "k"), Found::kHit);
}

TEST_F(StoreTest, patterns_that_were_dropped_still_refuse_late_fills) {
    const Version before = r.now();
    r.stamp_pattern("a:*");
    for (std::uint32_t i = 0; i < PatternRing::kRing; ++i)
        r.stamp_pattern("z:*");
    PutOptions how;
    how.birth = before;
    EXPECT_EQ(r.put(scope, "a:1", "v", {}, how), Put::kLate);
}

TEST_F(StoreTest, a_stamped_space_ends_all_its_scopes_and_refuses_late_fills) {
    const Scope mine = r.known(private_scope(2, 1)), elsewhere = shared_scope(3, 1), fresh = shared_scope(4);
    for (const Scope& s : {scope, mine, elsewhere})
        ASSERT_EQ(r.put(s, "k", "v"), Put::kStored);
    const Version before = r.now();
    r.stamp_space(0);
    EXPECT_EQ(r.look(scope, "k"), Found::kInvalidated);
    EXPECT_EQ(r.look(mine, "k"), Found::kInvalidated);
    EXPECT_EQ(r.look(elsewhere, "k"), Found::kHit);
    PutOptions how;
    how.birth = before;
    EXPECT_EQ(r.put(scope, "l", "v", {}, how), Put::kLate);
    EXPECT_EQ(r.put(fresh, "l", "v", {}, how), Put::kLate) << "also in a scope that had no entries";
    EXPECT_EQ(r.put(elsewhere, "l", "v", {}, how), Put::kStored);
    how.birth = r.now();
    EXPECT_EQ(r.put(scope, "k", "v", {}, how), Put::kStored);
    EXPECT_EQ(r.look(scope, "k"), Found::kHit);
}

TEST_F(StoreTest, a_refused_fill_leaves_what_is_there) {
    r.stamp();
    ASSERT_EQ(r.put(scope, "k", "good"), Put::kStored);
    r.stamp_tag("t");
    PutOptions how;
    how.birth = 1;
    EXPECT_EQ(r.put(scope, "k", "late", {"t"}, how), Put::kLate);
    EXPECT_EQ(r.get(scope, "k"), "good");
}

// --- sizes --------------------------------------------------------------------------------------------

TEST_F(StoreTest, values_of_any_size_come_back_as_they_were) {
    for (std::size_t bytes = 0; bytes < 1'200'000; bytes = bytes < 300 ? bytes + 1 : bytes + bytes / 3) {
        const std::string value = text_of(bytes, bytes);
        ASSERT_EQ(r.put(scope, "k", value, {"t"}), Put::kStored) << bytes;
        ASSERT_EQ(r.get(scope, "k"), value) << bytes;
    }
}

TEST_F(StoreTest, a_value_over_the_limit_is_refused_and_evicts_nothing) {
    ASSERT_EQ(r.put(scope, "small", "v"), Put::kStored);
    const std::size_t limit = r.store().usage().capacity_bytes / 2;
    EXPECT_EQ(r.put(scope, "k", text_of(limit, 1)), Put::kNoMemory);
    EXPECT_EQ(r.get(scope, "small"), "v");
    EXPECT_EQ(r.put(scope, "k", text_of(limit - 200, 1)), Put::kStored);
    EXPECT_EQ(r.get(scope, "k"), text_of(limit - 200, 1));
}

TEST_F(StoreTest, a_key_or_tags_over_their_limits_are_refused) {
    EXPECT_EQ(r.put(scope, std::string(kMaxKeyBytes + 1, 'k'), "v"), Put::kNoMemory);
    EXPECT_EQ(r.put(scope, std::string(66'000, 'k'), "v"), Put::kNoMemory);
    std::vector<std::string> tags;
    for (std::size_t i = 0; i <= kMaxTags; ++i)
        tags.push_back("t" + std::to_string(i));
    EXPECT_EQ(r.put(scope, "k", "v", tags), Put::kNoMemory);
    for (std::size_t i = tags.size(); i < 300; ++i)
        tags.push_back("t" + std::to_string(i));
    EXPECT_EQ(r.put(scope, "k", "v", tags), Put::kNoMemory);
    EXPECT_EQ(r.store().usage().entries, 0u);
}

TEST_F(StoreTest, an_entry_may_have_64_tags_each_of_which_ends_it) {
    std::vector<std::string> tags;
    for (std::size_t i = 0; i < kMaxTags; ++i)
        tags.push_back(std::string(kMaxTagBytes - 2, 't') + std::to_string(10 + i));
    for (const std::string& tag : tags) {
        ASSERT_EQ(r.put(scope, "k", "v", tags), Put::kStored);
        ASSERT_EQ(r.get(scope, "k"), "v");
        r.stamp_tag(tag);
        ASSERT_EQ(r.look(scope, "k"), Found::kInvalidated);
    }
}

TEST_F(StoreTest, the_same_tag_twice_is_counted_twice_and_given_back_twice) {
    ASSERT_EQ(r.put(scope, "k", "v", {"t", "t", "t"}), Put::kStored);
    EXPECT_EQ(r.store().usage().tags, 1u);
    r.store().remove(r.base(), r.key(scope, "k"));
    EXPECT_EQ(r.store().usage().tags, 0u);
}

TEST_F(StoreTest, keys_of_any_size_and_any_bytes_are_keys) {
    std::mt19937_64 random(3);
    std::map<std::string, std::string> all;
    for (std::size_t bytes = 0; bytes <= kMaxKeyBytes; ++bytes) {
        std::string key(bytes, '\0');
        for (char& c : key)
            c = static_cast<char>(random());
        all[key] = std::to_string(bytes);
    }
    all[std::string("a\0b", 3)] = "nul";
    all[std::string("a\0c", 3)] = "another nul";
    all["a"] = "none";
    for (const auto& [key, value] : all)
        ASSERT_EQ(r.put(scope, key, value), Put::kStored);
    for (const auto& [key, value] : all)
        ASSERT_EQ(r.get(scope, key), value);
}

TEST_F(StoreTest, a_longer_key_with_the_same_beginning_is_another) {
    ASSERT_EQ(r.put(scope, "abc", "def"), Put::kStored);
    EXPECT_EQ(r.look(scope, "abcdef"), Found::kAbsent);
    EXPECT_EQ(r.look(scope, "ab"), Found::kAbsent);
    EXPECT_EQ(r.look(scope, ""), Found::kAbsent);
}

// --- memory -------------------------------------------------------------------------------------------

TEST_F(StoreTest, a_value_is_scattered_where_no_single_piece_holds_it) {
    // Every second small entry is removed: half of the memory is free, in pieces of one kilobyte.
    unsigned n = 0;
    for (; r.region.total(Counter::kEvictions) == 0; ++n)
        ASSERT_EQ(r.put(scope, "k" + std::to_string(n), text_of(900, n)), Put::kStored);
    for (unsigned i = 0; i < n; i += 2)
        r.store().remove(r.base(), r.key(scope, "k" + std::to_string(i)));
    ASSERT_LT(r.allocator().largest_free_bytes(r.base()), 100'000u);
    const std::uint64_t evicted = r.region.total(Counter::kEvictions);
    const std::string value = text_of(200'000, 5);
    ASSERT_EQ(r.put(scope, "big", value, {"t"}), Put::kStored);
    EXPECT_EQ(r.get(scope, "big"), value);
    EXPECT_EQ(r.region.total(Counter::kEvictions), evicted) << "there was memory enough";
    r.audit();
    r.stamp_tag("t");
    EXPECT_EQ(r.look(scope, "big"), Found::kInvalidated);
    for (const auto& e : r.entries()) {
        if (e.key_text == "big") {
            EXPECT_GT(e.size_bytes, 200'000u);
        }
    }
}

TEST_F(StoreTest, under_pressure_it_evicts_and_nothing_gets_lost) {
    std::mt19937_64 random(5);
    for (int i = 0; i < 6000; ++i) {
        const std::size_t bytes = random() % 10 == 0 ? random() % 300'000 : random() % 4000;
        ASSERT_EQ(r.put(scope, "k" + std::to_string(random() % 3000), text_of(bytes, random()),
                        {"t" + std::to_string(random() % 50), "all"}),
                  Put::kStored);
        if (i % 500 == 0) {
            ASSERT_NO_FATAL_FAILURE(r.audit());
        }
    }
    EXPECT_GT(r.region.total(Counter::kEvictions), 1000u);
    EXPECT_GT(r.store().usage().used_bytes, r.store().usage().capacity_bytes * 8 / 10) << "memory is used";
}

TEST_F(StoreTest, dead_and_expired_entries_go_before_live_ones) {
    unsigned n = 0;
    const auto fill = [&](const std::string& tag, unsigned count, Timestamp expires_at) {
        PutOptions how;
        how.expires_at = expires_at;
        for (unsigned i = 0; i < count; ++i)
            ASSERT_EQ(r.put(scope, tag + std::to_string(n++), text_of(1000, i), {tag}, how), Put::kStored);
    };
    fill("live", 1000, kNever);
    // Live ones are read once, so that they have a second chance; dead ones are read too.
    for (unsigned i = 0; i < 1000; ++i) {
        Lookup found;
        ASSERT_EQ(r.find(scope, "live" + std::to_string(i), found), Found::kHit);
        r.store().count_hit(r.base(), r.region.session(0), found, kNow);
    }
    fill("dead", 1000, kNever);
    r.stamp_tag("dead");
    fill("fresh", 2500, kNever);
    unsigned live = 0;
    for (unsigned i = 0; i < 1000; ++i)
        live += r.look(scope, "live" + std::to_string(i)) == Found::kHit;
    EXPECT_EQ(live, 1000u);
}

TEST(StoreMemory, chains_stay_short_when_small_entries_take_the_place_of_large_ones) {
    for (const auto& [large, small] :
         {std::pair<std::size_t, std::size_t>{600, 100}, {300, 10}, {100'000, 10}}) {
        const Scope scope = shared_scope(1);
        TestRegion r(4 << 20);  // of its own: an index never shrinks
        unsigned n = 0;
        for (unsigned i = 0; i < 12'000; ++i, ++n) {
            ASSERT_EQ(r.put(scope, "k" + std::to_string(n), text_of(large / 2 + i * 37 % large, n)),
                      Put::kStored);
        }
        for (unsigned i = 0; i < 60'000; ++i, ++n) {
            ASSERT_EQ(r.put(scope, "k" + std::to_string(n), text_of(small / 2 + i * 37 % small, n)),
                      Put::kStored);
        }
        EXPECT_LE(r.store().usage().entries, r.store().bucket_count() * (Index::kEntriesPerBucket + 1))
            << large << " " << small;
        r.audit();
    }
}

TEST_F(StoreTest, memory_comes_back_when_all_is_removed) {
    const Scope mine = r.known(private_scope(2, 1));
    for (int round = 0; round < 3; ++round) {
        for (unsigned i = 0; i < 3000; ++i) {
            ASSERT_EQ(r.put(i % 3 == 0 ? mine : scope, "k" + std::to_string(i), text_of(i % 900, i),
                            {"t" + std::to_string(i), "all"}),
                      Put::kStored);
        }
        r.remove_all();
        const auto usage = r.store().usage();
        EXPECT_EQ(usage.entries, 0u);
        EXPECT_EQ(usage.tags, 0u);
        EXPECT_EQ(usage.scopes, 0u);
        EXPECT_EQ(usage.private_bytes, 0u);
        EXPECT_EQ(usage.used_bytes, r.index_blocks_bytes());
    }
}

TEST(StoreMemory, takes_at_most_100_bytes_an_entry_beyond_its_contents) {
    // 1 kB values with two tags: one of a table, and one of something that a hundred entries share.
    TestRegion r(32 << 20);
    const Scope scope = shared_scope(1);
    constexpr unsigned kEntries = 20'000;
    std::size_t contents = 0;
    std::set<std::string> tags;
    const std::size_t before = r.allocator().used_bytes();
    for (unsigned i = 0; i < kEntries; ++i) {
        const std::string key = "user:" + std::to_string(i) + ":profile", value = text_of(1000 + i % 49, i);
        const std::string tag = "tenant:" + std::to_string(i / 100);
        ASSERT_EQ(r.put(scope, key, value, {"users", tag}), Put::kStored);
        contents += key.size() + value.size();
        for (const std::string& t : {std::string("users"), tag})
            contents += tags.insert(t).second ? t.size() : 0;
    }
    ASSERT_EQ(r.store().usage().entries, kEntries);
    const double overhead = static_cast<double>(r.allocator().used_bytes() - before - contents) / kEntries;
    RecordProperty("bytes_an_entry", std::to_string(overhead));
    EXPECT_LE(overhead, 100.0);
    EXPECT_GE(overhead, 64.0);
}

// --- quotas -------------------------------------------------------------------------------------------

TEST_F(StoreTest, an_owner_over_its_quota_evicts_its_own_oldest) {
    const Scope mine = r.known(private_scope(2, 1)), also_mine = r.known(private_scope(3, 1)),
                yours = r.known(private_scope(4, 2));
    PutOptions how;
    how.quota.per_owner = 20'000;
    for (unsigned i = 0; i < 15; ++i)
        ASSERT_EQ(r.put(yours, "y" + std::to_string(i), text_of(1000, i), {}, how), Put::kStored);
    for (unsigned i = 0; i < 50; ++i) {
        ASSERT_EQ(r.put(i % 2 == 0 ? mine : also_mine, "m" + std::to_string(i), text_of(1000, i), {}, how),
                  Put::kStored);
    }
    std::size_t used = 0;
    for (const auto& e : r.entries())
        used += e.scope == yours.id ? 0 : e.size_bytes;
    EXPECT_LE(used, 20'000u);
    EXPECT_GT(used, 17'000u);
    EXPECT_EQ(r.look(mine, "m0"), Found::kAbsent);
    EXPECT_EQ(r.look(also_mine, "m49"), Found::kHit);
    for (unsigned i = 0; i < 15; ++i)
        EXPECT_EQ(r.look(yours, "y" + std::to_string(i)), Found::kHit);
    EXPECT_EQ(r.put(mine, "big", text_of(20'000, 1), {}, how), Put::kNoMemory);
    EXPECT_EQ(r.look(also_mine, "m49"), Found::kHit) << "what is refused evicts nothing";
}

TEST_F(StoreTest, quotas_do_not_concern_shared_entries) {
    PutOptions how;
    how.quota = {100, 100};
    EXPECT_EQ(r.put(scope, "k", text_of(1000, 1), {}, how), Put::kStored);
}

TEST_F(StoreTest, all_private_entries_together_have_a_limit) {
    PutOptions how;
    how.quota = {50'000, 100'000};
    for (unsigned i = 0; i < 400; ++i) {
        const Scope mine = r.known(private_scope(10 + i % 40, i % 40));
        ASSERT_EQ(r.put(mine, "k" + std::to_string(i), text_of(1000, i), {}, how), Put::kStored);
        ASSERT_LE(r.store().usage().private_bytes, 100'000u);
    }
    EXPECT_GT(r.store().usage().private_bytes, 90'000u);
}

TEST(StoreQuota, holds_when_many_sessions_store_for_one_owner_at_once) {
    TestRegion r(4 << 20, 4);
    const Scope mine = r.known(private_scope(2, 1));
    std::vector<std::thread> threads;
    std::atomic<unsigned> over{0};
    const unsigned puts = static_cast<unsigned>(1000 * test_scale());
    for (unsigned session = 0; session < 4; ++session) {
        threads.emplace_back([&, session] {
            PutOptions how;
            how.quota = {500'000, 600'000};
            how.session = session;
            const std::string value =
                text_of(400'000, session);  // filling it takes long enough for others to come between
            for (unsigned i = 0; i < puts; ++i) {
                r.put(mine, "k" + std::to_string(session) + ":" + std::to_string(i % 50), value, {}, how);
                over += r.store().usage().private_bytes > 500'000;
            }
        });
    }
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(over, 0u);
    r.audit();
}

TEST_F(StoreTest, an_owner_may_replace_its_only_entry_under_a_tight_quota) {
    const Scope mine = r.known(private_scope(2, 1));
    PutOptions how;
    how.quota.per_owner = 2000;
    for (int i = 0; i < 5; ++i) {
        ASSERT_EQ(r.put(mine, "k", text_of(1500, static_cast<unsigned>(i)), {}, how), Put::kStored);
        ASSERT_EQ(r.get(mine, "k"), text_of(1500, static_cast<unsigned>(i)));
    }
}

TEST_F(StoreTest, what_was_read_has_a_second_chance_within_a_quota) {
    const Scope mine = r.known(private_scope(2, 1));
    PutOptions how;
    how.quota.per_owner = 20'000;
    ASSERT_EQ(r.put(mine, "hot", text_of(1000, 0), {}, how), Put::kStored);
    for (unsigned i = 0; i < 60; ++i) {
        Lookup found;
        ASSERT_EQ(r.find(mine, "hot", found), Found::kHit) << i;
        r.store().count_hit(r.base(), r.region.session(0), found, kNow);
        r.store().flush_hits(r.base(), r.region.session(0), kNow);
        ASSERT_EQ(r.put(mine, "cold" + std::to_string(i), text_of(1000, i), {}, how), Put::kStored);
    }
}

// --- looking at all -----------------------------------------------------------------------------------

TEST_F(StoreTest, a_walk_sees_every_entry_while_the_index_grows) {
    std::set<std::string> before;
    for (unsigned i = 0; i < 500; ++i) {
        const std::string key = "old" + std::to_string(i);
        ASSERT_EQ(r.put(scope, key, "v"), Put::kStored);
        before.insert(key);
    }
    const std::uint32_t count = r.store().bucket_count();
    std::set<std::string> seen;
    unsigned n = 0;
    for (std::uint32_t b = 0; b < r.store().bucket_count(); ++b) {
        r.store().visit(r.base(), b, [&](const EntryInfo& e) { seen.emplace(e.key); });
        for (int i = 0; i < 3 && n < 3000; ++i)
            ASSERT_EQ(r.put(scope, "new" + std::to_string(n++), "v"), Put::kStored);
    }
    EXPECT_GT(r.store().bucket_count(), 2 * count);
    for (const std::string& key : before)
        EXPECT_TRUE(seen.count(key)) << key;
}

TEST_F(StoreTest, a_walk_over_the_buckets_of_its_beginning_meets_each_entry_once) {
    std::map<std::string, int> met;
    for (unsigned i = 0; i < 500; ++i) {
        const std::string key = "old" + std::to_string(i);
        ASSERT_EQ(r.put(scope, key, "v"), Put::kStored);
        met.emplace(key, 0);
    }
    const std::uint32_t count = r.store().bucket_count();
    unsigned n = 0;
    for (std::uint32_t b = 0; b < count; ++b) {
        r.store().visit(r.base(), b, count, [&](const EntryInfo& e) {
            if (const auto at = met.find(std::string(e.key)); at != met.end()) ++at->second;
        });
        for (int i = 0; i < 30 && n < 3000; ++i)
            ASSERT_EQ(r.put(scope, "new" + std::to_string(n++), "v"), Put::kStored);
    }
    EXPECT_GT(r.store().bucket_count(), 2 * count);
    for (const auto& [key, times] : met)
        EXPECT_EQ(times, 1) << key;
}

TEST_F(StoreTest, a_visitor_may_throw) {
    ASSERT_EQ(r.put(scope, "k", "v"), Put::kStored);
    const auto walk = [&] {
        for (std::uint32_t b = 0; b < r.store().bucket_count(); ++b) {
            r.store().visit(r.base(), b, [](const EntryInfo&) { throw std::bad_alloc(); });
        }
    };
    EXPECT_THROW(walk(), std::bad_alloc);
    EXPECT_EQ(r.put(scope, "k", "w"), Put::kStored);  // the lock was given back
}

TEST_F(StoreTest, a_sweep_removes_every_entry_while_the_index_grows) {
    for (unsigned i = 0; i < 500; ++i)
        ASSERT_EQ(r.put(scope, "old" + std::to_string(i), "v"), Put::kStored);
    unsigned n = 0, removed = 0;
    for (std::uint32_t b = 0; b < r.store().bucket_count(); ++b) {
        removed +=
            r.store().remove_if(r.base(), b, [](const EntryInfo& e) { return e.key.starts_with("old"); });
        for (int i = 0; i < 3 && n < 3000; ++i)
            ASSERT_EQ(r.put(scope, "new" + std::to_string(n++), "v"), Put::kStored);
    }
    EXPECT_EQ(removed, 500u);
    EXPECT_EQ(r.store().usage().entries, n);
}

TEST_F(StoreTest, a_bucket_that_is_not_there_is_empty) {
    r.store().visit(r.base(), 1'000'000, [](const EntryInfo&) { FAIL(); });
    EXPECT_EQ(r.store().remove_if(r.base(), 1'000'000, [](const EntryInfo&) { return true; }), 0u);
}

// --- out of memory ------------------------------------------------------------------------------------

/// Runs `operation` with the n-th allocation and all later ones failing, for n from 0 until none fails any more, each
/// time in a region that `prepare` has filled. `judge` tells whether what came out is right.
template <class Prepare, class Operation>
void with_each_allocation_failing(Prepare prepare, Operation operation) {
    int succeeded = 0;
    for (int n = 0; n < 200 && succeeded < 3; ++n) {
        TestRegion r;
        prepare(r);
        ASSERT_NO_FATAL_FAILURE(r.audit());
        r.allocator().fail_after(n);
        const Put result = operation(r);
        r.allocator().fail_after(-1);
        ASSERT_NO_FATAL_FAILURE(r.audit()) << n;
        ASSERT_TRUE(result == Put::kStored || result == Put::kNoMemory) << n;
        succeeded = result == Put::kStored ? succeeded + 1 : 0;
        // The same works at once when there is memory again, and all of it comes back.
        ASSERT_EQ(operation(r), Put::kStored) << n;
        ASSERT_NO_FATAL_FAILURE(r.audit()) << n;
        r.remove_all();
        ASSERT_NO_FATAL_FAILURE(r.audit()) << n;
        ASSERT_EQ(r.store().usage().entries, 0u);
    }
    EXPECT_EQ(succeeded, 3) << "never enough";
}

TEST(OutOfMemory, a_first_shared_entry) {
    with_each_allocation_failing([](TestRegion&) {},
                                 [](TestRegion& r) {
                                     return r.put(shared_scope(1), "k", "v", {"a", "b", "c"});
                                 });
}

TEST(OutOfMemory, a_first_private_entry) {
    with_each_allocation_failing([](TestRegion& r) { r.known(private_scope(1, 1)); },
                                 [](TestRegion& r) {
                                     return r.put(private_scope(1, 1), "k", "v", {"a", "b", "c"});
                                 });
}

TEST(OutOfMemory, a_replacement) {
    with_each_allocation_failing(
        [](TestRegion& r) {
            r.put(shared_scope(1), "k", "old", {"a", "x"});
        },
        [](TestRegion& r) {
            return r.put(shared_scope(1), "k", "new", {"a", "b", "c"});
        });
}

TEST(OutOfMemory, an_entry_among_many) {
    with_each_allocation_failing(
        [](TestRegion& r) {
            r.known(private_scope(1, 1));
            r.known(private_scope(2, 1));
            for (unsigned i = 0; i < 300; ++i) {
                r.put(i % 2 == 0 ? shared_scope(1) : private_scope(1, 1), "k" + std::to_string(i),
                      text_of(i, i), {"t" + std::to_string(i % 30)});
            }
        },
        [](TestRegion& r) {
            return r.put(private_scope(2, 1), "k", text_of(500, 1), {"a", "t1", "b"});
        });
}

TEST(OutOfMemory, an_entry_for_which_the_index_grows) {
    with_each_allocation_failing(
        [](TestRegion& r) {
            const unsigned full = Index::kPageBuckets * Index::kEntriesPerBucket;
            for (unsigned i = 0; i < full; ++i)
                r.put(shared_scope(1), "k" + std::to_string(i), "v", {"t"});
        },
        [](TestRegion& r) {
            return r.put(shared_scope(1), "new", "v", {"t", "u"});
        });
}

TEST(OutOfMemory, a_scattered_value) {
    with_each_allocation_failing(
        [](TestRegion& r) {
            unsigned n = 0;
            for (; r.region.total(Counter::kEvictions) == 0; ++n)
                r.put(shared_scope(1), "k" + std::to_string(n), text_of(900, n));
            for (unsigned i = 0; i < n; i += 2)
                r.store().remove(r.base(), r.key(shared_scope(1), "k" + std::to_string(i)));
        },
        [](TestRegion& r) { return r.put(shared_scope(1), "big", text_of(30'000, 1), {"t"}); });
}

TEST(OutOfMemory, an_old_value_is_served_as_a_whole_or_not_at_all) {
    for (int n = 0; n < 12; ++n) {
        TestRegion r;
        const Scope scope = shared_scope(1);
        ASSERT_EQ(r.put(scope, "k", "old", {"a"}), Put::kStored);
        r.allocator().fail_after(n);
        const Put result = r.put(scope, "k", "new", {"b", "c", "d"});
        r.allocator().fail_after(-1);
        const auto got = r.get(scope, "k");
        if (result == Put::kStored) {
            ASSERT_EQ(got, "new");
        } else {
            ASSERT_TRUE(!got || *got == "old");
        }
        r.stamp_tag("a");
        EXPECT_EQ(r.get(scope, "k").has_value(), result == Put::kStored);
    }
}

TEST(OutOfMemory, invalidation_needs_none) {
    TestRegion r;
    const Scope scope = shared_scope(1);
    const auto fill = [&] {
        r.allocator().fail_after(-1);
        for (unsigned i = 0; i < 50; ++i)
            ASSERT_EQ(r.put(scope, "k" + std::to_string(i), "v", {"t"}), Put::kStored);
        r.allocator().fail_after(0);
    };
    const Version before = r.now();
    fill();
    r.stamp_tag("t");
    r.stamp_tag("nobody carries it");
    EXPECT_EQ(r.look(scope, "k0"), Found::kInvalidated);
    fill();
    r.stamp_key(scope, "k1", true);
    EXPECT_EQ(r.look(scope, "k1"), Found::kAbsent);
    EXPECT_TRUE(r.store().expire(r.base(), r.key(scope, "k2"), kNow));
    r.stamp_pattern("k*");
    EXPECT_EQ(r.store().usage().entries, 0u);
    fill();
    r.stamp_space();
    EXPECT_EQ(r.look(scope, "k3"), Found::kInvalidated);
    EXPECT_EQ(r.remove_all(), 50u);
    r.audit();
    r.allocator().fail_after(-1);
    PutOptions how;
    how.birth = before;
    EXPECT_EQ(r.put(scope, "x", "v", {"nobody carries it"}, how), Put::kLate);
}

TEST(OutOfMemory, at_random_moments_of_a_long_run_nothing_leaks) {
    TestRegion r;
    std::mt19937_64 random(11);
    for (unsigned i = 1; i <= 3; ++i)
        r.known(private_scope(i, i % 2));
    const int steps = std::max(500, static_cast<int>(8000 * test_scale()));
    for (int step = 0; step < steps; ++step) {
        r.allocator().fail_after(random() % 4 == 0 ? static_cast<std::int64_t>(random() % 12) : -1);
        const unsigned s = static_cast<unsigned>(random() % 4);
        std::vector<std::string> tags;
        for (std::uint64_t t = random() % 5; t > 0; --t)
            tags.push_back("t" + std::to_string(random() % 100));
        const std::size_t bytes = random() % 8 == 0 ? random() % 60'000 : random() % 1500;
        PutOptions how;
        how.quota = {30'000, 50'000};
        r.put(s == 0 ? shared_scope(9) : private_scope(s, s % 2), "k" + std::to_string(random() % 400),
              text_of(bytes, random()), tags, how);
        if (random() % 20 == 0) r.stamp_tag("t" + std::to_string(random() % 100));
        r.allocator().fail_after(-1);
        if (step % 50 == 0) {
            ASSERT_NO_FATAL_FAILURE(r.audit()) << step;
        }
    }
    r.remove_all();
    r.audit();
}

// --- against a model ----------------------------------------------------------------------------------

/// What a cache may answer, by the book: the entries that were stored last, and the newest invalidation of everything.
class Model {
public:
    struct Item {
        std::string value;
        std::vector<std::string> tags;
        Version birth;
        Timestamp expires_at;
        std::uint64_t space;
    };
    using Name = std::pair<unsigned, std::string>;  // scope, key

    bool alive(const Item& item) const {
        if (at(spaces, item.space) > item.birth) return false;
        for (const std::string& tag : item.tags) {
            if (at(tags, {item.space, tag}) > item.birth) return false;
        }
        return true;
    }
    template <class Map>
    static Version at(const Map& map, const typename Map::key_type& key) {
        const auto it = map.find(key);
        return it == map.end() ? 0 : it->second;
    }

    std::map<Name, Item> items;
    std::map<std::pair<std::uint64_t, std::string>, Version> tags;
    std::map<std::pair<std::uint64_t, std::string>, Version> keys;
    std::map<std::uint64_t, Version> spaces;
    struct PatternRecord {
        Version version;
        std::uint64_t space;
        int scope;  // -1: all
        std::string text;
    };
    std::vector<PatternRecord> patterns;
};

/// Random operations on a store and on the model. `exact`: the region is so large that nothing is evicted, so hits may not be missed either.
void run_against_model(std::size_t bytes, unsigned seed, int steps, bool exact) {
    TestRegion r(bytes, 4, 2, seed);
    Model model;
    std::mt19937_64 random(seed);
    constexpr unsigned kScopes = 5;
    const auto space_of = [](unsigned s) -> std::uint64_t { return s % 2; };
    const auto scope_of = [&](unsigned s) {
        return s < 2 ? shared_scope(s, space_of(s)) : private_scope(s, s % 2, space_of(s));
    };
    for (unsigned s = 2; s < kScopes; ++s)
        r.known(scope_of(s));
    const auto some_key = [&] {
        return std::string(1, static_cast<char>('a' + random() % 3)) + ":" + std::to_string(random() % 60);
    };
    const auto some_tag = [&] { return "t" + std::to_string(random() % 40); };
    const auto some_birth = [&] {
        const Version now = r.now();
        return random() % 3 == 0 && now > 4 ? now - random() % 4
               : random() % 40 == 0         ? now + 1 + random() % 2
                                            : now;
    };
    Timestamp time = kNow;
    unsigned hits = 0, late = 0, needless_late = 0;
    for (int step = 0; step < steps; ++step) {
        time += static_cast<Timestamp>(random() % 3);
        const unsigned s = static_cast<unsigned>(random() % kScopes);
        const Scope scope = scope_of(s);
        const std::uint64_t space = space_of(s);
        const std::string key = some_key();
        const auto drop = [&](auto&& which) { std::erase_if(model.items, which); };
        const unsigned what = static_cast<unsigned>(random() % 100);
        if (what < 45) {
            Lookup found;
            const Version now = r.now();
            const Version clock = random() % 4 == 0 && now > 5 ? now - random() % 5 : now;
            const Found result = r.find(scope, key, found, clock, time);
            const auto it = model.items.find({s, key});
            const bool may = it != model.items.end() && model.alive(it->second) &&
                             it->second.expires_at > time && it->second.birth <= clock;
            if (result == Found::kHit) {
                ASSERT_TRUE(may) << "seed " << seed << " step " << step << " " << key;
                std::string value(found.value_bytes, '\0');
                ASSERT_TRUE(r.store().copy(r.base(), found, value.data()));
                ASSERT_EQ(value, it->second.value);
                ASSERT_EQ(found.birth, it->second.birth);
                r.store().count_hit(r.base(), r.region.session(static_cast<unsigned>(random() % 4)), found,
                                    time);
                ++hits;
            } else if (exact) {
                ASSERT_FALSE(may) << "seed " << seed << " step " << step << " " << key;
            }
        } else if (what < 75) {
            Model::Item item;
            item.value = text_of(random() % 6 == 0 ? random() % 9000 : random() % 200, random());
            for (std::uint64_t t = random() % 4; t > 0; --t)
                item.tags.push_back(some_tag());
            item.birth = some_birth();
            item.expires_at = random() % 3 == 0 ? time + static_cast<Timestamp>(random() % 200) : kNever;
            item.space = space;
            PutOptions how;
            how.birth = item.birth;
            how.expires_at = item.expires_at;
            how.only_if_absent = random() % 5 == 0;
            how.compute_us = static_cast<std::uint32_t>(random() % 2 * 100);
            how.now = time;
            how.session = static_cast<unsigned>(random() % 4);
            if (!exact) how.quota = {60'000, 90'000};
            const auto it = model.items.find({s, key});
            const bool live =
                it != model.items.end() && model.alive(it->second) && it->second.expires_at > time;
            bool too_late = Model::at(model.keys, {space, key}) > item.birth || !model.alive(item);
            for (const auto& p : model.patterns) {
                too_late |= p.version > item.birth && p.space == space &&
                            (p.scope < 0 || p.scope == static_cast<int>(s)) && glob_match(p.text, key);
            }
            switch (r.put(scope, key, item.value, item.tags, how)) {
                case Put::kStored:
                    ASSERT_FALSE(too_late) << "seed " << seed << " step " << step << " " << key;
                    if (exact) {
                        ASSERT_FALSE(how.only_if_absent && live);
                    }
                    model.items[{s, key}] = item;
                    break;
                case Put::kExists:
                    ASSERT_TRUE(how.only_if_absent && live);
                    break;
                case Put::kLate:
                    ++late;
                    needless_late += !too_late;
                    break;
                case Put::kNoMemory:
                    ASSERT_FALSE(exact);
                    break;
            }
        } else if (what < 84) {
            const std::string tag = some_tag();
            model.tags[{space, tag}] = r.stamp_tag(tag, space);
        } else if (what < 88) {
            const bool all = random() % 2 == 0;
            model.keys[{space, key}] = r.stamp_key(scope, key, all);
            drop([&](const auto& e) {
                return e.first.second == key &&
                       (e.first.first == s || (all && e.first.first >= 2 && e.second.space == space));
            });
        } else if (what < 90) {
            const std::string text = std::string(1, static_cast<char>('a' + random() % 3)) + ":" +
                                     std::to_string(random() % 6) + "*";
            const bool one = random() % 2 == 0;
            const Version v = r.stamp_pattern(text, one ? &scope.id : nullptr, space);
            model.patterns.push_back({v, space, one ? static_cast<int>(s) : -1, text});
            drop([&](const auto& e) {
                return e.second.space == space && (!one || e.first.first == s) &&
                       glob_match(text, e.first.second);
            });
        } else if (what == 90 && random() % 4 == 0) {
            model.spaces[space] = r.stamp_space(space);
        } else if (what < 94) {
            const auto it = model.items.find({s, key});
            const bool was = it != model.items.end() && model.alive(it->second);
            const bool told = r.store().remove(r.base(), r.key(scope, key));
            ASSERT_TRUE(exact ? told == was : was || !told);
            model.items.erase({s, key});
        } else if (what < 97) {
            const Timestamp when = time + static_cast<Timestamp>(random() % 100);
            r.store().expire(r.base(), r.key(scope, key), when);
            const auto it = model.items.find({s, key});
            if (it != model.items.end()) it->second.expires_at = std::min(it->second.expires_at, when);
        } else if (what < 98) {
            r.stamp();
        } else {
            const auto b = static_cast<std::uint32_t>(random() % r.store().bucket_count());
            std::set<std::pair<std::uint64_t, std::string>> swept;
            r.store().remove_if(r.base(), b, [&](const EntryInfo& e) {
                const bool over = e.dead || e.expires_at <= time;
                if (over) swept.insert({e.scope.hi, std::string(e.key)});
                return over;
            });
            drop([&](const auto& e) {
                return swept.count({scope_of(e.first.first).id.hi, e.first.second}) > 0;
            });
        }
        if (step % 2500 == 0) {
            ASSERT_NO_FATAL_FAILURE(r.audit()) << "seed " << seed << " step " << step;
        }
    }
    r.audit();
    r.remove_all();
    r.audit();
    EXPECT_GT(hits, static_cast<unsigned>(steps) / 100) << "the test must see hits";
    EXPECT_GT(late, 0u);
    // Late without need: patterns that were dropped, and collisions of cells.
    EXPECT_LE(needless_late, late / 2 + 10);
    if (!exact) {
        EXPECT_GT(r.region.total(Counter::kEvictions), 0u);
    }
}

TEST(StoreModel, a_large_store_answers_exactly_as_the_model) {
    const int seeds = std::max(2, static_cast<int>(10 * test_scale()));
    for (int seed = 0; seed < seeds; ++seed) {
        ASSERT_NO_FATAL_FAILURE(run_against_model(16 << 20, static_cast<unsigned>(seed), 20'000, true));
    }
}

TEST(StoreModel, a_small_store_never_answers_what_the_model_forbids) {
    const int seeds = std::max(2, static_cast<int>(20 * test_scale()));
    for (int seed = 100; seed < 100 + seeds; ++seed) {
        ASSERT_NO_FATAL_FAILURE(run_against_model(0, static_cast<unsigned>(seed), 20'000, false));
    }
}

}  // namespace
}  // namespace cache_ext::core
