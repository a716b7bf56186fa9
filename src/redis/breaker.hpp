#pragma once

// A circuit breaker (M. Nygard, "Release It!"): after so many failures in a row nothing is tried for a while; then one attempt decides
// whether all is well again.

#include <cstdint>

#include "redis/time.hpp"

namespace cache_ext::redis {

struct BreakerOptions {
    int failures = 5;             ///< in a row, that open it
    milliseconds open_for{2000};  ///< until an attempt is let through
};

class Breaker {
public:
    enum class State : std::uint8_t {
        kClosed,    ///< all is well
        kOpen,      ///< nothing is let through
        kHalfOpen,  ///< the time is over: one attempt is let through, or under way
    };

    explicit Breaker(BreakerOptions options) noexcept : options_(options) {}

    [[nodiscard]] State state(TimePoint now) const noexcept {
        if (!is_open_) return State::kClosed;
        return now < until_ ? State::kOpen : State::kHalfOpen;
    }

    /// Whether an attempt may be made.
    [[nodiscard]] bool allows(TimePoint now) const noexcept {
        return !is_open_ || (now >= until_ && !is_trying_);
    }

    /// An attempt is made: in the half open state, the one.
    void attempt() noexcept { is_trying_ = is_open_; }

    void succeeded() noexcept {
        is_open_ = is_trying_ = false;
        failures_ = 0;
    }

    void failed(TimePoint now) noexcept {
        if (failures_ < options_.failures) ++failures_;
        // An attempt made before it opened may fail while it is open: that does not prolong it.
        if (is_open_ && !is_trying_) return;
        if (failures_ < options_.failures) return;
        is_open_ = true;
        is_trying_ = false;
        until_ = now + options_.open_for;
    }

    /// When it lets an attempt through again; kNever unless it is open.
    [[nodiscard]] TimePoint retry_at() const noexcept { return is_open_ && !is_trying_ ? until_ : kNever; }

private:
    BreakerOptions options_;
    int failures_ = 0;
    bool is_open_ = false;
    bool is_trying_ = false;
    TimePoint until_{};
};

}  // namespace cache_ext::redis
