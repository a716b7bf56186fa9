#pragma once

// The outbox's rows, for the process that sends them. All of it needs a transaction with a snapshot, and may raise.

#include <cstdint>
#include <vector>

#include "pg/prelude.hpp"
#include "redis/layout.hpp"

namespace cache_ext::worker {

struct OutboxRow {
    std::int64_t id;
    redis::Notice notice;
};

/// A number that somebody has begun to add a row by, as for all below it: the last but one.
std::int64_t settling_outbox_id();

/// The oldest rows with an id above `after`, `without` those with these ids, in the order of their ids: about as many as make a batch. Rows for which all keys have to
/// be looked through only where `with_scans`.
std::vector<OutboxRow> read_outbox(std::int64_t after, std::vector<std::int64_t> without, bool with_scans);

/// Whether there may be more of them than were read at once.
bool fills_batch(const std::vector<OutboxRow>& rows) noexcept;

void delete_from_outbox(const std::vector<std::int64_t>& ids);

/// Remembers that Redis has acknowledged all messages up to this one; like all numbers of sequences, even if the transaction fails.
void remember_sent(std::uint64_t number);

/// How many rows there are, counted up to `most`.
std::int64_t count_outbox(std::int64_t most);

/// Adds a row that says "everything".
void add_everything_to_outbox();

/// Makes a long outbox shorter. How many rows became one.
std::int64_t compact_outbox(const std::vector<std::int64_t>& being_sent, std::int64_t most_rows);

/// What is remembered from one start to the next.
struct PushState {
    std::uint64_t reserved = 0;    ///< no message has a number above it
    bool complete = false;         ///< every invalidation since has gone into the outbox
    std::uint64_t generation = 0;  ///< of the values that are put, the last one
    bool has_put = false;          ///< values have been put
    std::uint64_t sent = 0;  ///< of the rows that have left the outbox, the last message; see remember_sent
};
PushState read_push_state();
/// Makes this transaction one whose commit waits for the disk.
void write_push_state(const PushState& state);

}  // namespace cache_ext::worker
