#pragma once

#include <chrono>

namespace cache_ext::redis {

/// Time is given from outside, so that tests can make it pass.
using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
using std::chrono::milliseconds;

/// No deadline.
inline constexpr TimePoint kNever = TimePoint::max();

/// How long to wait for a deadline, rounded up: a loop that wakes a little early spins. Nothing where it has passed: of one as early as TimePoint::min() no time can be taken.
[[nodiscard]] inline milliseconds time_left(TimePoint deadline, TimePoint now) noexcept {
    return deadline <= now ? milliseconds(0) : std::chrono::ceil<milliseconds>(deadline - now);
}

}  // namespace cache_ext::redis
