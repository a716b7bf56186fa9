#include "api/storage_usage.hpp"

#include "api/storage_pending.hpp"
#include "pg/attach.hpp"
#include "pg/subtransaction.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "executor/tuptable.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"
}

namespace cache_ext::api {

namespace {

/// Rows between two looks at the interrupts.
constexpr std::uint64_t kBatch = 1024;

int128 to_int128(Datum numeric) {
    const char* at = DatumGetCString(DirectFunctionCall1(numeric_out, numeric));
    const bool is_negative = *at == '-';
    if (is_negative) ++at;
    int128 number = 0;
    for (; *at >= '0' && *at <= '9'; ++at)
        number = number * 10 + (*at - '0');
    return is_negative ? -number : number;
}

/// A scan over the rows of an owner, of everybody where that is null, or those that have no owner.
class OwnedScan {
public:
    enum class Of : std::uint8_t { kOwner, kAll, kNobody };

    OwnedScan(const OwnedTable& table, const std::string_view* owner, Of of, Snapshot snapshot) {
        // Nobody who reads waits for whoever works on the tables.
        if (!ConditionalLockRelationOid(table.table, AccessShareLock)) {
            ereport(ERROR,
                    (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("a table that usage is kept in is locked")));
        }
        relation_ = table_open(table.table, NoLock);
        ScanKeyData key;
        if (of == Of::kNobody) {
            ScanKeyEntryInitialize(&key, SK_ISNULL | SK_SEARCHNULL, 1, InvalidStrategy, InvalidOid,
                                   InvalidOid, InvalidOid, Datum{0});
        } else if (of == Of::kOwner) {
            text* value = cstring_to_text_with_len(owner->data(), static_cast<int>(owner->size()));
            ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
                                   PointerGetDatum(value));
        }
        const int keys = of == Of::kAll ? 0 : 1;
        const bool by_index =
            keys > 0 && OidIsValid(table.index) && ConditionalLockRelationOid(table.index, AccessShareLock);
        // A scan of the heap knows no search for nulls.
        by_hand_ = of == Of::kNobody && !by_index;
        scan_ = systable_beginscan(relation_, table.index, by_index, snapshot, by_hand_ ? 0 : keys, &key);
        if (by_index) UnlockRelationOid(table.index, AccessShareLock);
    }

    HeapTuple next() {
        for (;;) {
            HeapTuple row = systable_getnext(scan_);
            if (!HeapTupleIsValid(row) || !by_hand_ || heap_attisnull(row, 1, RelationGetDescr(relation_)))
                return row;
        }
    }

    template <class Column>
    Datum get(HeapTuple row, Column column, bool& is_null) {
        return heap_getattr(row, static_cast<int>(column), RelationGetDescr(relation_), &is_null);
    }

    void close() {
        systable_endscan(scan_);
        table_close(relation_, AccessShareLock);
    }

private:
    Relation relation_;
    SysScanDesc scan_;
    bool by_hand_;
};

std::string_view text_view(Datum value) {
    const text* t = DatumGetTextPP(value);
    return {VARDATA_ANY(t), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(t))};
}

void add_table(const OwnedTable& table, bool is_numeric, const std::string_view* owner, Snapshot snapshot,
               StorageSums& sums, TimestampTz& changed_at) {
    OwnedScan scan(table, owner, owner == nullptr ? OwnedScan::Of::kAll : OwnedScan::Of::kOwner, snapshot);
    std::uint64_t rows = 0;
    while (HeapTuple row = scan.next()) {
        if (++rows % kBatch == 0) CHECK_FOR_INTERRUPTS();
        bool is_null[5];
        const Datum of = scan.get(row, SumColumn::kOwner, is_null[0]);
        const Datum bucket = scan.get(row, SumColumn::kBucket, is_null[1]);
        const Datum bytes = scan.get(row, SumColumn::kBytes, is_null[2]);
        const Datum files = scan.get(row, SumColumn::kFiles, is_null[3]);
        const Datum at = scan.get(row, SumColumn::kChangedAt, is_null[4]);
        if (is_null[0] || is_null[1] || is_null[2] || is_null[3]) {
            ereport(ERROR,
                    (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a table that usage is kept in holds a null")));
        }
        add_or_raise(sums, text_view(of), text_view(bucket),
                     is_numeric ? to_int128(bytes) : int128{DatumGetInt64(bytes)}, DatumGetInt64(files));
        if (!is_null[4]) changed_at = std::max(changed_at, DatumGetTimestampTz(at));
    }
    scan.close();
}

bool has_mark(const OwnedTable& marks, const std::string_view* owner, OwnedScan::Of of, Snapshot snapshot) {
    OwnedScan scan(marks, owner, of, snapshot);
    const bool found = HeapTupleIsValid(scan.next());
    scan.close();
    return found;
}

/// Reads when the sums were computed, and which transactions they cover for certain. False: they were not, or of something else.
bool read_state(const StorageTables& tables, Snapshot snapshot, TimestampTz& populated_at,
                std::uint64_t& covers) {
    OwnedScan scan({tables.state, InvalidOid}, nullptr, OwnedScan::Of::kAll, snapshot);
    HeapTuple row = scan.next();
    bool found = HeapTupleIsValid(row);
    if (found) {
        bool is_null = true;
        populated_at = DatumGetTimestampTz(scan.get(row, StateColumn::kPopulatedAt, is_null));
        if (is_null) populated_at = 0;
        covers =
            U64FromFullTransactionId(DatumGetFullTransactionId(scan.get(row, StateColumn::kCovers, is_null)));
        if (is_null) covers = 0;
        found = DatumGetInt64(scan.get(row, StateColumn::kFingerprint, is_null)) == tables.fingerprint &&
                !is_null;
    }
    scan.close();
    return found;
}

/// Whether what is written down can be believed; then it is in `usage`.
bool read_sums(const StorageTables& tables, std::string_view owner, Snapshot snapshot, Usage& usage) {
    TimestampTz populated_at = 0;
    usage.standing = standing_of(tables, &owner, snapshot, populated_at);
    if (usage.standing != Standing::kCounted) return false;
    usage.changed_at = 0;
    add_written(tables, &owner, snapshot, Written::kBoth, usage.sums, usage.changed_at);
    if (!add_storage_pending(usage.sums, &owner, snapshot->curcid)) return false;
    if (has_storage_pending(&owner)) usage.changed_at = GetCurrentTimestamp();
    if (usage.changed_at == 0) usage.changed_at = populated_at;
    return true;
}

}  // namespace

void add_or_raise(StorageSums& sums, std::string_view owner, std::string_view bucket, int128 bytes,
                  std::int64_t files) {
    if (!sums.add(owner, bucket, bytes, files))
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

void add_up_objects(const StorageTables& tables, const std::string_view* owner, Snapshot snapshot,
                    StorageSums& sums) {
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext object", ALLOCSET_DEFAULT_SIZES);
    Relation objects = table_open(tables.objects, NoLock);
    TupleTableSlot* row = table_slot_create(objects, nullptr);
    TableScanDesc scan = table_beginscan(objects, snapshot, 0, nullptr);
    std::uint64_t rows = 0;
    while (table_scan_getnextslot(scan, ForwardScanDirection, row)) {
        if (++rows % kBatch == 0) CHECK_FOR_INTERRUPTS();
        MemoryContext before = MemoryContextSwitchTo(scratch);
        const Share share = share_of(tables.shape, row);
        if (share.owned && (owner == nullptr || share.owner == *owner))
            add_or_raise(sums, share.owner, share.bucket_key, share.bytes, 1);
        MemoryContextSwitchTo(before);
        MemoryContextReset(scratch);
    }
    table_endscan(scan);
    ExecDropSingleTupleTableSlot(row);
    table_close(objects, NoLock);
    MemoryContextDelete(scratch);
}

void add_written(const StorageTables& tables, const std::string_view* owner, Snapshot snapshot, Written which,
                 StorageSums& sums, TimestampTz& changed_at) {
    if (which != Written::kDeltas) add_table(tables.totals, true, owner, snapshot, sums, changed_at);
    if (which != Written::kTotals) add_table(tables.deltas, false, owner, snapshot, sums, changed_at);
}

Standing standing_of(const StorageTables& tables, const std::string_view* owner, Snapshot snapshot,
                     TimestampTz& populated_at) {
    if (!tables.counting || !tables.has_tables) return Standing::kUnknown;
    std::uint64_t covers = 0;
    if (!read_state(tables, snapshot, populated_at, covers)) return Standing::kNotPopulated;
    // After the snapshot was taken: whoever it sees had told by then.
    if (pg::attached()) {
        core::StorageBook& book = pg::region().storage();
        const std::uint64_t lost = book.lost(book.place(MyDatabaseId));
        if (lost != 0 && covers <= lost) return Standing::kUnknown;
    }
    if (has_mark(tables.marks, nullptr, OwnedScan::Of::kNobody, snapshot) ||
        (owner != nullptr && has_mark(tables.marks, owner, OwnedScan::Of::kOwner, snapshot)))
        return Standing::kMarked;
    return storage_rows_are_counted(tables.objects) ? Standing::kCounted : Standing::kUnknown;
}

bool has_storage_marks(const StorageTables& tables, Snapshot snapshot) {
    return has_mark(tables.marks, nullptr, OwnedScan::Of::kAll, snapshot);
}

namespace {

/// Runs what reads our tables. False: it failed, and nobody else is to fail of that.
template <class Read>
bool try_to_read(Read&& read) {
    // While a parallel plan runs there are no subtransactions.
    if (IsInParallelMode()) {
        read();
        return true;
    }
    ErrorData* error = pg::attempt(read);
    if (error == nullptr) return true;
    // A lock that somebody holds is nothing to be told of.
    if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE) {
        ereport(WARNING, (errcode(error->sqlerrcode),
                          errmsg("could not read the storage usage that is written down: %s", error->message),
                          errdetail("It is added up.")));
    }
    FreeErrorData(error);
    return false;
}

}  // namespace

Usage read_storage_usage(const StorageTables& tables, std::string_view owner) {
    const Snapshot snapshot = GetActiveSnapshot();
    Usage usage{StorageSums::make(CurrentMemoryContext), 0, false, Standing::kUnknown};
    const auto read = [&] { usage.from_sums = read_sums(tables, owner, snapshot, usage); };
    if (!try_to_read(read)) usage.from_sums = false;
    if (!usage.from_sums) {
        usage.sums = StorageSums::make(CurrentMemoryContext);
        usage.changed_at = GetCurrentStatementStartTimestamp();
        add_up_objects(tables, &owner, snapshot, usage.sums);
    }
    return usage;
}

StoredUsage read_stored_usage(const StorageTables& tables, std::string_view owner) {
    const Snapshot snapshot = GetActiveSnapshot();
    StoredUsage stored{StorageSums::make(CurrentMemoryContext), 0, Standing::kNotPopulated};
    if (!tables.has_tables) return stored;
    const auto read = [&] {
        TimestampTz populated_at = 0;
        stored.standing = standing_of(tables, &owner, snapshot, populated_at);
        if (stored.standing == Standing::kNotPopulated) return;
        add_written(tables, &owner, snapshot, Written::kBoth, stored.sums, stored.changed_at);
        if (!add_storage_pending(stored.sums, &owner, snapshot->curcid)) stored.standing = Standing::kUnknown;
        if (has_storage_pending(&owner)) stored.changed_at = GetCurrentTimestamp();
        if (stored.changed_at == 0) stored.changed_at = populated_at;
    };
    if (!try_to_read(read)) stored = {StorageSums::make(CurrentMemoryContext), 0, Standing::kNotPopulated};
    return stored;
}

}  // namespace cache_ext::api
