#pragma once

// The table storage_usage, which the application may read: a copy of the sums, some time behind. Nothing here ever reads it.

#include "api/storage_sums.hpp"
#include "api/storage_tables.hpp"

namespace cache_ext::api {

/// Writes these owners' usage, with the rights of the table's owner and nobody else's; `all`: whoever is not among them has none. Rows that the table does not take
/// (the user is gone) are left out; a WARNING where it takes none at all. Nobody waits long for a row that somebody has locked: it is written with the next fold.
void mirror_storage_usage(const StorageTables& tables, const StorageSums& usage, bool all);

/// Whether the table can be written to as that is done, as far as can be said without a row. Null, or why not.
[[nodiscard]] ErrorData* try_storage_mirror(Oid table);

/// The sums of one owner, in order, as the column "buckets" has them; those without files are left out.
char* buckets_as_json(const BucketSum* const* begin, const BucketSum* const* end);

/// The nearest number that a bigint can be.
std::int64_t clamp_to_bigint(int128 number) noexcept;

}  // namespace cache_ext::api
