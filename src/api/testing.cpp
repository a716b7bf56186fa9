// Functions that only the build for tests has. The install script does not name them: a test that needs one creates it.

#ifdef CACHE_EXT_TESTING

#include "api/storage_recompute.hpp"
#include "pg/attach.hpp"
#include "pg/guard.hpp"

namespace cache_ext::api {

/// cache_ext_test_fail_after(bigint): so many more allocations in the region succeed, then none does; negative: all do.
CACHE_EXT_FUNCTION(cache_ext_test_fail_after) {
    if (!pg::attached()) PG_RETURN_BOOL(false);
    pg::region().store().allocator().fail_after(PG_GETARG_INT64(0));
    PG_RETURN_BOOL(true);
}

/// cache_ext_test_check(): whether all that the region holds agrees with itself.
CACHE_EXT_FUNCTION(cache_ext_test_check) {
    PG_RETURN_BOOL(pg::attached() && pg::region().store().check(pg::region().base()));
}

/// cache_ext_test_used_bytes(): the region's memory that is in use.
CACHE_EXT_FUNCTION(cache_ext_test_used_bytes) {
    if (!pg::attached()) PG_RETURN_INT64(0);
    PG_RETURN_INT64(static_cast<std::int64_t>(pg::region().store().usage().used_bytes));
}

/// cache_ext_test_clock(): the newest version of the clock.
CACHE_EXT_FUNCTION(cache_ext_test_clock) {
    if (!pg::attached()) PG_RETURN_INT64(0);
    PG_RETURN_INT64(static_cast<std::int64_t>(pg::region().clock().now()));
}

/// cache_ext_test_tend_storage(): what the background worker does for the storage usage.
CACHE_EXT_FUNCTION(cache_ext_test_tend_storage) {
    tend_storage();
    PG_RETURN_VOID();
}

}  // namespace cache_ext::api

#endif
