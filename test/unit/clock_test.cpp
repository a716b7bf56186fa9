#include "core/clock.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

/// A snapshot as the server would take it, with its list of running transactions.
struct Snapshot {
    FullXid xmin = 0;
    FullXid xmax = 0;
    std::uint32_t xcnt = 0;
    FullXid own = 0;
    std::vector<FullXid> running;  // sorted, without the own

    SnapshotView view(bool own_finished = false) const {
        SnapshotView v;
        v.xmin = xmin;
        v.xmax = xmax;
        v.xcnt = xcnt;
        v.own_xid = own;
        v.own_finished = own_finished;
        v.context = this;
        v.running = [](const void* self, FullXid xid) {
            const auto& list = static_cast<const Snapshot*>(self)->running;
            return std::binary_search(list.begin(), list.end(), xid);
        };
        return v;
    }
};

/// A clock, the transactions around it, and the clock's definition taken literally.
class World {
public:
    World() { clock.init(1); }

    FullXid begin() {
        running.try_emplace(next);
        return next++;
    }
    Version stamp(FullXid xid) {
        const Version v = clock.stamp(running[xid], xid);
        registrations.push_back({v, xid});
        return v;
    }
    void finish(FullXid xid) {
        latest = std::max(latest, xid);
        running.erase(xid);  // visible and its mark cleared in one step; the threaded test takes them apart
    }
    Snapshot snapshot(FullXid own = 0) const {
        Snapshot s;
        s.xmax = latest + 1;
        s.own = own;
        for (const auto& [xid, mark] : running) {
            if (xid >= s.xmax) continue;
            ++s.xcnt;
            if (xid != own) s.running.push_back(xid);
        }
        s.xmin = s.running.empty() ? s.xmax : s.running.front();
        if (own != 0) s.xmin = std::min(s.xmin, own);
        return s;
    }
    /// Both halves of raising the floor, with nothing in between.
    void raise_floor() { raise_floor(settled()); }
    Version settled() const {
        Version bound = clock.now();
        for (const auto& [xid, mark] : running)
            bound = clock.settled_bound(&mark, 1, sizeof(PendingMark), bound);
        return bound;
    }
    void raise_floor(Version bound) {
        const Snapshot s = snapshot();
        clock.raise_floor(bound, s.xmax, s.xcnt);
    }
    Version brute_force(const SnapshotView& s) const {
        for (const auto& [version, xid] : registrations) {
            if (!s.finished(xid)) return version - 1;
        }
        return clock.now();
    }

    std::unique_ptr<Clock> owned = std::make_unique<Clock>();
    Clock& clock = *owned;
    struct Registration {
        Version version;
        FullXid xid;
    };
    std::vector<Registration> registrations;
    std::map<FullXid, PendingMark> running;
    FullXid next = 1000;
    FullXid latest = 999;
};

TEST(Clock, a_new_one_shows_its_start_to_every_snapshot) {
    World w;
    EXPECT_EQ(w.clock.now(), 1u);
    EXPECT_EQ(w.clock.of(w.snapshot().view()), 1u);
    EXPECT_EQ(w.clock.floor_lag(), 0u);
}

TEST(Clock, stands_still_for_a_snapshot_while_a_stamper_runs) {
    World w;
    const FullXid a = w.begin();
    const Snapshot before = w.snapshot();
    w.stamp(a);
    EXPECT_EQ(w.clock.of(w.snapshot().view()), 1u);
    w.finish(a);
    EXPECT_EQ(w.clock.of(w.snapshot().view()), 2u);
    EXPECT_EQ(w.clock.of(before.view()), 1u);
}

TEST(Clock, one_unfinished_stands_before_all_later_ones) {
    World w;
    const FullXid a = w.begin(), b = w.begin(), c = w.begin();
    w.stamp(a);
    w.stamp(b);
    w.stamp(c);
    w.finish(a);
    w.finish(c);
    EXPECT_EQ(w.clock.of(w.snapshot().view()), 2u);
    w.finish(b);
    EXPECT_EQ(w.clock.of(w.snapshot().view()), 4u);
}

TEST(Clock, the_own_transaction_is_unfinished_unless_asked_for) {
    World w;
    const FullXid own = w.begin();
    const Version v = w.stamp(own);
    const Snapshot s = w.snapshot(own);
    EXPECT_EQ(w.clock.of(s.view()), v - 1);
    EXPECT_EQ(w.clock.of(s.view(true)), v);
}

TEST(Clock, a_registration_without_an_xid_is_finished_for_everyone) {
    World w;
    const FullXid old = w.begin();
    const FullXid a = w.begin();
    w.stamp(a);
    w.finish(a);
    PendingMark mark{};
    w.clock.stamp(mark, 0);
    const Snapshot s = w.snapshot();
    EXPECT_EQ(w.clock.of(s.view()), w.clock.now());
    w.finish(old);
}

TEST(Clock, the_oldest_stamp_of_a_session_stays_its_mark) {
    World w;
    const FullXid a = w.begin();
    const Version first = w.stamp(a);
    w.stamp(a);
    EXPECT_EQ(w.running[a].version.load(), first);
    EXPECT_EQ(w.settled(), first - 1);
}

TEST(Clock, an_overrun_ring_falls_back_to_its_start) {
    World w;
    const FullXid old = w.begin();
    const Snapshot s = w.snapshot();
    for (std::uint32_t i = 0; i < Clock::kRing + 10; ++i) {
        const FullXid x = w.begin();
        w.stamp(x);
        w.finish(x);
    }
    bool truncated = false;
    EXPECT_EQ(w.clock.of(s.view(), &truncated), 1u);
    EXPECT_TRUE(truncated);
    truncated = false;
    EXPECT_EQ(w.clock.of(w.snapshot().view(), &truncated), 1u) << "an old transaction keeps xmin down";
    EXPECT_TRUE(truncated);
    EXPECT_EQ(w.clock.floor_lag(), Clock::kRing + 10);
    w.raise_floor();
    EXPECT_EQ(w.clock.of(w.snapshot().view()), w.clock.now());
    EXPECT_EQ(w.clock.of(s.view()), 1u) << "a snapshot older than the floor's must not use it";
    EXPECT_EQ(w.clock.floor_lag(), 0u);
    w.finish(old);
}

TEST(Clock, a_ring_that_is_just_full_needs_no_floor) {
    World w;
    const FullXid old = w.begin();
    for (std::uint32_t i = 0; i < Clock::kRing; ++i) {
        const FullXid x = w.begin();
        w.stamp(x);
        w.finish(x);
    }
    bool truncated = false;
    EXPECT_EQ(w.clock.of(w.snapshot().view(), &truncated), w.clock.now());
    EXPECT_FALSE(truncated);
    w.finish(old);
}

TEST(Clock, a_floor_never_goes_down) {
    World w;
    for (int i = 0; i < 5; ++i) {
        const FullXid x = w.begin();
        w.stamp(x);
        w.finish(x);
    }
    w.raise_floor();
    w.clock.raise_floor(3, 1'000'000, 0);
    EXPECT_EQ(w.clock.floor_lag(), 0u);
}

TEST(Clock, of_two_snapshots_with_one_xmax_the_one_with_more_running_is_older) {
    World w;
    const FullXid a = w.begin(), b = w.begin(), c = w.begin();
    w.stamp(a);
    w.finish(c);
    const Snapshot older = w.snapshot();
    const FullXid pin = b;
    w.finish(a);
    const Version bound = w.settled();
    w.raise_floor(bound);
    const Snapshot newer = w.snapshot();
    ASSERT_EQ(older.xmax, newer.xmax);
    for (std::uint32_t i = 0; i < Clock::kRing; ++i)
        w.stamp(pin);  // the ring forgets a's registration
    EXPECT_EQ(w.clock.of(older.view()), 1u);
    EXPECT_EQ(w.clock.of(newer.view()), bound);
}

TEST(Clock, a_half_written_slot_counts_as_overwritten) {
    World w;
    const FullXid pin = w.begin();
    for (int i = 0; i < 10; ++i) {
        const FullXid x = w.begin();
        w.stamp(x);
        w.finish(x);
    }
    const Snapshot s = w.snapshot();
    ASSERT_EQ(w.clock.of(s.view()), 11u);

    // What a stamper leaves for a moment: version 0 in a slot. The ring is the clock's last member, four words a slot.
    auto* ring =
        reinterpret_cast<std::atomic<Version>*>(reinterpret_cast<std::byte*>(&w.clock) + sizeof(Clock)) -
        4 * Clock::kRing;
    ASSERT_EQ(ring[4 * 6].load(), 6u);
    ring[4 * 6].store(0);
    bool truncated = false;
    EXPECT_EQ(w.clock.of(s.view(), &truncated), 1u);
    EXPECT_TRUE(truncated);

    const Snapshot fresh = w.snapshot();
    w.clock.raise_floor(6, fresh.xmax, fresh.xcnt);
    EXPECT_EQ(w.clock.of(fresh.view()), 11u) << "a floor at or above the hole bridges it";
    w.finish(pin);
}

TEST(Clock, agrees_with_its_definition_over_random_histories) {
    const int histories = std::max(4, static_cast<int>(120 * test_scale()));
    for (int seed = 0; seed < histories; ++seed) {
        World w;
        std::mt19937_64 random(static_cast<unsigned>(seed));
        const auto chance = [&](unsigned percent) { return random() % 100 < percent; };
        std::vector<Snapshot> kept;
        const unsigned max_running = 1 + static_cast<unsigned>(random() % 12);
        const bool floors = seed % 3 != 0;
        const int steps = 600 + static_cast<int>(random() % 4000);
        Version half_bound = 0;  // a first half of raising the floor whose second half comes later
        for (int step = 0; step < steps; ++step) {
            if (w.running.size() < max_running && chance(40)) w.begin();
            if (!w.running.empty() && chance(80)) {
                auto it = w.running.begin();
                std::advance(it, static_cast<long>(random() % w.running.size()));
                if (seed % 2 == 0 && it == w.running.begin() && !chance(2)) ++it;  // a long-running one
                if (it != w.running.end()) {
                    if (chance(60)) w.stamp(it->first);
                    if (chance(50)) w.finish(it->first);
                }
            }
            if (floors && chance(3)) half_bound = w.settled();
            if (floors && half_bound != 0 && chance(10)) {
                w.raise_floor(half_bound);
                half_bound = 0;
            }
            if (chance(5)) {
                FullXid own = 0;
                if (!w.running.empty() && chance(50)) own = w.running.rbegin()->first;
                kept.push_back(w.snapshot(own));
                if (kept.size() > 30) kept.erase(kept.begin() + static_cast<long>(random() % kept.size()));
            }
            if (kept.empty() || !chance(20)) continue;
            const Snapshot& s = chance(50) ? kept.back() : kept[random() % kept.size()];
            for (const bool own_finished : {false, true}) {
                bool truncated = false;
                const SnapshotView view = s.view(own_finished);
                const Version got = w.clock.of(view, &truncated);
                const Version exact = w.brute_force(view);
                ASSERT_LE(got, exact) << "seed " << seed << " step " << step;
                if (!truncated) {
                    ASSERT_EQ(got, exact) << "seed " << seed << " step " << step;
                }
            }
        }
        // Once all have finished and the floor is raised, nothing holds the clock back.
        while (!w.running.empty())
            w.finish(w.running.begin()->first);
        ASSERT_EQ(w.clock.of(w.snapshot().view()), w.clock.now());
    }
}

TEST(Clock, a_snapshot_with_the_floors_own_age_may_use_it_whatever_runs) {
    // An old transaction without any stamp keeps xmin down for ever; the floor keeps the clock going.
    World w;
    w.begin();
    for (int i = 0; i < 5000; ++i) {
        const FullXid x = w.begin();
        w.stamp(x);
        w.finish(x);
        if (i % 500 == 499) w.raise_floor();
        ASSERT_EQ(w.clock.of(w.snapshot().view()), w.clock.now()) << i;
    }
}

}  // namespace
}  // namespace cache_ext::core
