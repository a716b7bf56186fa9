#pragma once

#include <chrono>

namespace cache_ext::redis {

/// Time is given from outside, so that tests can make it pass.
using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;
using std::chrono::milliseconds;

/// No deadline.
inline constexpr TimePoint kNever = TimePoint::max();

}  // namespace cache_ext::redis
