#pragma once

#include <cmath>
#include <cstdint>

#include "core/entry.hpp"

namespace cache_ext::core {

// Early refresh of what is read often: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", VLDB 2015, with beta 1. Each
// reader, by itself, takes the time to be later than it is, by the time that computing takes times a number with an exponential distribution. So the more
// readers there are and the longer computing takes, the earlier one of them finds the entry over, while the others still have it.

/// Below so many computing times before the end it is drawn: before that one reader in 500 million would refresh.
inline constexpr Timestamp kEarlyWindow = 20;

/// Whether a reader needs to draw at all.
constexpr bool may_refresh_early(Timestamp remaining, std::uint32_t compute_us) noexcept {
    return remaining < kEarlyWindow * Timestamp{compute_us};
}

/// Whether it refreshes what ends in `remaining` microseconds; `drawn` is uniform in [0, 1).
inline bool refreshes_early(Timestamp remaining, std::uint32_t compute_us, double drawn) noexcept {
    return static_cast<double>(remaining) <= -std::log1p(-drawn) * compute_us;
}

}  // namespace cache_ext::core
