// What a region keeps for transactions of another server, of which a log tells.

#include <gtest/gtest.h>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

class Replicated : public testing::Test {
protected:
    static RegionOptions options() {
        RegionOptions options = TestRegion::make_options(0, 4, 2, 42);
        options.replicated = 2;
        options.bytes = Region::smallest(options);
        return options;
    }
    RegionMemory memory{options().bytes};
    Region region = Region::create(memory.map(), options());

    /// The clock of a snapshot for which one transaction is under way.
    Version clock_without(FullXid running) {
        static FullXid unfinished;
        unfinished = running;
        SnapshotView view;
        view.xmin = running;
        view.xmax = 1'000'000;
        view.running = [](const void*, FullXid xid) { return xid == unfinished; };
        return region.clock().of(view);
    }
};

TEST_F(Replicated, a_transaction_keeps_its_mark_until_it_is_over) {
    ASSERT_TRUE(region);
    EXPECT_FALSE(region.any_replicated());
    PendingMark* first = region.claim_replicated(70);
    ASSERT_NE(first, nullptr);
    EXPECT_TRUE(region.any_replicated());
    EXPECT_EQ(region.claim_replicated(70), first);
    PendingMark* second = region.claim_replicated(71);
    ASSERT_NE(second, nullptr);
    EXPECT_NE(second, first);
    EXPECT_EQ(region.claim_replicated(72), nullptr);

    const Version version = region.clock().stamp(*first, 70);
    PendingMark none{};
    region.clock().stamp(none, 100);
    EXPECT_EQ(region.settled_bound(), version - 1);
    EXPECT_EQ(clock_without(70), version - 1);

    region.release_replicated(*first, 71);  // not its own
    EXPECT_EQ(region.settled_bound(), version - 1);
    region.release_replicated(*first, 70);
    EXPECT_EQ(region.settled_bound(), region.clock().now());
    EXPECT_EQ(region.claim_replicated(72), first);
    region.release_replicated(*first, 72);
    region.release_replicated(*second, 71);
    EXPECT_FALSE(region.any_replicated());
}

TEST_F(Replicated, who_began_after_the_end_takes_it_for_finished) {
    PendingMark* mark = region.claim_replicated(70);
    const Version version = region.clock().stamp(*mark, 70);
    SnapshotView oldest;
    oldest.xmin = oldest.xmax = 60;
    EXPECT_LT(region.clock().of(oldest), version);
    region.release_replicated(*mark, 70);
    oldest.ended_by = region.clock().events();
    EXPECT_EQ(region.clock().of(oldest), version);
}

TEST(Region, forgets_everything_of_all_spaces) {
    TestRegion r;
    const Scope one = shared_scope(1, 1);
    const Scope two = shared_scope(2, 2);
    const Version before = r.now();
    ASSERT_EQ(r.put(one, "k", "1"), Put::kStored);
    ASSERT_EQ(r.put(two, "k", "2", {"t"}), Put::kStored);
    r.region.forget_everything();
    EXPECT_EQ(r.look(one, "k"), Found::kInvalidated);
    EXPECT_EQ(r.look(two, "k"), Found::kInvalidated);
    EXPECT_EQ(r.put(one, "late", "1", {}, {.birth = before}), Put::kLate);
    EXPECT_EQ(r.put(shared_scope(3, 3), "late", "1", {}, {.birth = before}), Put::kLate);
    EXPECT_EQ(r.put(one, "k", "new"), Put::kStored);
    EXPECT_EQ(r.get(one, "k"), "new");
}

TEST(Region, waits_for_who_is_below_an_id_and_never_fewer) {
    TestRegion r;
    r.region.bypass_before(50);
    r.region.bypass_before(40);
    EXPECT_EQ(r.region.header().next_xid.load(), 50u);
}

}  // namespace
}  // namespace cache_ext::core
