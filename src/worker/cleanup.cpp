#include "worker/cleanup.hpp"

#include "pg/attach.hpp"
#include "worker/own_table.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "portability/instr_time.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace cache_ext::worker {

namespace {

constexpr char kLog[] = "cache_cleanup_log";

/// Rows older than this go; and however often somebody cleans up, no more than so many stay.
constexpr int kLogDays = 30;
constexpr int kLogRows = 100'000;

/// Buckets between two looks at the interrupts: well under a millisecond.
constexpr std::uint32_t kBatch = 256;

/// Goes through all buckets. They may grow in number meanwhile: what moves, moves to later ones.
template <class Visit>
void each_bucket(Visit&& visit) {
    for (std::uint32_t bucket = 0; bucket < pg::region().store().bucket_count(); ++bucket) {
        if (bucket % kBatch == 0) CHECK_FOR_INTERRUPTS();
        visit(bucket);
    }
}

/// A row of the log.
struct Row {
    Source source;
    const core::Swept& swept;
    double duration_ms;
};

void insert_row(const char* table, const void* context) {
    const Row& row = *static_cast<const Row*>(context);
    Oid types[] = {TEXTOID, INT8OID, INT8OID, INT8OID, FLOAT8OID};
    Datum values[] = {CStringGetTextDatum(row.source == Source::kWorker ? "worker" : "function"),
                      Int64GetDatum(row.swept.expired), Int64GetDatum(row.swept.dead),
                      Int64GetDatum(static_cast<std::int64_t>(row.swept.remaining)),
                      Float8GetDatum(row.duration_ms)};
    execute_write(
        psprintf("INSERT INTO %s (source, expired_entries, dead_entries, remaining_entries, duration_ms) "
                 "VALUES ($1, $2::integer, $3::integer, $4, $5)",
                 table),
        5, types, values);
    execute_write(psprintf("DELETE FROM %s WHERE cleaned_at < clock_timestamp() - interval '%d days'", table,
                           kLogDays));
    execute_write(
        psprintf("DELETE FROM %s WHERE id <= (SELECT max(id) - %d FROM %s)", table, kLogRows, table));
}

}  // namespace

core::Swept sweep_space(const core::Id128& space, double& duration_ms) {
    instr_time started;
    instr_time took;
    INSTR_TIME_SET_CURRENT(started);
    core::Swept swept;
    core::Swept nobodys;
    const core::Duties& duties = pg::region().duties();
    const TimestampTz now = GetCurrentTimestamp();
    pg::region().store().gather_hits(pg::region().base(), now);
    each_bucket([&](std::uint32_t bucket) {
        core::sweep_bucket(pg::region(), bucket, now, swept,
                           [&](const core::EntryInfo& e) { return e.space == space; });
        core::sweep_bucket(pg::region(), bucket, now, nobodys, [&](const core::EntryInfo& e) {
            return (e.dead || e.gone_at() <= now) && !(e.space == space) && duties.find(e.space) < 0;
        });
    });
    pg::session().counters.add(core::Counter::kExpired, std::uint64_t{swept.expired} + nobodys.expired);
    pg::region().duties().swept(space, swept.expired, swept.dead, now);
    INSTR_TIME_SET_CURRENT(took);
    INSTR_TIME_SUBTRACT(took, started);
    duration_ms = INSTR_TIME_GET_MILLISEC(took);
    return swept;
}

void drop_space(const core::Id128& space) {
    each_bucket([&](std::uint32_t bucket) {
        pg::region().store().remove_if(pg::region().base(), bucket,
                                       [&](const core::EntryInfo& e) { return e.space == space; });
    });
    pg::region().duties().forget(space);
}

void write_log(const pg::Space& space, Source source, const core::Swept& swept, double duration_ms) {
    const Row row{source, swept, duration_ms};
    write_own_table(space.schema, kLog, RowExclusiveLock, insert_row, &row);
}

}  // namespace cache_ext::worker
