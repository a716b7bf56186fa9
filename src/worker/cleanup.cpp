#include "worker/cleanup.hpp"

#include "pg/attach.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "portability/instr_time.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

namespace cache_ext::worker {

namespace {

constexpr char kExtension[] = "cache_ext";
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

/// The log's table, locked for writing; InvalidOid: there is none of the extension's, or it is locked by somebody.
Oid open_log(const pg::Space& space) {
    const Oid table = get_relname_relid(kLog, space.schema);
    if (!OidIsValid(table) || get_rel_relkind(table) != RELKIND_RELATION) return InvalidOid;
    if (getExtensionOfObject(RelationRelationId, table) != get_extension_oid(kExtension, true))
        return InvalidOid;
    if (!ConditionalLockRelationOid(table, RowExclusiveLock)) return InvalidOid;
    if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table))) return table;
    UnlockRelationOid(table, RowExclusiveLock);
    return InvalidOid;
}

Oid owner_of(Oid table) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    if (!HeapTupleIsValid(tuple)) return InvalidOid;
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

void execute(const char* sql, int count, Oid* types, Datum* values) {
    if (SPI_execute_with_args(sql, count, types, values, nullptr, false, 0) < 0)
        elog(ERROR, "could not write to %s", kLog);
}

void insert_row(Oid table, Source source, const core::Swept& swept, double duration_ms) {
    SPI_connect();
    const char* name =
        quote_qualified_identifier(get_namespace_name(get_rel_namespace(table)), get_rel_name(table));
    Oid types[] = {TEXTOID, INT8OID, INT8OID, INT8OID, FLOAT8OID};
    Datum values[] = {CStringGetTextDatum(source == Source::kWorker ? "worker" : "function"),
                      Int64GetDatum(swept.expired), Int64GetDatum(swept.dead),
                      Int64GetDatum(static_cast<std::int64_t>(swept.remaining)), Float8GetDatum(duration_ms)};
    execute(psprintf("INSERT INTO %s (source, expired_entries, dead_entries, remaining_entries, duration_ms) "
                     "VALUES ($1, $2::integer, $3::integer, $4, $5)",
                     name),
            5, types, values);
    execute(
        psprintf("DELETE FROM %s WHERE cleaned_at < clock_timestamp() - interval '%d days'", name, kLogDays),
        0, nullptr, nullptr);
    execute(psprintf("DELETE FROM %s WHERE id <= (SELECT max(id) - %d FROM %s)", name, kLogRows, name), 0,
            nullptr, nullptr);
    SPI_finish();
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
    // In a subtransaction: an index that is full or a constraint that somebody added is no reason to fail whoever cleans up.
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner resources = CurrentResourceOwner;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        const Oid table = open_log(space);
        if (OidIsValid(table)) {
            Oid user = InvalidOid;
            int security = 0;
            GetUserIdAndSecContext(&user, &security);
            const int settings = NewGUCNestLevel();
            SetUserIdAndSecContext(owner_of(table),
                                   security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
            (void)set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
                                    GUC_ACTION_SAVE, true, 0, false);
            PushActiveSnapshot(GetTransactionSnapshot());
            insert_row(table, source, swept, duration_ms);
            PopActiveSnapshot();
            AtEOXact_GUC(false, settings);
            SetUserIdAndSecContext(user, security);
        }
        ReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        CurrentResourceOwner = resources;
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(context);
        ErrorData* error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(context);
        CurrentResourceOwner = resources;
        // Whoever was told to stop does.
        if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
            ReThrowError(error);
        ereport(WARNING, (errmsg("could not write to \"%s\": %s", kLog, error->message)));
        FreeErrorData(error);
    }
    PG_END_TRY();
}

}  // namespace cache_ext::worker
