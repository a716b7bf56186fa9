#pragma once

// Writing down what a transaction has changed of the storage usage, as it commits. The rows are inserted without a query, so that no constraint, trigger or policy
// that somebody gives the table is in the way, and without waiting for anybody. It fails nobody's transaction: what cannot be written down is marked as unknown,
// in a table or, where even that cannot be, in the region.

#include "api/storage_sums.hpp"
#include "api/storage_tables.hpp"

namespace cache_ext::api {

/// Inserts a delta for each sum that is not zero. A WARNING, and marks, where that fails.
void write_storage_deltas(const StorageSums& sums);

/// Marks the sums of an owner, or of everyone (null), as unknown.
void write_storage_mark(const std::string_view* owner, const char* reason);

/// The last resort: whoever does not see the sums counted anew after this transaction adds up the table, whatever the snapshot. Before the transaction can be visible.
void lose_storage_transaction();

/// Inserts deltas of nothing, so that whoever folds next writes these owners' usage into the application's table again. Fails nobody.
void remind_of_storage(const StorageTables& tables, const BucketSum* const* sums, int count);

/// Has the background worker look after this database's usage.
void want_storage_worker() noexcept;

}  // namespace cache_ext::api
