#include "core/prepared.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

constexpr FullXid kPrepared = 50;

/// A region, and a prepared transaction that invalidates.
class PreparedTransaction : public testing::Test {
protected:
    TestRegion r;
    Scope scope = shared_scope(1);
    Prepared* prepared = r.region.claim_prepared(kPrepared);

    bool quarantine(Prepared* p, std::string_view tag) {
        return r.store().quarantine_tag(r.base(), r.tag(tag), p->cells[p->count]) && ++p->count > 0;
    }
    /// The clock of a snapshot for which the transaction is under way.
    Version clock_before() {
        SnapshotView view;
        view.xmin = kPrepared;
        view.xmax = r.last_xid + 1;
        view.running = [](const void*, FullXid xid) { return xid == kPrepared; };
        return r.region.clock().of(view);
    }
};

TEST_F(PreparedTransaction, hides_what_it_invalidates_and_lets_nothing_be_stored) {
    ASSERT_EQ(r.put(scope, "k", "old", {"t"}), Put::kStored);
    ASSERT_EQ(r.put(scope, "other", "1", {"u"}), Put::kStored);
    ASSERT_TRUE(quarantine(prepared, "t"));
    EXPECT_EQ(r.look(scope, "k"), Found::kInvalidated);
    EXPECT_EQ(r.look(scope, "other"), Found::kHit);
    EXPECT_EQ(r.put(scope, "k", "new", {"t"}), Put::kLate);
    EXPECT_EQ(r.put(scope, "another", "new", {"u", "t"}), Put::kLate);
    r.audit();
}

TEST_F(PreparedTransaction, holds_up_nobody_else) {
    ASSERT_TRUE(quarantine(prepared, "t"));
    const Version version = r.stamp_tag("u");
    EXPECT_EQ(clock_before(), version);
    EXPECT_EQ(r.put(scope, "other", "1", {"u"}, {.birth = clock_before()}), Put::kStored);
    EXPECT_EQ(r.get(scope, "other", clock_before()), "1");
}

TEST_F(PreparedTransaction, leaves_old_values_dead_and_lets_new_ones_in) {
    ASSERT_EQ(r.put(scope, "k", "old", {"t"}), Put::kStored);
    const Version before = r.now();
    ASSERT_TRUE(quarantine(prepared, "t"));
    EXPECT_TRUE(r.region.any_prepared());
    r.region.release_prepared(*prepared, kPrepared);
    EXPECT_FALSE(r.region.any_prepared());
    EXPECT_EQ(r.look(scope, "k"), Found::kInvalidated);
    EXPECT_EQ(r.put(scope, "k", "late", {"t"}, {.birth = before}), Put::kLate);
    EXPECT_EQ(r.put(scope, "k", "new", {"t"}), Put::kStored);
    EXPECT_EQ(r.get(scope, "k"), "new");
}

TEST_F(PreparedTransaction, is_not_over_for_an_older_snapshot) {
    ASSERT_TRUE(quarantine(prepared, "t"));
    r.region.release_prepared(*prepared, kPrepared);
    ASSERT_EQ(r.put(scope, "k", "new", {"t"}), Put::kStored);
    EXPECT_LT(clock_before(), r.now());
    EXPECT_EQ(r.look(scope, "k", clock_before()), Found::kFuture);
    EXPECT_EQ(r.put(scope, "k", "old", {"t"}, {.birth = clock_before()}), Put::kLate);
}

TEST_F(PreparedTransaction, is_over_for_who_began_after_it) {
    ASSERT_TRUE(quarantine(prepared, "t"));
    r.region.release_prepared(*prepared, kPrepared);
    SnapshotView oldest;  // an idle transaction keeps its xmin low
    oldest.xmin = oldest.xmax = kPrepared - 1;
    EXPECT_LT(r.region.clock().of(oldest), r.now());
    oldest.ended_by = r.region.clock().events();
    EXPECT_EQ(r.region.clock().of(oldest), r.now());
}

TEST_F(PreparedTransaction, keeps_what_others_stamp_meanwhile) {
    const Ref slot = r.store().tags().acquire(r.base(), r.allocator(), r.tag("t"));
    ASSERT_TRUE(quarantine(prepared, "t"));
    const Version stamped = r.stamp_tag("t");
    r.store().lift(r.base(), prepared->cells[0], 1);
    EXPECT_EQ(r.base().at<TagSlot>(slot)->version.load(), stamped);
    EXPECT_EQ(r.store().tags().cell(r.base(), r.tag("t").hash), stamped);
}

TEST_F(PreparedTransaction, shares_a_tag_with_another) {
    Prepared* second = r.region.claim_prepared(kPrepared + 1);
    ASSERT_NE(second, nullptr);
    ASSERT_NE(second, prepared);
    EXPECT_EQ(r.region.claim_prepared(kPrepared + 2), nullptr);
    ASSERT_EQ(r.put(scope, "k", "old", {"t"}), Put::kStored);
    ASSERT_TRUE(quarantine(prepared, "t"));
    ASSERT_TRUE(quarantine(prepared, "t"));
    ASSERT_TRUE(quarantine(second, "t"));
    r.region.release_prepared(*prepared, kPrepared);
    EXPECT_EQ(r.put(scope, "k", "new", {"t"}), Put::kLate);
    r.region.release_prepared(*second, kPrepared + 1);
    EXPECT_EQ(r.put(scope, "k", "new", {"t"}), Put::kStored);
}

TEST_F(PreparedTransaction, covers_slots_that_are_made_meanwhile) {
    ASSERT_TRUE(quarantine(prepared, "t"));
    const Ref slot = r.store().tags().acquire(r.base(), r.allocator(), r.tag("t"));
    EXPECT_GE(r.base().at<TagSlot>(slot)->version.load(), kOneQuarantine);
    r.region.release_prepared(*prepared, kPrepared);
    EXPECT_EQ(r.base().at<TagSlot>(slot)->version.load(), r.now());
}

TEST_F(PreparedTransaction, removes_a_key_and_keeps_it_away) {
    ASSERT_EQ(r.put(scope, "k", "old"), Put::kStored);
    const Version before = r.now();
    ASSERT_TRUE(r.store().quarantine_key(r.base(), scope, "k", false, prepared->cells[prepared->count++]));
    EXPECT_EQ(r.look(scope, "k"), Found::kAbsent);
    EXPECT_EQ(r.put(scope, "k", "new"), Put::kLate);
    r.region.release_prepared(*prepared, kPrepared);
    EXPECT_EQ(r.put(scope, "k", "late", {}, {.birth = before}), Put::kLate);
    EXPECT_EQ(r.put(scope, "k", "new"), Put::kStored);
}

TEST_F(PreparedTransaction, is_given_back_once) {
    ASSERT_TRUE(quarantine(prepared, "t"));
    r.region.release_prepared(*prepared, kPrepared);
    const Version version = r.now();
    r.region.release_prepared(*prepared, kPrepared);
    EXPECT_EQ(r.now(), version);
    Prepared* again = r.region.claim_prepared(kPrepared + 3);
    ASSERT_EQ(again, prepared);
    r.region.release_prepared(*again, kPrepared);  // somebody who looked before
    EXPECT_TRUE(r.region.any_prepared());
    EXPECT_EQ(again->count, 0u);
}

TEST_F(PreparedTransaction, is_given_back_once_by_many_who_find_it_over) {
    constexpr int kRounds = 3000;
    r.region.release_prepared(*prepared, kPrepared);
    std::atomic<FullXid> over{0};
    std::atomic<bool> done{false};
    std::vector<std::thread> finders;
    for (int i = 0; i < 3; ++i) {
        finders.emplace_back([&] {
            while (!done.load()) {
                // As any session does it: nobody but a running transaction's id is known to be one.
                const FullXid xid = prepared->mark.xid.load(std::memory_order_acquire);
                const FullXid newest = over.load();
                if (xid != 0 && (xid <= newest || xid > newest + 1))
                    r.region.release_prepared(*prepared, xid);
            }
        });
    }
    const Version before = r.now();
    for (FullXid xid = kPrepared + 1; xid <= kPrepared + kRounds; ++xid) {
        over.store(xid - 1);
        ASSERT_EQ(r.region.claim_prepared(xid), prepared);
        const bool quarantined = quarantine(prepared, "t");
        over.store(xid);
        if (!quarantined) ADD_FAILURE() << "no quarantine";
        while (prepared->mark.xid.load(std::memory_order_acquire) != 0)
            std::this_thread::yield();
    }
    done.store(true);
    for (std::thread& finder : finders)
        finder.join();
    EXPECT_EQ(r.now(), before + kRounds);
    EXPECT_FALSE(r.region.any_prepared());
    SnapshotView all_over;
    all_over.xmin = all_over.xmax = kPrepared + kRounds + 1;
    EXPECT_EQ(r.region.clock().of(all_over), r.now());
}

TEST_F(PreparedTransaction, frees_the_clock_of_what_it_stamped) {
    const Version first = r.region.clock().stamp(prepared->mark, kPrepared);
    const Version other = r.stamp_tag("u");
    EXPECT_EQ(clock_before(), first - 1);
    EXPECT_EQ(r.region.settled_bound(), first - 1);
    r.region.release_prepared(*prepared, kPrepared);
    EXPECT_EQ(r.region.settled_bound(), other);
}

TEST_F(PreparedTransaction, cannot_lie_on_a_cell_too_often) {
    const std::uint64_t hash = r.tag("t").hash;
    unsigned count = 0;
    while (r.store().tags().quarantine_cell(r.base(), hash))
        ++count;
    EXPECT_EQ(count, (1U << (64 - kQuarantineShift)) - 1);
    const std::uint32_t cell = r.store().tags().cell_number(hash);
    for (; count > 0; --count)
        r.store().lift(r.base(), cell, 7);
    EXPECT_EQ(r.store().tags().cell(r.base(), hash), 7u);
}

}  // namespace
}  // namespace cache_ext::core
