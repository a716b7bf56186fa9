#pragma once

// The background worker: started for one database, it sweeps, keeps the log and the clock's floor, or warms, and goes again. Where the library is preloaded a
// launcher starts it; where it is not, or while the launcher is gone, sessions do as they commit.

#include "core/duties.hpp"
#include "pg/prelude.hpp"

extern "C" {
#include "postmaster/bgworker.h"
}

namespace cache_ext::worker {

/// A transaction of a worker's, with an active snapshot.
void begin(const char* activity);
void commit();

/// Says that this process is one of the extension's own, whose transactions start no worker.
void mark_as_worker() noexcept;

/// A setting of this process alone.
void set_for_worker(const char* name, const char* value);

/// What becomes of an attempt to start a worker.
enum class Start : std::uint8_t { kStarted, kNotNow, kNoSlot };

/// Starts a worker for the database in this place, if a sweep is due and one may be started; waits for nothing. `notify` is a process to be
/// woken when it ends, or 0. Only after `attached()`.
Start start(std::int32_t place, std::int32_t notify) noexcept;

/// Starts a worker that warms a database, whatever is due there; the extension need not be there. `handle`: if given, to be freed, it tells how that goes. Fails as `start`.
Start start_warming(Oid database, std::int32_t notify, BackgroundWorkerHandle** handle = nullptr) noexcept;

/// Starts a worker that sees to a database's storage usage. Fails as `start`.
Start start_for_storage(Oid database, std::int32_t notify) noexcept;

/// Wakes whoever starts workers, since this database's storage usage wants one. Neither raises nor waits.
void wake_for_storage() noexcept;

/// The same once this transaction has committed.
void want_for_storage() noexcept;

/// Starts a worker that looks after the queues of this session's database. Fails as `start`.
Start start_queue_keeper() noexcept;

/// The time between two sweeps, in microseconds.
core::Timestamp interval() noexcept;

/// How the background work is done at present: "running" (a worker is at work), "idle" (the launcher waits), "on demand" (sessions start a
/// worker when one is needed), "off" (there is no cache, or the server may have no background workers).
const char* state() noexcept;

/// Registers the launcher where the library is being preloaded, and what sessions do elsewhere. Called once, from _PG_init.
void init_worker();

}  // namespace cache_ext::worker
