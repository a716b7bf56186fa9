#pragma once

// Keeping what is written down of the storage usage short and right: folding deltas into totals, and computing totals anew.
//
// Who does either has the lock of storage_state that conflicts with itself, and takes a snapshot only then. So under that snapshot nobody else has moved anything between
// totals and deltas, and whatever commits later has deltas of its own. Locks are taken in the order of those who write: the table of objects first; and all but that
// one only if they are to be had at once.

#include "api/storage_tables.hpp"

namespace cache_ext::api {

/// What became of it.
enum class Recomputed : std::uint8_t {
    kDone,
    kNotNow,  ///< somebody else is at it, or holds a lock; or this transaction cannot: it is READ ONLY, or its snapshot is not a new one
};

/// Whether to wait while somebody else is at it.
enum class Waiting : std::uint8_t { kNo, kYes };

/// Computes the totals anew, by whoever has the lock of the table of objects: of an owner or, where that is null, or where that is not known apart, of everybody. What they were is logged where it was wrong. May scan
/// the table of objects.
Recomputed recompute_storage(const StorageTables& tables, const std::string_view* owner, Waiting waiting);

/// Folds the deltas into the totals, likewise.
Recomputed fold_storage(const StorageTables& tables);

/// What the background worker does for this database: it computes anew what is not known, or folds. In a transaction with an active snapshot.
void tend_storage();

/// Empties what is written down, together with the table of objects. False: that could not be done.
bool truncate_storage_sums();

/// Deletes what is written down. Not needed for what follows to be right.
void forget_storage_sums(const StorageTables& tables);

}  // namespace cache_ext::api
