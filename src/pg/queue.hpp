#pragma once

// Queues in tables of the extension's own: rows go straight into heap and index and out of them, unhindered by privileges, triggers and constraints that
// somebody may have added.
//
// Nobody waits for anybody: an item that another transaction is taking is passed over, and so is a table that somebody has locked. What is there is what is committed when
// a function is called, and the transaction's own changes, whatever its isolation level.

#include <cstdint>
#include <string_view>

#include "pg/prelude.hpp"

namespace cache_ext::pg {

inline constexpr int kQueueTables = 3;
/// The tables, and the sequence that tells which of them is written to.
inline constexpr const char* kQueueTable[kQueueTables] = {"queue_items_0", "queue_items_1", "queue_items_2"};
inline constexpr char kQueueState[] = "queue_state";

/// Its values: moves * kStateTables + table.
inline constexpr std::int64_t kStateTables = 4;

/// From so many pages on, a table is to be left for another one; and those before it are to be looked after.
inline constexpr std::uint32_t kQueueTablePages = 512;

/// Adds an item; its number. May raise.
[[nodiscard]] std::int64_t enqueue(std::string_view queue, Datum data);

/// Takes the oldest item that nobody else is taking. False: there is none. May raise.
[[nodiscard]] bool dequeue(std::string_view queue, Datum& data);

[[nodiscard]] std::int64_t queue_length(std::string_view queue);

/// Whether a queue has items that others can see. May raise.
[[nodiscard]] bool queue_has_committed(std::string_view queue);

/// Whether items are delivered to Redis instead of to `dequeue`, which refuses then. Needs a transaction; may raise.
[[nodiscard]] bool queues_are_delivered();

/// Whether one of the tables that the last call has seen is so large that somebody should look after them (worker/queue_keeper.hpp).
[[nodiscard]] bool queues_want_keeper() noexcept;

/// Registers for the ends of transactions. Called once, from _PG_init.
void init_queues();

}  // namespace cache_ext::pg
