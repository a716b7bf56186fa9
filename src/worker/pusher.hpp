#pragma once

// The pusher: the process that tells Redis what was invalidated in one database. It stays as long as that is on there, sends the outbox's rows and deletes those
// that Redis acknowledged. Sessions wake it when they commit one, and start it where there is none.

#include <cstdint>

#include "pg/prelude.hpp"

namespace cache_ext::worker {

/// Has one started for this database if Redis is to be told of its invalidations and there is none. Needs a transaction; waits for nothing and raises nothing.
void ensure_pusher() noexcept;

/// The same for who changes the settings, which others see only later: one that finds now that it is not wanted does not count.
void want_pusher() noexcept;

/// Takes note that Redis is not told of this database's invalidations, if so: whoever switches that on later, after a restart, say, finds that it has missed something. Needs a
/// transaction of its own, with a snapshot; waits for nobody, raises nothing but what ends the session.
void note_where_off();

/// The launcher's part: starts those that have ended though they are wanted, in databases that are still there. How long to sleep after it, in milliseconds. May raise.
std::int64_t attend_to_pushers(std::int64_t most_ms, bool (*exists)(std::uint32_t database));

}  // namespace cache_ext::worker
