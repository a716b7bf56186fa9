#pragma once

#include <ctime>

#include "core/entry.hpp"

namespace cache_ext::core {

/// The time, a few milliseconds behind at most, without a system call: 4 ns.
inline Timestamp coarse_now() noexcept {
    constexpr Timestamp kSecond = 1'000'000;
    constexpr Timestamp kFrom1970To2000 = Timestamp{10957} * 86400 * kSecond;
    timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now.tv_sec * kSecond + now.tv_nsec / 1000 - kFrom1970To2000;
}

}  // namespace cache_ext::core
