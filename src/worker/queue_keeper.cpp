#include "worker/queue_keeper.hpp"

#include <algorithm>
#include <cstdio>

#include "pg/append.hpp"
#include "pg/queue.hpp"
#include "worker/warmer.hpp"
#include "worker/worker.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace cache_ext::worker {

namespace {

/// How often it looks, and for how many looks it stays though there is nothing to do; how long it stays at all: others wait for the seat.
constexpr long kLookMs = 200;
constexpr int kIdleLooks = 10;
constexpr TimestampTz kStay = 60 * USECS_PER_SEC;

/// So many items are moved at most, and only where they are no more than this part of the table.
constexpr int kMostMoved = 10'000;
constexpr std::uint64_t kMovedPart = 4;

struct Tables {
    int current;
    std::int64_t moves;
    BlockNumber pages[pg::kQueueTables];
};

int execute(const char* sql, int expected) {
    const int result = SPI_execute(sql, false, 0);
    if (result != expected) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
    return static_cast<int>(SPI_processed);
}

std::int64_t number(int column) {
    bool is_null = true;
    const Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &is_null);
    return is_null ? 0 : DatumGetInt64(value);
}

/// A table's number among the queues' in SQL.
struct Sql {
    char text[400];
};
template <class... Values>
Sql sql(const char* format, Values... values) {
    Sql made;
    std::snprintf(made.text, sizeof made.text, format, values...);
    return made;
}

BlockNumber pages_of(int table) {
    const Oid oid = pg::find_own_table(pg::kQueueTable[table]);
    if (!OidIsValid(oid) || !ConditionalLockRelationOid(oid, AccessShareLock)) return 0;
    Relation relation = try_table_open(oid, NoLock);
    const BlockNumber pages = relation != nullptr ? RelationGetNumberOfBlocks(relation) : 0;
    if (relation != nullptr) table_close(relation, NoLock);
    UnlockRelationOid(oid, AccessShareLock);
    return pages;
}

Tables look() {
    begin("cache_ext: looking at the queues");
    Tables tables{};
    const std::int64_t state = pg::read_own_sequence(pg::kQueueState).last_value;
    tables.current = static_cast<int>(state % pg::kStateTables) % pg::kQueueTables;
    tables.moves = state / pg::kStateTables;
    for (int i = 0; i < pg::kQueueTables; ++i)
        tables.pages[i] = pages_of(i);
    commit();
    return tables;
}

void set_state(int current, std::int64_t moves) {
    (void)execute(sql("SELECT pg_catalog.setval('cache_ext_internal.%s', %lld)", pg::kQueueState,
                      static_cast<long long>(moves * pg::kStateTables + current))
                      .text,
                  SPI_OK_SELECT);
}

bool is_drained(int table) {
    return execute(sql("SELECT FROM ONLY cache_ext_internal.%s LIMIT 1", pg::kQueueTable[table]).text,
                   SPI_OK_SELECT) == 0;
}

/// Truncates a table that has nothing in it, unless somebody is at work on it.
bool truncate_drained(int table) {
    begin("cache_ext: truncating a table of queues");
    SPI_connect();
    const Oid oid = pg::find_own_table(pg::kQueueTable[table]);
    // Nobody who has touched a row is under way then, so what is seen is how it stays.
    const bool does = OidIsValid(oid) && is_drained(table) &&
                      ConditionalLockRelationOid(oid, AccessExclusiveLock) && is_drained(table);
    if (does)
        (void)execute(sql("TRUNCATE ONLY cache_ext_internal.%s", pg::kQueueTable[table]).text,
                      SPI_OK_UTILITY);
    SPI_finish();
    commit();
    return does;
}

void switch_to(int table, std::int64_t moves) {
    begin("cache_ext: writing queues to another table");
    SPI_connect();
    set_state(table, moves);
    SPI_finish();
    commit();
}

/// Moves what is left in a table to the one that is written to, where it is little.
bool move_rest(const Tables& tables, int from) {
    begin("cache_ext: moving items of queues");
    SPI_connect();
    const char* const source = pg::kQueueTable[from];
    const char* const target = pg::kQueueTable[tables.current];
    (void)execute(
        sql("SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.pg_column_size(i)), 0)::bigint "
            "FROM (SELECT * FROM ONLY cache_ext_internal.%s LIMIT %d) i",
            source, kMostMoved + 1)
            .text,
        SPI_OK_SELECT);
    const std::int64_t count = number(1);
    const bool does =
        count > 0 && count <= kMostMoved &&
        static_cast<std::uint64_t>(number(2)) <= std::uint64_t{tables.pages[from]} * BLCKSZ / kMovedPart;
    if (does) {
        // First the lock, then the word that something is moved, then the moving: see pg/queue_floor.hpp.
        LockRelationOid(pg::find_own_table(target), RowExclusiveLock);
        set_state(tables.current, tables.moves + 1);
        (void)execute(
            sql("WITH moved AS (DELETE FROM ONLY cache_ext_internal.%s WHERE ctid = ANY (ARRAY("
                "SELECT ctid FROM ONLY cache_ext_internal.%s LIMIT %d FOR UPDATE SKIP LOCKED)) RETURNING *) "
                "INSERT INTO cache_ext_internal.%s SELECT * FROM moved",
                source, source, kMostMoved, target)
                .text,
            SPI_OK_INSERT);
    }
    SPI_finish();
    commit();
    return does;
}

/// What there is to do at present. Whether it did anything.
bool keep() {
    Tables tables = look();
    bool did = false;
    int empty = -1;
    for (int i = 0; i < pg::kQueueTables; ++i) {
        if (i == tables.current) continue;
        if (tables.pages[i] > 0 && truncate_drained(i)) {
            tables.pages[i] = 0;
            did = true;
        }
        if (tables.pages[i] == 0) empty = i;
    }
    if (tables.pages[tables.current] < pg::kQueueTablePages) return did;
    if (empty >= 0) {
        switch_to(empty, tables.moves);
        return true;
    }
    for (int i = 0; i < pg::kQueueTables; ++i) {
        if (i != tables.current && move_rest(tables, i)) return true;
    }
    return did;
}

}  // namespace

void keep_queues() {
    const TimestampTz until = GetCurrentTimestamp() + kStay;
    for (int idle = 0; idle < kIdleLooks && GetCurrentTimestamp() < until;) {
        idle = keep() ? 0 : idle + 1;
        begin("cache_ext: looking around");
        const bool is_wanted = is_wanted_by_others();
        commit();
        if (is_wanted) return;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kLookMs * (idle + 1),
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

}  // namespace cache_ext::worker
