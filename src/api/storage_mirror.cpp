#include "api/storage_mirror.hpp"

#include <algorithm>

#include "api/storage_caller.hpp"
#include "api/storage_deltas.hpp"
#include "pg/subtransaction.hpp"
#include "worker/own_table.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
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

/// What is written into the table: all of it, or one user after the other.
struct Writing {
    Datum arrays[4];
    int only;  ///< the number of a row, from 1; 0: all
};

/// Rows that are there are changed without a look at what else the table wants of new ones.
constexpr char kUpdate[] =
    "UPDATE %s AS s SET total_bytes = u.y, file_count = u.f, buckets = u.b::jsonb, last_calculated_at = "
    "clock_timestamp()"
    " FROM unnest($1, $2, $3, $4) WITH ORDINALITY u (o, y, f, b, n) WHERE s.user_id = u.o::uuid AND ($5 = 0 "
    "OR u.n = $5)";
constexpr char kInsert[] =
    "INSERT INTO %s AS s (user_id, total_bytes, file_count, buckets, last_calculated_at)"
    " SELECT u.o::uuid, u.y, u.f, u.b::jsonb, clock_timestamp()"
    " FROM unnest($1, $2, $3, $4) WITH ORDINALITY u (o, y, f, b, n)"
    " WHERE ($5 = 0 OR u.n = $5) AND NOT EXISTS (SELECT FROM %s t WHERE t.user_id = u.o::uuid)"
    " ON CONFLICT (user_id) DO UPDATE SET total_bytes = excluded.total_bytes,"
    " file_count = excluded.file_count, buckets = excluded.buckets,"
    " last_calculated_at = excluded.last_calculated_at";
constexpr char kEmpty[] =
    "UPDATE %s AS s SET total_bytes = 0, file_count = 0, buckets = '{}', last_calculated_at = "
    "clock_timestamp()"
    " WHERE (s.total_bytes <> 0 OR s.file_count <> 0) AND s.user_id <> ALL ($1::uuid[])";

/// So long is waited for somebody's lock, in milliseconds: users who read wait, too.
constexpr int kMostWait = 100;
/// After so many that were locked the others are not tried.
constexpr int kMostLocked = 4;

void bound_waits() {
    if (LockTimeout == 0 || LockTimeout > kMostWait)
        (void)set_config_option("lock_timeout", psprintf("%d", kMostWait), PGC_USERSET, PGC_S_SESSION,
                                GUC_ACTION_SAVE, true, 0, false);
}

/// `before`: what stands before each statement.
void execute(const char* before, const char* statement, const char* table, const Writing& w) {
    Oid types[] = {TEXTARRAYOID, INT8ARRAYOID, INT8ARRAYOID, TEXTARRAYOID, INT4OID};
    Datum values[] = {w.arrays[0], w.arrays[1], w.arrays[2], w.arrays[3], Int32GetDatum(w.only)};
    // Formats name the table once or twice.
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, before);
    for (const char* at = statement; *at != '\0'; ++at) {
        if (at[0] == '%' && at[1] == 's') {
            appendStringInfoString(&sql, table);
            ++at;
        } else {
            appendStringInfoChar(&sql, *at);
        }
    }
    worker::execute_write(sql.data, 5, types, values);
}

void write_rows(const char* table, const void* context) {
    const Writing& w = *static_cast<const Writing*>(context);
    bound_waits();
    execute("", kUpdate, table, w);
    execute("", kInsert, table, w);
}

void empty_others(const char* table, const void* context) {
    bound_waits();
    execute("", kEmpty, table, *static_cast<const Writing*>(context));
}

/// Null: it is written.
ErrorData* try_to_write(Oid table, worker::WriteTable write, const Writing& writing) {
    return pg::attempt([&] { worker::write_as_owner(table, write, &writing); });
}

bool is_locked(const ErrorData& error) noexcept { return error.sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE; }
bool is_not_taken(const ErrorData& error) noexcept {
    return ERRCODE_TO_CATEGORY(error.sqlerrcode) == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION;
}
/// Whether the table may take another row although it has not taken this one.
bool is_of_a_row(const ErrorData& error) noexcept {
    return is_locked(error) || is_not_taken(error) ||
           ERRCODE_TO_CATEGORY(error.sqlerrcode) == ERRCODE_DATA_EXCEPTION;
}

void warn(const StorageTables& tables, const ErrorData& error) {
    ereport(WARNING, (errcode(error.sqlerrcode),
                      errmsg("could not write to \"%s\": %s", NameStr(tables.usage_table), error.message)));
}

/// Writes what could not be written all at once. `each` is a sum of each of the users.
void write_one_by_one(const StorageTables& tables, Oid table, Writing writing, const BucketSum** each,
                      int count) {
    int locked = 0;
    bool has_warned = false;
    for (int i = 0; i < count; ++i) {
        writing.only = i + 1;
        if (locked < kMostLocked) {
            ErrorData* error = try_to_write(table, write_rows, writing);
            if (error == nullptr || is_not_taken(*error)) continue;
            if (!is_locked(*error)) {
                if (!has_warned) warn(tables, *error);
                has_warned = true;
                if (!is_of_a_row(*error)) return;
                continue;
            }
        }
        each[locked++] = each[i];
    }
    if (locked > 0) remind_of_storage(tables, each, locked);
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
        sums[rows.count - 1] = sums[first];
    }
    if (rows.count == 0 && !all) return;

    const auto array = [](ArrayBuildState* built) { return makeArrayResult(built, CurrentMemoryContext); };
    const Writing writing{{array(rows.users), array(rows.bytes), array(rows.files), array(rows.buckets)}, 0};
    ErrorData* error = try_to_write(table, write_rows, writing);
    if (error != nullptr && !is_of_a_row(*error)) {
        warn(tables, *error);
        return;
    }
    if (error != nullptr) write_one_by_one(tables, table, writing, sums, rows.count);
    if (!all) return;
    error = try_to_write(table, empty_others, writing);
    if (error != nullptr && !is_of_a_row(*error)) warn(tables, *error);
}

ErrorData* try_storage_mirror(Oid table) {
    return pg::attempt([=] {
        worker::write_as_owner(
            table,
            [](const char* name, const void* /*context*/) {
                const auto none = [](Oid type) { return PointerGetDatum(construct_empty_array(type)); };
                const Writing nothing{{none(TEXTOID), none(INT8OID), none(INT8OID), none(TEXTOID)}, 0};
                // Planned only: triggers for statements fire for those, too, that find no row.
                for (const char* statement : {kUpdate, kInsert, kEmpty})
                    execute("EXPLAIN ", statement, name, nothing);
            },
            nullptr);
    });
}

}  // namespace cache_ext::api
