#include "api/storage_deltas.hpp"

#include "api/storage_tables.hpp"
#include "pg/append.hpp"
#include "pg/attach.hpp"
#include "pg/subtransaction.hpp"
#include "pg/testing.hpp"
#include "worker/worker.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// More owners than this in a transaction that failed are marked as everyone.
constexpr int kMarkedOwners = 16;

Datum text_datum(std::string_view text) {
    return PointerGetDatum(cstring_to_text_with_len(text.data(), static_cast<int>(text.size())));
}

/// Room for a row's values. Columns that somebody added after ours stay null.
struct Row {
    Datum* values;
    bool* nulls;

    static Row make(int columns) {
        const auto count = static_cast<Size>(columns);
        Row row{static_cast<Datum*>(palloc0(count * sizeof(Datum))), static_cast<bool*>(palloc(count))};
        std::fill(row.nulls, row.nulls + columns, true);
        return row;
    }
    template <class Column>
    void set(Column column, Datum value) noexcept {
        const auto i = static_cast<std::size_t>(column) - 1;
        values[i] = value;
        nulls[i] = false;
    }
};

void insert(pg::OwnRows& table, const Row& row) {
    HeapTuple tuple = heap_form_tuple(table.description(), row.values, row.nulls);
    table.append(tuple);
    heap_freetuple(tuple);
}

/// As much of a number as fits a column.
std::int64_t piece_of(int128 number) noexcept {
    constexpr int128 kMost = PG_INT64_MAX;
    return static_cast<std::int64_t>(number > kMost ? kMost : (number < -kMost ? -kMost : number));
}

/// Returns how many rows it took.
std::uint32_t insert_deltas(const StorageTables& tables, const StorageSums& sums) {
    pg::testing::fail(pg::testing::Fault::kStorageDeltas);
    std::uint32_t count = 0;
    pg::OwnRows table = pg::OwnRows::open(tables.deltas.table);
    const Row row = Row::make(table.description()->natts);
    Row values = row;
    values.set(SumColumn::kChangedAt, TimestampTzGetDatum(GetCurrentTimestamp()));
    for (const BucketSum& sum : sums) {
        if (sum.is_zero()) continue;
        values.set(SumColumn::kOwner, text_datum(sum.owner()));
        values.set(SumColumn::kBucket, text_datum(sum.bucket()));
        int128 bytes = sum.bytes;
        std::int64_t files = sum.files;
        do {
            const std::int64_t piece = piece_of(bytes);
            values.set(SumColumn::kBytes, Int64GetDatum(piece));
            values.set(SumColumn::kFiles, Int64GetDatum(files));
            insert(table, values);
            bytes -= piece;
            files = 0;
            ++count;
        } while (bytes != 0);
    }
    table.close();
    return count;
}

void insert_marks(const StorageTables& tables, const std::string_view* owners, int count,
                  const char* reason) {
    pg::testing::fail(pg::testing::Fault::kStorageMarks);
    pg::OwnRows table = pg::OwnRows::open(tables.marks.table);
    Row row = Row::make(table.description()->natts);
    row.set(MarkColumn::kReason, CStringGetTextDatum(reason));
    row.set(MarkColumn::kMarkedAt, TimestampTzGetDatum(GetCurrentTimestamp()));
    if (count == 0) insert(table, row);
    for (int i = 0; i < count; ++i) {
        row.set(MarkColumn::kOwner, text_datum(owners[i]));
        insert(table, row);
    }
    table.close();
}

/// The book's place of this database.
std::int32_t own_place() noexcept { return pg::region().storage().place(MyDatabaseId); }

const StorageTables& known_tables() {
    const StorageTables& tables = storage_tables();
    if (tables.unknown)
        ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                        errmsg("the settings of the storage usage are locked")));
    return tables;
}

/// Marks owners, or everyone where `count` is 0.
void mark(const std::string_view* owners, int count, const char* reason) {
    ErrorData* error = pg::attempt([=] {
        const StorageTables& tables = known_tables();
        if (tables.enabled) insert_marks(tables, owners, count, reason);
    });
    if (error == nullptr) {
        want_storage_worker();
        return;
    }
    lose_storage_transaction();
    ereport(WARNING,
            (errcode(error->sqlerrcode),
             errmsg("could not note that the storage usage has to be recomputed: %s", error->message),
             errdetail("Until it is, it is added up for each call.")));
    FreeErrorData(error);
}

/// The owners of these sums; their number, or 0 if there are too many.
int owners_of(const StorageSums& sums, std::string_view (&owners)[kMarkedOwners]) noexcept {
    int count = 0;
    for (const BucketSum& sum : sums) {
        if (std::find(owners, owners + count, sum.owner()) != owners + count) continue;
        if (count == kMarkedOwners) return 0;
        owners[count++] = sum.owner();
    }
    return count;
}

}  // namespace

void write_storage_deltas(const StorageSums& sums) {
    if (std::all_of(sums.begin(), sums.end(), [](const BucketSum& sum) { return sum.is_zero(); })) return;
    std::uint32_t count = 0;
    ErrorData* error = pg::attempt([&] {
        const StorageTables& tables = known_tables();
        if (tables.enabled) count = insert_deltas(tables, sums);
    });
    if (error == nullptr) {
        if (count == 0 || !pg::attached()) return;
        if (pg::region().storage().add_deltas(own_place(), count)) worker::wake_for_storage();
        return;
    }
    ereport(WARNING, (errcode(error->sqlerrcode),
                      errmsg("could not count a change of the storage usage: %s", error->message),
                      errdetail("It is marked, and will be recomputed.")));
    FreeErrorData(error);
    std::string_view owners[kMarkedOwners];
    mark(owners, owners_of(sums, owners), "changes that could not be written down");
}

void want_storage_worker() noexcept {
    if (pg::attached() && pg::region().storage().want(own_place())) worker::wake_for_storage();
}

void lose_storage_transaction() {
    if (!pg::attached()) return;
    pg::region().storage().note_lost(own_place(), U64FromFullTransactionId(GetTopFullTransactionId()));
    want_storage_worker();
}

void remind_of_storage(const StorageTables& tables, const BucketSum* const* sums, int count) {
    ErrorData* error = pg::attempt([=, &tables] {
        pg::OwnRows table = pg::OwnRows::open(tables.deltas.table);
        Row row = Row::make(table.description()->natts);
        row.set(SumColumn::kBytes, Int64GetDatum(0));
        row.set(SumColumn::kFiles, Int64GetDatum(0));
        // Nothing has changed since whenever it did.
        row.set(SumColumn::kChangedAt, TimestampTzGetDatum(0));
        for (int i = 0; i < count; ++i) {
            row.set(SumColumn::kOwner, text_datum(sums[i]->owner()));
            row.set(SumColumn::kBucket, text_datum(sums[i]->bucket()));
            insert(table, row);
        }
        table.close();
    });
    // It is behind until the owner stores something again.
    if (error != nullptr) FreeErrorData(error);
}

void write_storage_mark(const std::string_view* owner, const char* reason) {
    mark(owner, owner == nullptr ? 0 : 1, reason);
}

}  // namespace cache_ext::api
