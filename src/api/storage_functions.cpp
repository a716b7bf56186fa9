// What is asked about storage usage in SQL.

#include "api/storage_caller.hpp"
#include "api/storage_deltas.hpp"
#include "api/storage_mirror.hpp"
#include "api/storage_pending.hpp"
#include "api/storage_recompute.hpp"
#include "api/storage_usage.hpp"
#include "core/hash.hpp"
#include "pg/attach.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// A row of the function's result.
class ResultRow {
public:
    static ResultRow make(FunctionCallInfo fcinfo) {
        ResultRow row;
        if (get_call_result_type(fcinfo, nullptr, &row.description_) != TYPEFUNC_COMPOSITE)
            elog(ERROR, "return type must be a row type");
        row.description_ = BlessTupleDesc(row.description_);
        row.count_ = 0;
        return row;
    }
    void add(Datum value, bool is_null = false) {
        values_[count_] = value;
        nulls_[count_++] = is_null;
    }
    Datum datum() { return HeapTupleGetDatum(heap_form_tuple(description_, values_, nulls_)); }

private:
    static constexpr int kColumns = 8;
    TupleDesc description_;
    Datum values_[kColumns];
    bool nulls_[kColumns];
    int count_;
};

/// A user's id; null where it is no uuid.
void add_user(ResultRow& row, std::string_view user) {
    pg_uuid_t* id = parse_uuid(user);
    row.add(UUIDPGetDatum(id), id == nullptr);
}

/// One owner's sums over all buckets.
struct Total {
    std::int64_t bytes;
    std::int64_t files;
    char* buckets;
};

Total total_of(const StorageSums& sums) {
    const auto** each = static_cast<const BucketSum**>(
        palloc_extended(sizeof(BucketSum*) * static_cast<Size>(sums.count() + 1), MCXT_ALLOC_HUGE));
    int count = 0;
    int128 bytes = 0;
    std::int64_t files = 0;
    for (const BucketSum& sum : sums) {
        bytes += sum.bytes;
        files += sum.files;
        each[count++] = &sum;
    }
    return {clamp_to_bigint(bytes), files, buckets_as_json(each, each + count)};
}

/// Under which reads of a user's usage are counted.
std::uint64_t read_hash(std::string_view user) noexcept { return core::hash_bytes(user, MyDatabaseId); }

/// Whose usage is asked for, as it is kept under.
std::string_view asked_user(FunctionCallInfo fcinfo) { return storage_key(user_argument(fcinfo, 0)); }

void require_user(std::string_view user) {
    if (user.empty()) (void)calling_user();
}

/// What a reader does for the next one, where it may: an owner that is marked is computed anew, everybody by the background worker.
void mend(const StorageTables& tables, std::string_view owner, const Usage& usage) {
    if (usage.from_sums || !tables.counting || !tables.has_tables) return;
    if (usage.standing == Standing::kMarked) {
        (void)recompute_storage(tables, &owner, Waiting::kNo);
    } else if (usage.standing == Standing::kNotPopulated) {
        want_storage_worker();
    }
}

}  // namespace

CACHE_EXT_FUNCTION(get_user_storage_usage) {
    const std::string_view user = asked_user(fcinfo);
    require_user(user);
    const StorageTables tables = lock_storage_objects();
    const Usage usage = read_storage_usage(tables, user);
    mend(tables, user, usage);
    if (usage.from_sums && pg::attached()) pg::region().storage().reads().count(read_hash(user));
    const Total total = total_of(usage.sums);
    ResultRow row = ResultRow::make(fcinfo);
    add_user(row, user);
    row.add(Int64GetDatum(total.bytes));
    row.add(Int64GetDatum(total.files));
    row.add(DirectFunctionCall1(jsonb_in, CStringGetDatum(total.buckets)));
    row.add(BoolGetDatum(usage.from_sums));
    row.add(TimestampTzGetDatum(usage.changed_at));
    return row.datum();
}

CACHE_EXT_FUNCTION(refresh_storage_usage_cache) {
    PreventCommandIfReadOnly("refresh_storage_usage_cache()");
    const std::string_view user = asked_user(fcinfo);
    const StorageTables tables = lock_storage_objects();
    const std::string_view* owner = user.empty() ? nullptr : &user;
    // Where that cannot be done now, whoever can does it.
    if (recompute_storage(tables, owner, Waiting::kYes) != Recomputed::kDone)
        write_storage_mark(owner, "refresh_storage_usage_cache");
    PG_RETURN_VOID();
}

CACHE_EXT_FUNCTION(invalidate_storage_usage_cache) {
    PreventCommandIfReadOnly("invalidate_storage_usage_cache()");
    const std::string_view user = asked_user(fcinfo);
    (void)lock_storage_objects();
    write_storage_mark(user.empty() ? nullptr : &user, "invalidate_storage_usage_cache");
    PG_RETURN_VOID();
}

CACHE_EXT_FUNCTION(get_storage_cache_stats) {
    const std::string_view user = asked_user(fcinfo);
    require_user(user);
    const StorageTables tables = lock_storage_objects();
    const StoredUsage stored = read_stored_usage(tables, user);
    const bool is_known = stored.standing != Standing::kNotPopulated;
    const bool is_cached = stored.standing == Standing::kCounted;
    const Total total = total_of(stored.sums);
    ResultRow row = ResultRow::make(fcinfo);
    add_user(row, user);
    row.add(CStringGetTextDatum(is_cached ? "cached" : (is_known ? "stale" : "none")));
    row.add(TimestampTzGetDatum(stored.changed_at), !is_known || stored.changed_at == 0);
    const double minutes =
        static_cast<double>(GetCurrentTimestamp() - stored.changed_at) / (60.0 * USECS_PER_SEC);
    row.add(Float8GetDatum(std::max(minutes, 0.0)), !is_known || stored.changed_at == 0);
    row.add(BoolGetDatum(is_known && !is_cached));
    row.add(Int64GetDatum(total.bytes), !is_known);
    row.add(Int64GetDatum(total.files), !is_known);
    row.add(Int64GetDatum(pg::attached() ? pg::region().storage().reads().get(read_hash(user)) : 0));
    return row.datum();
}

/// Whether it is known who calls: true, or an error.
CACHE_EXT_FUNCTION(storage_caller_is_known) {
    (void)calling_user();
    PG_RETURN_BOOL(true);
}

}  // namespace cache_ext::api
