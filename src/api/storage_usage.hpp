#pragma once

// The storage usage under a snapshot: what is written down, and where that cannot be believed, the sum over the table.

#include "api/storage_sums.hpp"
#include "api/storage_tables.hpp"

extern "C" {
#include "utils/snapshot.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

/// Whether what is written down can be believed under this snapshot.
enum class Standing : std::uint8_t {
    kCounted,
    kMarked,        ///< somebody's mark says no
    kNotPopulated,  ///< it has not been computed yet
    kUnknown,       ///< no: written by this transaction and not counted yet, or nobody could write it down
};

/// Sums, and when they last changed.
struct Usage {
    StorageSums sums;
    TimestampTz changed_at;  ///< 0: they have no time
    bool from_sums;          ///< nothing had to be added up
    Standing standing;
};

/// Of one owner, under the active snapshot, by whoever has the lock of the table of objects. The sums are in the current memory context.
Usage read_storage_usage(const StorageTables& tables, std::string_view owner);

/// What is written down of one owner, whether or not it can be believed; nothing of it where it cannot be read.
struct StoredUsage {
    StorageSums sums;
    TimestampTz changed_at;  ///< 0: never
    Standing standing;
};
StoredUsage read_stored_usage(const StorageTables& tables, std::string_view owner);

/// Adds up the table, whose lock the caller has, under a snapshot: one owner's objects or, where that is null, everybody's.
void add_up_objects(const StorageTables& tables, const std::string_view* owner, Snapshot snapshot,
                    StorageSums& sums);

/// Adds what is written down, of one owner or of everybody: totals, deltas, or both.
enum class Written : std::uint8_t { kTotals = 1, kDeltas = 2, kBoth = 3 };
void add_written(const StorageTables& tables, const std::string_view* owner, Snapshot snapshot, Written which,
                 StorageSums& sums, TimestampTz& changed_at);

/// How what is written down stands, for one owner; for everybody where that is null. `populated_at` is when it was computed.
Standing standing_of(const StorageTables& tables, const std::string_view* owner, Snapshot snapshot,
                     TimestampTz& populated_at);

/// Whether any owner is marked.
bool has_storage_marks(const StorageTables& tables, Snapshot snapshot);

/// ERROR where there is no memory.
void add_or_raise(StorageSums& sums, std::string_view owner, std::string_view bucket, int128 bytes,
                  std::int64_t files);

}  // namespace cache_ext::api
