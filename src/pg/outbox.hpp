#pragma once

// The transactional outbox: while Redis is told what is invalidated, a transaction that invalidates adds one row that says what, so that the two
// are committed together; a background process sends the rows and deletes them.

#include <cstddef>

#include "pg/pending.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// The table and the sequence of its ids, and its columns in their order.
inline constexpr char kOutbox[] = "redis_outbox";
inline constexpr char kOutboxSequence[] = "redis_outbox_id";
enum class OutboxColumn : int { kId, kAddedAt, kKeys, kTags, kPatterns, kEverything, kCount };

/// Adds the row for what is pending from the invalidation `from` on, if any of it concerns Redis. Before the transaction becomes visible. It does not fail:
/// what cannot be kept becomes an "everything" that is sent as soon as the transaction is over, unless the server crashes first. Says whether there is something to send.
[[nodiscard]] bool write_outbox(const Pending& pending, std::size_t from, bool everything);

/// Wakes whoever sends. After the transaction has become visible; cannot fail.
void wake_pusher() noexcept;

/// At the end of a transaction, when it is visible or gone.
void end_outbox() noexcept;

/// Says that the current transaction's invalidations came from Redis, and so are not told to it again.
void set_told_by_redis(bool is_told) noexcept;

/// Adds a row that says "everything", whatever the settings. May raise.
void tell_redis_everything();

}  // namespace cache_ext::pg
