#include "api/storage_recompute.hpp"

#include "api/storage_mirror.hpp"
#include "api/storage_pending.hpp"
#include "api/storage_usage.hpp"
#include "pg/attach.hpp"
#include "pg/snapshot.hpp"
#include "pg/subtransaction.hpp"
#include "worker/own_table.hpp"

extern "C" {
#include "access/parallel.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"
}

namespace cache_ext::api {

namespace {

constexpr char kStateTable[] = "storage_state";

/// Whether this transaction may do it at all.
bool may_recompute(const StorageTables& tables) {
    return tables.counting && tables.has_tables && !XactReadOnly && !RecoveryInProgress() &&
           !IsInParallelMode() && !IsParallelWorker() && !IsolationUsesXactSnapshot();
}

/// Work on the tables, by whoever has their locks.
struct Work {
    StorageTables tables;  ///< as they were before the snapshot was taken
    const std::string_view* owner;
    void (*run)(Work& work);
    bool done;
};

/// Locks what is written to. False: somebody is in the way.
bool lock_tables(const StorageTables& tables, LOCKMODE mode) {
    return ConditionalLockRelationOid(tables.totals.table, mode) &&
           ConditionalLockRelationOid(tables.deltas.table, mode) &&
           ConditionalLockRelationOid(tables.marks.table, mode);
}

void run_work(const char* /*table*/, const void* context) {
    Work& work = *static_cast<Work*>(const_cast<void*>(context));
    if (storage_tables().fingerprint != work.tables.fingerprint) return;
    if (lock_tables(work.tables, RowExclusiveLock)) work.run(work);
}

Recomputed do_work(Work work) {
    if (!may_recompute(work.tables)) return Recomputed::kNotNow;
    worker::write_own_table(get_namespace_oid("cache_ext_internal", false), kStateTable,
                            ShareUpdateExclusiveLock, run_work, &work);
    return work.done ? Recomputed::kDone : Recomputed::kNotNow;
}

Datum to_numeric(int128 number) {
    char digits[48];
    char* at = digits + sizeof digits - 1;
    const bool is_negative = number < 0;
    *at = '\0';
    do {
        const auto digit = static_cast<int>(number % 10);
        *--at = static_cast<char>('0' + (is_negative ? -digit : digit));
        number /= 10;
    } while (number != 0);
    if (is_negative) *--at = '-';
    return DirectFunctionCall3(numeric_in, CStringGetDatum(at), ObjectIdGetDatum(InvalidOid),
                               Int32GetDatum(-1));
}

const char* to_text(int128 number) {
    return DatumGetCString(DirectFunctionCall1(numeric_out, to_numeric(number)));
}

Datum text_datum(std::string_view text) {
    return PointerGetDatum(cstring_to_text_with_len(text.data(), static_cast<int>(text.size())));
}

/// Rows to be put into the totals, as arrays.
struct Rows {
    ArrayBuildState* owners;
    ArrayBuildState* buckets;
    ArrayBuildState* bytes;
    ArrayBuildState* files;
    int count;

    static Rows make() {
        const auto array = [](Oid type) { return initArrayResult(type, CurrentMemoryContext, false); };
        return {array(TEXTOID), array(TEXTOID), array(NUMERICOID), array(INT8OID), 0};
    }
    void add(const BucketSum& sum) {
        const MemoryContext memory = CurrentMemoryContext;
        accumArrayResult(owners, text_datum(sum.owner()), false, TEXTOID, memory);
        accumArrayResult(buckets, text_datum(sum.bucket()), false, TEXTOID, memory);
        accumArrayResult(bytes, to_numeric(sum.bytes), false, NUMERICOID, memory);
        accumArrayResult(files, Int64GetDatum(sum.files), false, INT8OID, memory);
        ++count;
    }
    void put() {
        Oid types[] = {TEXTARRAYOID, TEXTARRAYOID, NUMERICARRAYOID, INT8ARRAYOID};
        const auto array = [](ArrayBuildState* built) {
            return makeArrayResult(built, CurrentMemoryContext);
        };
        Datum values[] = {array(owners), array(buckets), array(bytes), array(files)};
        worker::execute_write(
            "INSERT INTO cache_ext_internal.storage_totals (owner, bucket, bytes, files, changed_at)"
            " SELECT o, b, y, f, clock_timestamp() FROM unnest($1, $2, $3, $4) u (o, b, y, f)"
            " ON CONFLICT (owner, bucket) DO UPDATE"
            " SET bytes = excluded.bytes, files = excluded.files, changed_at = excluded.changed_at",
            4, types, values);
    }
};

/// Deletes the marks that the snapshot sees: what is marked since stays so.
void delete_marks(const std::string_view* owner, Snapshot snapshot) {
    Oid types[] = {TEXTOID};
    Datum values[] = {owner != nullptr ? text_datum(*owner) : Datum{0}};
    SPIPlanPtr plan =
        SPI_prepare(owner != nullptr ? "DELETE FROM cache_ext_internal.storage_marks WHERE owner = $1"
                                     : "DELETE FROM cache_ext_internal.storage_marks",
                    owner != nullptr ? 1 : 0, types);
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    if (const int result =
            SPI_execute_snapshot(plan, values, nullptr, snapshot, InvalidSnapshot, false, true, 0);
        result < 0)
        elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(result));
}

/// A transaction id that is near the newest, in full.
std::uint64_t widen(TransactionId xid) {
    const std::uint64_t next = U64FromFullTransactionId(ReadNextFullTransactionId());
    return next - static_cast<std::uint32_t>(static_cast<std::uint32_t>(next) - xid);
}

void write_state(const StorageTables& tables, Snapshot snapshot) {
    Oid types[] = {XID8OID, INT8OID};
    Datum values[] = {FullTransactionIdGetDatum(FullTransactionIdFromU64(widen(snapshot->xmin))),
                      Int64GetDatum(tables.fingerprint)};
    worker::execute_write(
        "INSERT INTO cache_ext_internal.storage_state (populated_at, covers, fingerprint) VALUES "
        "(clock_timestamp(), $1, $2)"
        " ON CONFLICT (singleton) DO UPDATE SET populated_at = excluded.populated_at, covers = "
        "excluded.covers,"
        " fingerprint = excluded.fingerprint",
        2, types, values);
}

void log_difference(const BucketSum& is, int128 bytes, std::int64_t files) {
    ereport(LOG, (errmsg("storage usage of \"%.*s\" in bucket \"%.*s\" was wrong and is corrected",
                         static_cast<int>(is.owner().size()), is.owner().data(),
                         static_cast<int>(is.bucket().size()), is.bucket().data()),
                  errdetail("It was off by %s bytes and %lld files.", to_text(bytes - is.bytes),
                            static_cast<long long>(files - is.files))));
}

void recompute(Work& work) {
    const Snapshot snapshot = GetActiveSnapshot();
    if (!storage_rows_are_counted(work.tables.objects)) return;
    TimestampTz unused = 0;
    // Where nobody's is known, it is all or nothing.
    if (work.owner != nullptr && standing_of(work.tables, nullptr, snapshot, unused) != Standing::kCounted)
        work.owner = nullptr;
    Standing standing = standing_of(work.tables, work.owner, snapshot, unused);
    if (work.owner == nullptr && has_storage_marks(work.tables, snapshot)) standing = Standing::kMarked;
    const auto make = [] { return StorageSums::make(CurrentMemoryContext); };

    StorageSums totals = make();
    add_up_objects(work.tables, work.owner, snapshot, totals);
    StorageSums usage = make();
    for (const BucketSum& sum : totals)
        add_or_raise(usage, sum.owner(), sum.bucket(), sum.bytes, sum.files);
    StorageSums later = make();
    add_written(work.tables, work.owner, snapshot, Written::kDeltas, later, unused);
    if (!add_storage_pending(later, work.owner, snapshot->curcid)) return;
    for (const BucketSum& sum : later)
        add_or_raise(totals, sum.owner(), sum.bucket(), -sum.bytes, -sum.files);

    StorageSums before = make();
    add_written(work.tables, work.owner, snapshot, Written::kTotals, before, unused);
    for (const BucketSum& sum : before)
        add_or_raise(totals, sum.owner(), sum.bucket(), 0, 0);
    Rows rows = Rows::make();
    for (const BucketSum& sum : totals) {
        const BucketSum* was = before.find(sum.owner(), sum.bucket());
        const int128 bytes = was != nullptr ? was->bytes : 0;
        const std::int64_t files = was != nullptr ? was->files : 0;
        if (bytes == sum.bytes && files == sum.files) continue;
        if (standing == Standing::kCounted) log_difference(sum, bytes, files);
        rows.add(sum);
        // Whoever has nothing any more is told so too.
        add_or_raise(usage, sum.owner(), sum.bucket(), 0, 0);
    }
    if (rows.count > 0) rows.put();
    delete_marks(work.owner, snapshot);
    if (work.owner == nullptr) write_state(work.tables, snapshot);
    work.done = true;
    mirror_storage_usage(work.tables, usage, work.owner == nullptr);
}

void fold(Work& work) {
    const int result = SPI_execute(
        "WITH gone AS (DELETE FROM cache_ext_internal.storage_deltas RETURNING owner, bucket, bytes, files, "
        "changed_at),"
        " folded AS (INSERT INTO cache_ext_internal.storage_totals AS t (owner, bucket, bytes, files, "
        "changed_at)"
        " SELECT owner, bucket, sum(bytes), sum(files), max(changed_at) FROM gone GROUP BY owner, bucket"
        " ON CONFLICT (owner, bucket) DO UPDATE"
        " SET bytes = t.bytes + excluded.bytes, files = t.files + excluded.files,"
        " changed_at = greatest(t.changed_at, excluded.changed_at) RETURNING owner)"
        " SELECT DISTINCT owner FROM folded",
        false, 0);
    if (result < 0) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
    work.done = true;
    if (SPI_processed == 0) return;
    // The totals of whoever was concerned, as they are now.
    StorageSums usage = StorageSums::make(CurrentMemoryContext);
    SPITupleTable* owners = SPI_tuptable;
    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
    for (std::uint64_t i = 0; i < owners->numvals; ++i) {
        const char* owner = SPI_getvalue(owners->vals[i], owners->tupdesc, 1);
        const std::string_view view{owner};
        TimestampTz unused = 0;
        add_written(work.tables, &view, GetActiveSnapshot(), Written::kBoth, usage, unused);
    }
    PopActiveSnapshot();
    mirror_storage_usage(work.tables, usage, false);
}

void tend(Work& work) {
    const Snapshot snapshot = GetActiveSnapshot();
    TimestampTz populated_at = 0;
    const bool is_known = standing_of(work.tables, nullptr, snapshot, populated_at) == Standing::kCounted &&
                          !has_storage_marks(work.tables, snapshot);
    (is_known ? fold : recompute)(work);
}

}  // namespace

Recomputed recompute_storage(const StorageTables& tables, const std::string_view* owner, Waiting waiting) {
    if (waiting == Waiting::kYes && may_recompute(tables))
        LockRelationOid(tables.state, ShareUpdateExclusiveLock);
    return do_work({tables, owner, recompute, false});
}

Recomputed fold_storage(const StorageTables& tables) { return do_work({tables, nullptr, fold, false}); }

void tend_storage() {
    if (!storage_tables().enabled || !may_recompute(storage_tables())) return;
    (void)do_work({lock_storage_objects(), nullptr, tend, false});
}

bool truncate_storage_sums() {
    bool done = false;
    ErrorData* error = pg::attempt([&] {
        const StorageTables& tables = storage_tables();
        if (!tables.has_tables || !lock_tables(tables, AccessExclusiveLock)) return;
        worker::write_as_owner(
            tables.totals.table,
            [](const char* /*table*/, const void* /*context*/) {
                worker::execute_write(
                    "TRUNCATE ONLY cache_ext_internal.storage_totals, ONLY cache_ext_internal.storage_deltas,"
                    " ONLY cache_ext_internal.storage_marks");
            },
            nullptr);
        done = true;
    });
    if (error == nullptr) return done;
    ereport(WARNING, (errcode(error->sqlerrcode),
                      errmsg("could not empty the storage usage with the table: %s", error->message),
                      errdetail("It is marked, and will be recomputed.")));
    FreeErrorData(error);
    return false;
}

void forget_storage_sums(const StorageTables& tables) {
    if (!tables.has_tables) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the tables that storage usage is kept in are not as they were made"),
                        errhint("Create the extension anew.")));
    }
    worker::write_as_owner(
        tables.totals.table,
        [](const char* /*table*/, const void* /*context*/) {
            worker::execute_write("DELETE FROM cache_ext_internal.storage_state");
            worker::execute_write("DELETE FROM cache_ext_internal.storage_totals");
            worker::execute_write("DELETE FROM cache_ext_internal.storage_deltas");
            worker::execute_write("DELETE FROM cache_ext_internal.storage_marks");
        },
        nullptr);
}

}  // namespace cache_ext::api
