#pragma once

// Settles what sessions of this database have taken from lists in Redis (pg/queue_in_redis.hpp): drops it when the transaction has committed and that is safe, puts it back when it has not.

#include "redis/settler.hpp"

namespace cache_ext::worker {

class QueueSettlement {
public:
    /// `place`: the pusher's.
    QueueSettlement(redis::Client& client, const redis::Layout& layout, std::int32_t place);

    void step(redis::TimePoint now);

    /// Redis may have lost what it has done.
    void repeat(redis::TimePoint now) noexcept { settler_.look(now); }
    [[nodiscard]] redis::TimePoint next_deadline() const noexcept { return settler_.next_deadline(); }

    /// Whether there is something to be judged.
    [[nodiscard]] bool wants_turn() const noexcept { return settler_.wants_judgement(); }

    /// Judges, in a transaction, after whose end `step` is called. May raise; then this is of no use any more.
    void turn();

    [[nodiscard]] const std::string& last_error() const noexcept { return settler_.last_error(); }

private:
    redis::Settler settler_;
    std::int32_t place_;
    std::uint32_t touched_seen_;
};

}  // namespace cache_ext::worker
