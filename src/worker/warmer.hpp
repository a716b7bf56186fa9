#pragma once

// Warming by a background worker: it computes what was used most before somebody asks for it.

#include <cstdint>

namespace cache_ext::worker {

enum class Warmth : std::uint8_t {
    kAll,    ///< all that was used and is not fresh: after a start
    kStale,  ///< what is in its grace
};

/// Whether somebody is about to drop or to copy the database that this worker is in. In a transaction.
bool is_wanted_by_others();

/// Warms the database that this worker is in, an entry a transaction, within cache_ext.warm_rate. Ends early where somebody waits for the database. How many
/// entries were computed.
int warm(Warmth which);

/// The launcher's part after a start: has one database after the other warmed, those that allow connections. How long to sleep after it, in milliseconds.
std::int64_t attend_to_warming(std::int64_t busy_ms, std::int64_t most_ms);

}  // namespace cache_ext::worker
