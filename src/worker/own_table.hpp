#pragma once

// Writing to tables of the extension's own, for whoever happens to run what writes there.

#include "pg/prelude.hpp"

extern "C" {
#include "storage/lockdefs.h"
}

namespace cache_ext::worker {

/// A table of the extension's in this schema, locked; InvalidOid: there is none, or somebody holds a lock that conflicts.
Oid open_own_table(Oid schema, const char* name, LOCKMODE lock);

/// Calls `write(name, context)` with the table's qualified name, under its owner's rights, in a subtransaction of its own that is connected to SPI. Where that
/// cannot be done at once (somebody has locked the table, or has changed it), it is left out: a WARNING at most. Needs a transaction that may write.
using WriteTable = void (*)(const char* name, const void* context);
void write_own_table(Oid schema, const char* name, LOCKMODE lock, WriteTable write, const void* context);

/// The same in the caller's subtransaction, for one who has the locks that are needed. ERROR where it fails.
void write_as_owner(Oid table, WriteTable write, const void* context);

/// A statement of such a write. ERROR where it fails.
void execute_write(const char* sql, int count = 0, Oid* types = nullptr, Datum* values = nullptr);

}  // namespace cache_ext::worker
