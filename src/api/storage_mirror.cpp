#include "api/storage_mirror.hpp"

#include <algorithm>

#include "api/storage_caller.hpp"
#include "pg/subtransaction.hpp"
#include "worker/own_table.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
}

namespace cache_ext::api {

namespace {

/// The rows to be written, as arrays of one element for each user.
struct Rows {
    ArrayBuildState* users;
    ArrayBuildState* bytes;
    ArrayBuildState* files;
    ArrayBuildState* buckets;
    int count;

    static Rows make() {
        const auto array = [](Oid type) { return initArrayResult(type, CurrentMemoryContext, false); };
        return {array(TEXTOID), array(INT8OID), array(INT8OID), array(TEXTOID), 0};
    }
};

/// Adds the user whose sums these are.
void add_user(Rows& rows, const BucketSum* const* begin, const BucketSum* const* end) {
    const MemoryContext memory = CurrentMemoryContext;
    const std::string_view owner = (*begin)->owner();
    int128 bytes = 0;
    std::int64_t files = 0;
    for (const BucketSum* const* at = begin; at != end; ++at) {
        bytes += (*at)->bytes;
        files += (*at)->files;
    }
    accumArrayResult(rows.users,
                     PointerGetDatum(cstring_to_text_with_len(owner.data(), static_cast<int>(owner.size()))),
                     false, TEXTOID, memory);
    accumArrayResult(rows.bytes, Int64GetDatum(clamp_to_bigint(bytes)), false, INT8OID, memory);
    accumArrayResult(rows.files, Int64GetDatum(files), false, INT8OID, memory);
    accumArrayResult(rows.buckets, CStringGetTextDatum(buckets_as_json(begin, end)), false, TEXTOID, memory);
    ++rows.count;
}

/// What is written into the table, and where: all of it, or one user after the other.
struct Writing {
    Datum arrays[4];
    int only;  ///< the number of a row, from 1; 0: all
    bool all;
};

void write_rows(const char* table, const void* context) {
    const Writing& w = *static_cast<const Writing*>(context);
    Oid types[] = {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT4OID};
    Datum values[] = {w.arrays[0], w.arrays[1], w.arrays[2], w.arrays[3], Int32GetDatum(w.only)};
    worker::execute_write(
        psprintf("INSERT INTO %s AS s (user_id, total_bytes, file_count, buckets, last_calculated_at)"
                 " SELECT o::uuid, y, f, b::jsonb, clock_timestamp()"
                 " FROM unnest($1, $2, $3, $4) WITH ORDINALITY u (o, y, f, b, n) WHERE $5 = 0 OR n = $5"
                 " ON CONFLICT (user_id) DO UPDATE SET total_bytes = excluded.total_bytes,"
                 " file_count = excluded.file_count, buckets = excluded.buckets,"
                 " last_calculated_at = excluded.last_calculated_at",
                 table),
        5, types, values);
    if (!w.all) return;
    worker::execute_write(
        psprintf("UPDATE %s SET total_bytes = 0, file_count = 0, buckets = '{}', last_calculated_at = "
                 "clock_timestamp()"
                 " WHERE (total_bytes <> 0 OR file_count <> 0) AND user_id <> ALL ($1::uuid[])",
                 table),
        1, types, values);
}

/// Null: it is written.
ErrorData* try_to_write(Oid table, const Writing& writing) {
    return pg::attempt([&] { worker::write_as_owner(table, write_rows, &writing); });
}

}  // namespace

std::int64_t clamp_to_bigint(int128 number) noexcept {
    if (number > PG_INT64_MAX) return PG_INT64_MAX;
    return number < PG_INT64_MIN ? PG_INT64_MIN : static_cast<std::int64_t>(number);
}

char* buckets_as_json(const BucketSum* const* begin, const BucketSum* const* end) {
    StringInfoData json;
    initStringInfo(&json);
    appendStringInfoChar(&json, '{');
    for (const BucketSum* const* at = begin; at != end; ++at) {
        const BucketSum& sum = **at;
        if (sum.files == 0) continue;
        if (json.len > 1) appendStringInfoString(&json, ", ");
        escape_json(&json, pnstrdup(sum.bucket().data(), sum.bucket().size()));
        appendStringInfo(&json, ": {\"total_bytes\": %lld, \"file_count\": %lld}",
                         static_cast<long long>(clamp_to_bigint(sum.bytes)),
                         static_cast<long long>(sum.files));
    }
    appendStringInfoChar(&json, '}');
    return json.data;
}

void mirror_storage_usage(const StorageTables& tables, const StorageSums& usage, bool all) {
    if (NameStr(tables.usage_table)[0] == '\0') return;
    const Oid schema = get_namespace_oid(NameStr(tables.usage_schema), true);
    const Oid table =
        OidIsValid(schema) ? get_relname_relid(NameStr(tables.usage_table), schema) : InvalidOid;
    if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_RELATION ||
        !ConditionalLockRelationOid(table, RowExclusiveLock))
        return;

    const auto** sums = static_cast<const BucketSum**>(
        palloc_extended(sizeof(BucketSum*) * static_cast<Size>(usage.count() + 1), MCXT_ALLOC_HUGE));
    int count = 0;
    for (const BucketSum& sum : usage) {
        // Users of the application have ids.
        if (parse_uuid(sum.owner()) != nullptr) sums[count++] = &sum;
    }
    std::sort(sums, sums + count, [](const BucketSum* a, const BucketSum* b) {
        return a->owner() != b->owner() ? a->owner() < b->owner() : a->bucket() < b->bucket();
    });
    Rows rows = Rows::make();
    for (int i = 0; i < count;) {
        const int first = i;
        while (i < count && sums[i]->owner() == sums[first]->owner())
            ++i;
        add_user(rows, sums + first, sums + i);
    }
    if (rows.count == 0 && !all) return;

    const auto array = [](ArrayBuildState* built) { return makeArrayResult(built, CurrentMemoryContext); };
    Writing writing{{array(rows.users), array(rows.bytes), array(rows.files), array(rows.buckets)}, 0, all};
    ErrorData* error = try_to_write(table, writing);
    for (int i = 1; i <= rows.count && error != nullptr; ++i) {
        if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION) {
            ereport(WARNING,
                    (errcode(error->sqlerrcode),
                     errmsg("could not write to \"%s\": %s", NameStr(tables.usage_table), error->message)));
            return;
        }
        // One of them is of a user who is gone.
        writing.only = i;
        writing.all = all && i == 1;
        if (ErrorData* again = try_to_write(table, writing); again != nullptr) error = again;
    }
}

}  // namespace cache_ext::api
