// What decides when Redis is tried again: the back-off and the breaker, and how long a loop waits for that.
#include <gtest/gtest.h>

#include "redis/backoff.hpp"
#include "redis/breaker.hpp"
#include "redis/time.hpp"

namespace cache_ext::redis {
namespace {

using std::chrono::duration_cast;

TEST(RedisBackoff, the_bound_doubles_up_to_the_longest) {
    Backoff backoff({milliseconds(50), milliseconds(300)}, 1);
    for (const int bound : {50, 100, 200, 300, 300, 300}) {
        EXPECT_EQ(backoff.bound(), milliseconds(bound));
        const Duration wait = backoff.next();
        EXPECT_GE(wait, Duration::zero());
        EXPECT_LE(wait, milliseconds(bound));
    }
    backoff.succeeded();
    EXPECT_EQ(backoff.bound(), milliseconds(50));
}

TEST(RedisBackoff, the_bound_holds_after_any_number_of_failures) {
    Backoff backoff({milliseconds(1), milliseconds(5000)}, 1);
    for (int i = 0; i < 1000; ++i)
        EXPECT_LE(backoff.next(), milliseconds(5000));
}

TEST(RedisBackoff, full_jitter) {
    // Evenly between nothing and the bound: half of it on average, all of it used.
    Backoff backoff({milliseconds(1000), milliseconds(1000)}, 42);
    double sum = 0;
    int low = 0;
    int high = 0;
    constexpr int kTimes = 10'000;
    for (int i = 0; i < kTimes; ++i) {
        const double ms = std::chrono::duration<double, std::milli>(backoff.next()).count();
        sum += ms;
        low += ms < 100 ? 1 : 0;
        high += ms > 900 ? 1 : 0;
    }
    EXPECT_NEAR(sum / kTimes, 500, 15);
    EXPECT_NEAR(low, kTimes / 10, 150);
    EXPECT_NEAR(high, kTimes / 10, 150);
}

TEST(RedisBackoff, processes_do_not_keep_step) {
    Backoff one({}, 1);
    Backoff other({}, 2);
    int same = 0;
    for (int i = 0; i < 20; ++i)
        same += one.next() == other.next() ? 1 : 0;
    EXPECT_LT(same, 2);
}

TEST(RedisTime, left_until_a_deadline) {
    const TimePoint now = std::chrono::steady_clock::now();
    EXPECT_EQ(time_left(now + milliseconds(7), now), milliseconds(7));
    EXPECT_EQ(time_left(now + std::chrono::microseconds(6001), now), milliseconds(7)) << "rounded up";
    EXPECT_EQ(time_left(now, now), milliseconds(0));
    EXPECT_EQ(time_left(now - milliseconds(7), now), milliseconds(0));
    EXPECT_EQ(time_left(TimePoint::min(), now), milliseconds(0)) << "at once, however early";
    EXPECT_GT(time_left(kNever, now), std::chrono::hours(24 * 365));
}

class RedisBreaker : public ::testing::Test {
protected:
    TimePoint at(int ms) const { return TimePoint{} + std::chrono::hours(1) + milliseconds(ms); }

    Breaker breaker_{{3, milliseconds(1000)}};
};

TEST_F(RedisBreaker, opens_after_failures_in_a_row) {
    breaker_.failed(at(0));
    breaker_.failed(at(1));
    breaker_.succeeded();
    breaker_.failed(at(2));
    breaker_.failed(at(3));
    EXPECT_EQ(breaker_.state(at(3)), Breaker::State::kClosed);
    EXPECT_TRUE(breaker_.allows(at(3)));
    EXPECT_EQ(breaker_.retry_at(), kNever);
    breaker_.failed(at(4));
    EXPECT_EQ(breaker_.state(at(4)), Breaker::State::kOpen);
    EXPECT_FALSE(breaker_.allows(at(1003)));
    EXPECT_EQ(breaker_.retry_at(), at(1004));
}

TEST_F(RedisBreaker, lets_one_attempt_through) {
    for (int i = 0; i < 3; ++i)
        breaker_.failed(at(0));
    EXPECT_EQ(breaker_.state(at(1000)), Breaker::State::kHalfOpen);
    EXPECT_TRUE(breaker_.allows(at(1000)));
    breaker_.attempt();
    EXPECT_FALSE(breaker_.allows(at(1001))) << "one is under way";
    breaker_.succeeded();
    EXPECT_EQ(breaker_.state(at(1002)), Breaker::State::kClosed);
    EXPECT_TRUE(breaker_.allows(at(1002)));
}

TEST_F(RedisBreaker, opens_again_when_that_fails) {
    for (int i = 0; i < 3; ++i)
        breaker_.failed(at(0));
    breaker_.attempt();
    breaker_.failed(at(1500));
    EXPECT_EQ(breaker_.state(at(2499)), Breaker::State::kOpen);
    EXPECT_TRUE(breaker_.allows(at(2500)));
}

TEST_F(RedisBreaker, late_failures_do_not_keep_it_open) {
    for (int i = 0; i < 3; ++i)
        breaker_.failed(at(0));
    breaker_.failed(at(900));
    EXPECT_TRUE(breaker_.allows(at(1000)));
}

TEST_F(RedisBreaker, an_attempt_while_closed_is_nothing_special) {
    breaker_.attempt();
    EXPECT_TRUE(breaker_.allows(at(0)));
    breaker_.failed(at(0));
    EXPECT_TRUE(breaker_.allows(at(0)));
}

}  // namespace
}  // namespace cache_ext::redis
