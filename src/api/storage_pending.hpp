#pragma once

// What this transaction has changed of the storage usage. It is kept in memory, by savepoint, and written into storage_deltas as the transaction commits: one
// row for each owner and bucket, whatever the number of its statements, and one subtransaction id. Nobody's row is updated, so no upload waits for another.
//
// A row is counted when its trigger fires, after its statement has written more, perhaps: so whoever reads in between asks whether all that the server says
// was written has been counted, and adds up the table where it has not.

#include "api/storage_shape.hpp"
#include "api/storage_sums.hpp"

namespace cache_ext::api {

/// Counts a row that was written by this command. `before` and `after` are what it added to the usage, null where it was not there. Raises nothing.
void count_storage_row(const Share* before, const Share* after, CommandId command) noexcept;

/// The table was truncated, and what is written down of it with it. `done` false: the latter could not be.
void count_storage_truncated(bool done) noexcept;

/// A row could not be counted: nobody may believe the sums who sees this transaction.
void lose_storage_row() noexcept;

/// Whether everything that this transaction has written to the table of objects is counted.
bool storage_rows_are_counted(Oid objects);

/// Adds what this transaction has counted as a snapshot of this command sees it; of one owner, or of all where that is null. False: that is not known any more.
bool add_storage_pending(StorageSums& sums, const std::string_view* owner, CommandId command) noexcept;

/// Whether there is anything of that.
bool has_storage_pending(const std::string_view* owner) noexcept;

/// Registers the callbacks. Called once, from _PG_init, after all others.
void init_storage_pending();

}  // namespace cache_ext::api
