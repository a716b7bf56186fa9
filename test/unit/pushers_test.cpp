#include "core/pushers.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <semaphore>
#include <thread>
#include <vector>

namespace cache_ext::core {
namespace {

constexpr std::uint32_t kDatabase = 5;
constexpr std::int32_t kPid = 4711;
constexpr std::int32_t kLatch = 17;

TEST(Pushers, one_that_sleeps_is_woken_and_one_that_is_awake_asks) {
    const auto pushers = std::make_unique<Pushers>();
    EXPECT_EQ(pushers->call(kDatabase), -1);
    EXPECT_FALSE(pushers->has_pusher(kDatabase));
    const std::int32_t place = pushers->sit_down(kDatabase, kPid, kLatch);
    ASSERT_GE(place, 0);
    EXPECT_TRUE(pushers->has_pusher(kDatabase));
    EXPECT_EQ(pushers->call(kDatabase + 1), -1);
    EXPECT_FALSE(pushers->was_called(place));

    EXPECT_EQ(pushers->call(kDatabase), kLatch);
    EXPECT_TRUE(pushers->was_called(place));
    EXPECT_FALSE(pushers->was_called(place));

    pushers->stay_awake(place);
    EXPECT_EQ(pushers->call(kDatabase), -1);
    EXPECT_FALSE(pushers->fall_asleep(place));
    EXPECT_EQ(pushers->call(kDatabase), kLatch);
    EXPECT_TRUE(pushers->was_called(place));
    EXPECT_TRUE(pushers->fall_asleep(place));
}

TEST(Pushers, one_that_ended_awake_leaves_no_trace) {
    const auto pushers = std::make_unique<Pushers>();
    const std::int32_t place = pushers->sit_down(kDatabase, kPid, kLatch);
    pushers->stay_awake(place);
    EXPECT_EQ(pushers->call(kDatabase), -1);
    pushers->leave(place, kPid, 0, true);
    EXPECT_EQ(pushers->call(kDatabase), -1);
    ASSERT_EQ(pushers->sit_down(kDatabase, kPid + 1, kLatch + 1), place);
    EXPECT_FALSE(pushers->was_called(place));
    EXPECT_EQ(pushers->call(kDatabase), kLatch + 1);
}

TEST(Pushers, no_call_is_missed_however_it_meets_who_falls_asleep) {
    constexpr int kCallers = 3;
    constexpr int kCalls = 5000;
    const auto pushers = std::make_unique<Pushers>();
    const std::int32_t place = pushers->sit_down(kDatabase, kPid, kLatch);
    std::counting_semaphore<> latch(0);
    std::atomic<int> written = 0;

    std::vector<std::jthread> callers;
    for (int i = 0; i < kCallers; ++i)
        callers.emplace_back([&] {
            for (int n = 0; n < kCalls; ++n) {
                written.fetch_add(1);
                if (pushers->call(kDatabase) == kLatch) latch.release();
                if (n % 64 == 0) std::this_thread::yield();
            }
        });

    // Sleeps for good where it is not woken: then the test does not end.
    int seen = 0;
    for (int awake = 0; seen < kCallers * kCalls;) {
        if (pushers->was_called(place)) {
            pushers->stay_awake(place);
            awake = 3;
            seen = written.load();
        } else if (--awake <= 0 && pushers->fall_asleep(place)) {
            latch.acquire();
        }
    }
    EXPECT_EQ(seen, kCallers * kCalls);
}

}  // namespace
}  // namespace cache_ext::core
