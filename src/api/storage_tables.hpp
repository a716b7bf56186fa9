#pragma once

// Which table's objects are counted, and where: looked up once, and again when any of these tables changes.
//
// The table of objects is the one that has our triggers, whatever it is called by now.

#include "api/storage_shape.hpp"

namespace cache_ext::api {

/// The columns of storage_totals and of storage_deltas, which are alike, of storage_marks and of storage_state.
enum class SumColumn : AttrNumber { kOwner = 1, kBucket, kBytes, kFiles, kChangedAt };
enum class MarkColumn : AttrNumber { kOwner = 1, kReason, kMarkedAt };
enum class StateColumn : AttrNumber { kSingleton = 1, kPopulatedAt, kCovers, kFingerprint };

/// A table and the index on its owners. Without a table (it is gone, or is not what it was) nothing is read or written; without an index it is only slower.
struct OwnedTable {
    Oid table;
    Oid index;
};

struct StorageTables {
    bool enabled;     ///< there is a table whose objects are to be counted, and this extension counts them
    bool unknown;     ///< somebody's lock is in the way of finding that out
    bool counting;    ///< its triggers are in place, so that the sums may be believed
    bool has_tables;  ///< and so are the tables that the sums are kept in
    Oid objects;
    ObjectShape shape;
    OwnedTable totals;
    OwnedTable deltas;
    OwnedTable marks;
    Oid state;
    std::int64_t
        fingerprint;  ///< of the definitions that decide what is counted: what was computed under others is not believed
    NameData usage_schema;  ///< the table for the application; empty: there is none
    NameData usage_table;
};

namespace detail {
extern StorageTables storage_tables;
extern bool storage_tables_valid;
const StorageTables& look_storage_tables_up();
}  // namespace detail

/// A check of a bool, unless something changed: then a look-up that may raise and needs a transaction. The reference stays, its content changes.
inline const StorageTables& storage_tables() {
    return detail::storage_tables_valid ? detail::storage_tables : detail::look_storage_tables_up();
}

/// The same, with the table of objects locked as whoever reads it locks it: before any other table, as those do who write it. ERROR where nothing is counted.
const StorageTables& lock_storage_objects();

/// Makes all sessions look again: what is counted has changed.
void announce_storage_tables();

inline constexpr char kStorageSettings[] = "storage_settings";
inline constexpr char kStorageRowTrigger[] = "0_cache_ext_storage_change";
inline constexpr char kStorageTruncateTrigger[] = "0_cache_ext_storage_truncate";

/// The function of the triggers; InvalidOid where there is no such extension.
Oid storage_trigger_function();

/// Registers for invalidation. Called once, from _PG_init.
void init_storage_tables();

}  // namespace cache_ext::api
