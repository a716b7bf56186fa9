#pragma once

// How long to wait before the next attempt: exponential back-off with full jitter, as M. Brooker describes it in "Exponential Backoff And
// Jitter" (AWS Architecture Blog, 2015): a time drawn evenly between nothing and a bound that doubles with each failure. Many servers that
// lose the same Redis do not come back in step.

#include <algorithm>
#include <cstdint>

#include "redis/time.hpp"

namespace cache_ext::redis {

struct BackoffOptions {
    milliseconds first{50};      ///< the bound after the first failure
    milliseconds longest{5000};  ///< the bound after many
};

class Backoff {
public:
    /// The seed makes the sequence; give each process another.
    Backoff(BackoffOptions options, std::uint64_t seed) noexcept : options_(options), state_(seed) {}

    /// Another attempt has failed: the time to wait now.
    [[nodiscard]] Duration next() noexcept {
        const Duration bound = this->bound();
        if (failures_ < 63) ++failures_;
        // 53 random bits, from 0 to 1.
        const double drawn = static_cast<double>(random() >> 11) * 0x1.0p-53;
        return std::chrono::duration_cast<Duration>(bound * drawn);
    }

    /// The longest that `next` can return.
    [[nodiscard]] Duration bound() const noexcept {
        Duration bound = options_.first;
        for (int i = 0; i < failures_ && bound < options_.longest; ++i)
            bound *= 2;
        return std::min<Duration>(bound, options_.longest);
    }

    void succeeded() noexcept { failures_ = 0; }

private:
    /// SplitMix64.
    std::uint64_t random() noexcept {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        return z ^ (z >> 31);
    }

    BackoffOptions options_;
    std::uint64_t state_;
    int failures_ = 0;
};

}  // namespace cache_ext::redis
