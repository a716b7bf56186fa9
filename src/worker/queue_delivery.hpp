#pragma once

// Delivers the items of queues to lists in Redis: reads a number of them, has them added there, deletes those that were.

#include <vector>

#include "redis/list_feeder.hpp"

namespace cache_ext::worker {

class QueueDelivery {
public:
    /// `generation`: above that of whoever delivered before.
    QueueDelivery(redis::Client& client, const redis::Layout& layout, std::uint64_t generation)
        : client_(client), feeder_(client, layout, generation) {}

    /// Takes note that there may be something new.
    void expect_items() noexcept { hungry_ = true; }

    void step(redis::TimePoint now) { feeder_.step(now); }
    [[nodiscard]] redis::TimePoint next_deadline() const noexcept { return feeder_.next_deadline(); }

    /// Whether the tables are to be looked at.
    [[nodiscard]] bool wants_turn(redis::TimePoint now) const noexcept {
        return feeder_.is_done() && (!feeder_.added().empty() || (hungry_ && client_.can_take(now)));
    }

    /// Looks at the tables, in a transaction with a snapshot, after whose end `step` is called. May raise; then this is of no use any more.
    void turn(redis::TimePoint now);

    [[nodiscard]] const std::string& last_error() const noexcept { return feeder_.last_error(); }

private:
    redis::Client& client_;
    redis::ListFeeder feeder_;
    bool hungry_ = true;
    std::set<std::string> refused_;  ///< queues that are left alone for a while
    redis::TimePoint refused_until_{};
};

}  // namespace cache_ext::worker
