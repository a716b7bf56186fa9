#pragma once

// From the server's snapshots to points of the invalidation clock.

#include "core/clock.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// The clock of the active snapshot; 0: there is none that the cache may be used under (no snapshot, or one that may precede the region). A few
/// nanoseconds while the snapshot's content stays the same. Only after `attached()`.
[[nodiscard]] core::Version snapshot_clock();

/// A lower bound of the clock of every snapshot that this backend holds: the birth of a value that was computed under any of them,
/// be it an outer query's or a cursor's.
[[nodiscard]] core::Version fill_clock();

/// The newest version that anyone has taken, where all that was registered up to it is finished for every snapshot that this backend holds, its own
/// transaction counted as finished; otherwise 0. A value that is computed now reflects every invalidation up to it, own writes included.
[[nodiscard]] core::Version settled_newest();

/// Raises the clock's floor, so that the ring may be overrun without loss. Needs a transaction with a snapshot.
void raise_clock_floor();

/// Sees to the transactions that end without telling anyone here, and are over: prepared ones, and those of a server whose log is replayed.
void reap_orphans();

/// Registrations since the floor was raised after which it is time to raise it again.
inline constexpr core::Version kFloorLag = core::Clock::kRing / 4;

/// Forgets what is remembered about snapshots: after a stamp.
void forget_snapshots() noexcept;

/// At the end of a transaction, when this backend holds no snapshot: forgets, and notes which transactions had ended by then.
void end_snapshots() noexcept;

}  // namespace cache_ext::pg
