#pragma once

// The outbox's rows, for the process that sends them. All of it needs a transaction with a snapshot, and may raise.

#include <cstdint>
#include <string>
#include <vector>

#include "pg/prelude.hpp"
#include "redis/layout.hpp"

namespace cache_ext::worker {

struct OutboxRow {
    std::int64_t id;
    redis::Notice notice;
};

/// The number of the last row that anybody has begun to add.
std::int64_t newest_outbox_id();

/// The oldest rows with an id above `after`, `without` those with these ids, in the order of their ids: about as many as make a batch. Rows for which all keys have to
/// be looked through only where `with_scans`.
std::vector<OutboxRow> read_outbox(std::int64_t after, std::vector<std::int64_t> without, bool with_scans);

/// Whether there may be more of them than were read at once.
bool fills_batch(const std::vector<OutboxRow>& rows) noexcept;

void delete_from_outbox(const std::vector<std::int64_t>& ids);

/// Remembers that Redis has acknowledged all messages up to this one; like all numbers of sequences, even if the transaction fails.
void remember_sent(std::uint64_t number);

/// Adds a row that says "everything".
void add_everything_to_outbox();

/// Makes a long outbox shorter, but for what is `being_sent`. How often some of its rows became one.
std::uint64_t shorten_outbox(const std::vector<std::int64_t>& being_sent, std::int64_t most_rows);

/// What is remembered from one start to the next.
struct PushState {
    std::uint64_t reserved = 0;    ///< no message has a number above it
    bool complete = false;         ///< every invalidation since has gone into the outbox
    std::uint64_t generation = 0;  ///< of the values that are put, the last one
    bool has_put = false;          ///< values have been put
    std::int32_t timeline = 0;     ///< of the server's log, when that was written
    std::string runs;              ///< of a cluster's servers, each with a space behind it
    std::uint64_t sent = 0;  ///< of the rows that have left the outbox, the last message; see remember_sent
};
PushState read_push_state();
/// Makes this transaction one whose commit waits for the disk.
void write_push_state(const PushState& state);

}  // namespace cache_ext::worker
