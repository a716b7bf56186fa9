#include "worker/outbox.hpp"

#include <algorithm>

#include "pg/append.hpp"
#include "pg/guard.hpp"
#include "pg/outbox.hpp"
#include "pg/utf8.hpp"

extern "C" {
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace cache_ext::worker {

namespace {

/// What one batch holds at most; a single row may hold more.
constexpr std::size_t kRows = 1000;
constexpr std::size_t kNames = 20'000;

/// From so many waiting rows on, they are compacted. More names than this in one compacted row become "everything".
constexpr std::int64_t kCompactFrom = 2000;
constexpr std::int64_t kMostNames = 100'000;

/// Runs a statement whose plan is made once. `plan` is the statement's own.
void execute(SPIPlanPtr& plan, const char* sql, int count, Oid* types, Datum* values, bool read_only) {
    if (plan == nullptr) {
        SPIPlanPtr made = SPI_prepare(sql, count, types);
        if (made == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
        SPI_keepplan(made);
        plan = made;
    }
    if (const int result = SPI_execute_plan(plan, values, nullptr, read_only, 0); result < 0)
        elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
}

Datum id_array(const std::vector<std::int64_t>& ids) {
    auto* const values = static_cast<Datum*>(palloc(sizeof(Datum) * (ids.size() + 1)));
    for (std::size_t i = 0; i < ids.size(); ++i)
        values[i] = Int64GetDatum(ids[i]);
    return PointerGetDatum(construct_array(values, static_cast<int>(ids.size()), INT8OID, sizeof(int64),
                                           FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/// The first column of the first row as a number; `otherwise` where there is none.
std::int64_t result_number(std::int64_t otherwise) {
    if (SPI_processed == 0) return otherwise;
    bool is_null = true;
    const Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &is_null);
    return is_null ? otherwise : DatumGetInt64(value);
}

/// The outbox in the order of its ids, without SQL: it is looked at after each commit, and to start a query took more of the sender's time than what it finds.
class OpenOutbox {
public:
    using Column = pg::OutboxColumn;

    explicit OpenOutbox(LOCKMODE lock) {
        const Oid table = pg::find_own_table(pg::kOutbox);
        const Oid index = pg::find_own_table("redis_outbox_by_id");
        if (!OidIsValid(table) || !OidIsValid(index))
            ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                            errmsg("table \"%s\" or its index does not exist", pg::kOutbox)));
        table_ = table_open(table, lock);
        if (table_->rd_rel->relkind != RELKIND_RELATION || table_->rd_rel->relam != HEAP_TABLE_AM_OID ||
            RelationGetNumberOfAttributes(table_) != static_cast<int>(Column::kCount))
            ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                            errmsg("table \"%s\" is not as it was made", pg::kOutbox)));
        index_ = index_open(index, lock);
    }

    /// Its locks are held until the transaction's end.
    void close() {
        index_close(index_, NoLock);
        table_close(table_, NoLock);
    }

    /// Begins with the first row whose id is greater than this, or equal to it.
    void search(StrategyNumber strategy, std::int64_t id) {
        ScanKeyData key;
        ScanKeyInit(&key, number(Column::kId), strategy,
                    strategy == BTEqualStrategyNumber ? F_INT8EQ : F_INT8GT, Int64GetDatum(id));
        scan_ = systable_beginscan_ordered(table_, index_, GetActiveSnapshot(), 1, &key);
    }
    HeapTuple next() { return systable_getnext_ordered(scan_, ForwardScanDirection); }
    void end_search() { systable_endscan_ordered(scan_); }

    [[nodiscard]] Datum get(HeapTuple row, Column column) const {
        bool is_null = false;
        const Datum value = heap_getattr(row, number(column), RelationGetDescr(table_), &is_null);
        if (is_null)
            ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                            errmsg("null value in table \"%s\"", pg::kOutbox)));
        return value;
    }
    [[nodiscard]] std::int64_t id_of(HeapTuple row) const { return DatumGetInt64(get(row, Column::kId)); }

    /// Deletes it, unless somebody else has done so. Waits for who may be about to.
    void remove(HeapTuple row) {
        TM_FailureData failure;
        const TM_Result result = heap_delete(table_, &row->t_self, GetCurrentCommandId(true), InvalidSnapshot,
                                             true, &failure, false);
        if (result != TM_Ok && result != TM_Deleted)
            ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
                            errmsg("somebody else has changed table \"%s\"", pg::kOutbox)));
    }

private:
    static constexpr AttrNumber number(Column column) noexcept {
        return static_cast<AttrNumber>(static_cast<int>(column) + 1);
    }

    Relation table_;
    Relation index_;
    SysScanDesc scan_;
};

using Column = OpenOutbox::Column;

/// Appends the array's texts in UTF-8. False: one of them cannot be said in it, and was left out.
bool append_texts(Datum array, std::vector<std::string>& texts) {
    Datum* values = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
    texts.reserve(static_cast<std::size_t>(count));
    bool is_all = true;
    for (int i = 0; i < count; ++i) {
        if (nulls[i]) continue;
        std::optional<std::string> name = pg::to_utf8(TextDatumGetCString(values[i]));
        is_all = is_all && name.has_value();
        if (name) texts.push_back(std::move(*name));
    }
    return is_all;
}

/// Whether all keys have to be looked through because of it.
bool needs_scan(const OpenOutbox& outbox, HeapTuple row) {
    return DatumGetBool(outbox.get(row, Column::kEverything)) ||
           ARR_NDIM(DatumGetArrayTypeP(outbox.get(row, Column::kPatterns))) > 0;
}

OutboxRow take_row(const OpenOutbox& outbox, HeapTuple row) {
    OutboxRow taken{outbox.id_of(row), {}};
    redis::Notice& notice = taken.notice;
    notice.everything = DatumGetBool(outbox.get(row, Column::kEverything));
    // What has a name that nobody there can be told may be anything.
    if (!append_texts(outbox.get(row, Column::kKeys), notice.keys)) notice.everything = true;
    if (!append_texts(outbox.get(row, Column::kTags), notice.tags)) notice.everything = true;
    if (!append_texts(outbox.get(row, Column::kPatterns), notice.patterns)) notice.everything = true;
    return taken;
}

/// How many rows there are, counted up to `most`.
std::int64_t count_outbox(std::int64_t most) {
    static SPIPlanPtr plan = nullptr;
    Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(most)};
    SPI_connect();
    execute(plan, "SELECT count(*) FROM (SELECT 1 FROM cache_ext_internal.redis_outbox LIMIT $1) AS counted",
            1, types, values, true);
    const std::int64_t count = result_number(0);
    SPI_finish();
    return count;
}

/// How many rows became one.
std::int64_t compact_outbox(const std::vector<std::int64_t>& being_sent, std::int64_t most_rows) {
    static SPIPlanPtr plan = nullptr;
    Oid types[] = {INT8ARRAYOID, INT8OID, INT8OID};
    SPI_connect();
    Datum values[] = {id_array(being_sent), Int64GetDatum(most_rows), Int64GetDatum(kMostNames)};
    execute(plan, "SELECT cache_ext_internal.compact_redis_outbox($1, $2, $3)", 3, types, values, false);
    const std::int64_t rows = result_number(0);
    SPI_finish();
    return rows;
}

}  // namespace

std::int64_t newest_outbox_id() {
    const pg::OwnSequence ids = pg::read_own_sequence(pg::kOutboxSequence);
    return ids.is_called ? ids.last_value : 0;
}

std::vector<OutboxRow> read_outbox(std::int64_t after, std::vector<std::int64_t> without, bool with_scans) {
    std::sort(without.begin(), without.end());
    std::vector<OutboxRow> rows;
    pg::pg_call([&] {
        OpenOutbox outbox(AccessShareLock);
        outbox.search(BTGreaterStrategyNumber, after);
        std::size_t names = 0;
        while (rows.size() < kRows && names < kNames) {
            HeapTuple row = outbox.next();
            if (row == nullptr) break;
            if (std::binary_search(without.begin(), without.end(), outbox.id_of(row))) continue;
            if (!with_scans && needs_scan(outbox, row)) continue;
            rows.push_back(take_row(outbox, row));
            names += rows.back().notice.names();
        }
        outbox.end_search();
        outbox.close();
    });
    return rows;
}

bool fills_batch(const std::vector<OutboxRow>& rows) noexcept {
    std::size_t names = 0;
    for (const OutboxRow& row : rows)
        names += row.notice.names();
    return rows.size() >= kRows || names >= kNames;
}

void delete_from_outbox(const std::vector<std::int64_t>& ids) {
    OpenOutbox outbox(RowExclusiveLock);
    for (const std::int64_t id : ids) {
        outbox.search(BTEqualStrategyNumber, id);
        while (HeapTuple row = outbox.next())
            outbox.remove(row);
        outbox.end_search();
    }
    outbox.close();
}

void remember_sent(std::uint64_t number) {
    (void)DirectFunctionCall2(setval_oid, ObjectIdGetDatum(pg::find_own_table("redis_sent")),
                              Int64GetDatum(static_cast<int64>(number)));
}

void add_everything_to_outbox() {
    static SPIPlanPtr plan = nullptr;
    SPI_connect();
    execute(plan, "INSERT INTO cache_ext_internal.redis_outbox (everything) VALUES (true)", 0, nullptr,
            nullptr, false);
    SPI_finish();
}

std::uint64_t shorten_outbox(const std::vector<std::int64_t>& being_sent, std::int64_t most_rows) {
    std::uint64_t times = 0;
    while (pg::pg_call([] { return count_outbox(kCompactFrom + 1); }) > kCompactFrom &&
           pg::pg_call([&] { return compact_outbox(being_sent, most_rows); }) > 1)
        ++times;
    return times;
}

PushState read_push_state() {
    static SPIPlanPtr plan = nullptr;
    PushState state;
    SPI_connect();
    execute(plan,
            "SELECT s.reserved, s.complete, s.generation, s.has_put, s.timeline, s.runs, CASE WHEN "
            "n.is_called THEN n.last_value "
            "ELSE 0 END "
            "FROM cache_ext_internal.redis_state s CROSS JOIN cache_ext_internal.redis_sent n",
            0, nullptr, nullptr, true);
    if (SPI_processed > 0) {
        bool is_null = true;
        state.reserved = static_cast<std::uint64_t>(result_number(0));
        const auto column = [&is_null](int number) {
            return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, &is_null);
        };
        state.complete = DatumGetBool(column(2));
        state.generation = static_cast<std::uint64_t>(DatumGetInt64(column(3)));
        state.has_put = DatumGetBool(column(4));
        state.timeline = DatumGetInt32(column(5));
        state.runs = TextDatumGetCString(column(6));
        state.sent = static_cast<std::uint64_t>(DatumGetInt64(column(7)));
    }
    SPI_finish();
    return state;
}

void write_push_state(const PushState& state) {
    static SPIPlanPtr plan = nullptr;
    Oid types[] = {INT8OID, BOOLOID, INT8OID, BOOLOID, INT4OID, TEXTOID};
    Datum values[] = {Int64GetDatum(static_cast<int64>(state.reserved)),
                      BoolGetDatum(state.complete),
                      Int64GetDatum(static_cast<int64>(state.generation)),
                      BoolGetDatum(state.has_put),
                      Int32GetDatum(state.timeline),
                      CStringGetTextDatum(state.runs.c_str())};
    SPI_connect();
    execute(
        plan,
        "INSERT INTO cache_ext_internal.redis_state AS s (reserved, complete, generation, has_put, timeline, "
        "runs) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (singleton) DO UPDATE SET reserved = excluded.reserved, "
        "complete = excluded.complete, generation = excluded.generation, has_put = excluded.has_put, "
        "timeline = excluded.timeline, runs = excluded.runs",
        6, types, values, false);
    SPI_finish();
    // A crash after what it allows has been sent must not undo it: numbers would be given again, fences be too low.
    ForceSyncCommit();
}

}  // namespace cache_ext::worker
