#include "worker/outbox.hpp"

#include "pg/guard.hpp"
#include "pg/utf8.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
}

namespace cache_ext::worker {

namespace {

/// What one batch holds at most; a single row may hold more.
constexpr int kRows = 1000;
constexpr std::size_t kNames = 20'000;
constexpr int kRowsPerFetch = 100;

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

/// Appends the array's texts in UTF-8. False: one of them cannot be said in it, and was left out.
bool append_texts(HeapTuple row, TupleDesc description, int column, std::vector<std::string>& texts) {
    bool is_null = true;
    const Datum array = SPI_getbinval(row, description, column, &is_null);
    if (is_null) return true;
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

/// Takes one row of the cursor's. The names in it.
std::size_t take_row(HeapTuple tuple, TupleDesc description, std::vector<OutboxRow>& rows) {
    bool is_null = true;
    OutboxRow& row = rows.emplace_back();
    row.id = DatumGetInt64(SPI_getbinval(tuple, description, 1, &is_null));
    row.notice.everything = DatumGetBool(SPI_getbinval(tuple, description, 5, &is_null)) && !is_null;
    // What has a name that nobody there can be told may be anything.
    if (!append_texts(tuple, description, 2, row.notice.keys)) row.notice.everything = true;
    if (!append_texts(tuple, description, 3, row.notice.tags)) row.notice.everything = true;
    if (!append_texts(tuple, description, 4, row.notice.patterns)) row.notice.everything = true;
    return row.notice.names();
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
    static SPIPlanPtr plan = nullptr;
    SPI_connect();
    execute(plan,
            "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM cache_ext_internal.redis_outbox_id",
            0, nullptr, nullptr, true);
    const std::int64_t newest = result_number(0);
    SPI_finish();
    return newest;
}

std::vector<OutboxRow> read_outbox(std::int64_t after, const std::vector<std::int64_t>& being_sent,
                                   bool with_scans) {
    static SPIPlanPtr plan = nullptr;
    std::vector<OutboxRow> rows;
    pg::pg_call([&] {
        Oid types[] = {INT8OID, INT8ARRAYOID, BOOLOID, INT4OID};
        SPI_connect();
        Datum values[] = {Int64GetDatum(after), id_array(being_sent), BoolGetDatum(with_scans),
                          Int32GetDatum(kRows)};
        if (plan == nullptr) {
            plan = SPI_prepare(
                "SELECT id, keys, tags, patterns, everything FROM cache_ext_internal.redis_outbox "
                "WHERE id > $1 AND id <> ALL ($2) AND ($3 OR NOT everything AND patterns = '{}') "
                "ORDER BY id LIMIT $4",
                4, types);
            if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
            SPI_keepplan(plan);
        }
        // By a cursor: nobody knows how much is in them.
        Portal cursor = SPI_cursor_open(nullptr, plan, values, nullptr, true);
        std::size_t names = 0;
        while (names < kNames) {
            SPI_cursor_fetch(cursor, true, kRowsPerFetch);
            if (SPI_processed == 0) break;
            for (std::uint64_t i = 0; i < SPI_processed && names < kNames; ++i)
                names += take_row(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, rows);
            SPI_freetuptable(SPI_tuptable);
        }
        SPI_cursor_close(cursor);
        SPI_finish();
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
    static SPIPlanPtr plan = nullptr;
    Oid types[] = {INT8ARRAYOID};
    SPI_connect();
    Datum values[] = {id_array(ids)};
    execute(plan, "DELETE FROM cache_ext_internal.redis_outbox WHERE id = ANY ($1)", 1, types, values, false);
    SPI_finish();
}

void remember_sent(std::uint64_t number) {
    static SPIPlanPtr plan = nullptr;
    Oid types[] = {INT8OID};
    Datum values[] = {Int64GetDatum(static_cast<int64>(number))};
    SPI_connect();
    execute(plan, "SELECT setval('cache_ext_internal.redis_sent', $1)", 1, types, values, false);
    SPI_finish();
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
