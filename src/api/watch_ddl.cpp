// The event triggers' function: what changed definitions mean for watches. Tables that come under a watched one get its triggers, those that leave it
// lose them; what a definition's change does to the rows' tags is invalidated; a column that a watch needs cannot go or be renamed.
//
// Without event triggers (event_triggers = off, single-user mode) the triggers themselves see to templates that do not fit any more; new
// partitions then lack their copies until the table is watched again, and rows that a first subscription applies are not seen until then.

#include "api/context.hpp"
#include "api/row_tags.hpp"
#include "api/make_trigger.hpp"
#include "api/watch.hpp"
#include "api/watch_sql.hpp"
#include "pg/compat.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "tcop/cmdtag.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace cache_ext::api {

namespace {

/// What a command has concerned: OIDs, in the caller's memory.
struct Concerned {
    List* relations;
    List* triggers;
    bool watch_dropped;
};

constexpr char kCommandsQuery[] =
    "SELECT classid, objid, false FROM pg_catalog.pg_event_trigger_ddl_commands() "
    "WHERE classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass "
    "OR classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_trigger'::pg_catalog.regclass";

/// Columns of tables that stay, and triggers, by the names that only those of watches may have.
constexpr char kDroppedQuery[] =
    "SELECT classid, objid, object_type OPERATOR(pg_catalog.=) 'trigger' "
    "FROM pg_catalog.pg_event_trigger_dropped_objects() "
    "WHERE object_type OPERATOR(pg_catalog.=) 'trigger' "
    "AND pg_catalog.starts_with(object_identity, 'cache_ext_watch_') "
    "OR object_type OPERATOR(pg_catalog.=) 'table column'";

constinit SPIPlanPtr commands_plan = nullptr;
constinit SPIPlanPtr dropped_plan = nullptr;

/// Asks one of these queries; its plan is kept for the session.
Concerned ask(const char* query, SPIPlanPtr& kept) {
    Concerned concerned{NIL, NIL, false};
    const MemoryContext caller = CurrentMemoryContext;
    SPI_connect();
    if (kept == nullptr) {
        SPIPlanPtr plan = SPI_prepare(query, 0, nullptr);
        if (plan == nullptr || SPI_keepplan(plan) != 0)
            elog(ERROR, "could not prepare to ask what a command has done");
        kept = plan;
    }
    if (SPI_execute_plan(kept, nullptr, nullptr, false, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not ask what a command has done");
    for (std::uint64_t i = 0; i < SPI_processed; ++i) {
        bool is_null = false;
        HeapTuple row = SPI_tuptable->vals[i];
        const TupleDesc description = SPI_tuptable->tupdesc;
        const Oid catalog = DatumGetObjectId(SPI_getbinval(row, description, 1, &is_null));
        const Oid object = DatumGetObjectId(SPI_getbinval(row, description, 2, &is_null));
        if (DatumGetBool(SPI_getbinval(row, description, 3, &is_null))) concerned.watch_dropped = true;
        const MemoryContext before = MemoryContextSwitchTo(caller);
        List*& list = catalog == RelationRelationId ? concerned.relations : concerned.triggers;
        list = list_append_unique_oid(list, object);
        MemoryContextSwitchTo(before);
    }
    SPI_finish();
    return concerned;
}

template <class IsWanted>
bool any_subcommand(const Node* statement, IsWanted&& is_wanted) {
    if (!IsA(statement, AlterTableStmt)) return false;
    const List* commands = reinterpret_cast<const AlterTableStmt*>(statement)->cmds;
    for (int i = 0; i < list_length(commands); ++i) {
        if (is_wanted(static_cast<const AlterTableCmd*>(list_nth(commands, i))->subtype)) return true;
    }
    return false;
}

bool has_subcommand(const Node* statement, std::initializer_list<AlterTableType> wanted) {
    return any_subcommand(statement, [wanted](AlterTableType type) {
        return std::find(wanted.begin(), wanted.end(), type) != wanted.end();
    });
}

/// Whether a partition is detached in two transactions.
bool detaches_concurrently(const Node* statement) {
    if (!has_subcommand(statement, {AT_DetachPartition})) return false;
    const auto* command =
        static_cast<const AlterTableCmd*>(linitial(reinterpret_cast<const AlterTableStmt*>(statement)->cmds));
    return reinterpret_cast<const PartitionCmd*>(command->def)->concurrent;
}

/// Whether a relation is a table with triggers. Asked without its lock, which others may hold.
bool has_triggers(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return false;
    const auto* row = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    const bool has = row->relhastriggers &&
                     (row->relkind == RELKIND_RELATION || row->relkind == RELKIND_PARTITIONED_TABLE ||
                      row->relkind == RELKIND_FOREIGN_TABLE);
    ReleaseSysCache(tuple);
    return has;
}

/// Opens a table that may be watched, as the command left it; null where it is none, or gone.
Relation open_table(Oid relation) {
    return has_triggers(relation) ? try_table_open(relation, AccessShareLock) : nullptr;
}

[[noreturn]] void raise_unfit(Relation relation, const char* detail) {
    ereport(ERROR, (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
                    errmsg("the watch on table \"%s\" needs what is being changed",
                           RelationGetRelationName(relation)),
                    errdetail_internal("%s", detail),
                    errhint("Call unwatch_table for the watched table before, and watch_table again "
                            "afterwards; both can be in the same transaction.")));
    pg_unreachable();
}

/// Whether the SQL of a watch fails for what has nothing to do with its table's columns. It has failed before, then, and is told of as it runs.
bool is_foreign_failure(int sqlstate) noexcept {
    return sqlstate == ERRCODE_UNDEFINED_TABLE || sqlstate == ERRCODE_UNDEFINED_OBJECT ||
           sqlstate == ERRCODE_UNDEFINED_SCHEMA || sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE;
}

/// Raises an ERROR if a watch does not fit its table any more.
void check_fit(Relation relation, const WatchSpec& spec) {
    char detail[1024] = "";
    try {
        pg::pg_call([&] { parse_row_tags(relation, spec.tags, spec.tag_count, true); });
        if (spec.has_sql()) check_watch_sql(spec, relation);
    } catch (const pg::PgError& error) {
        if (is_foreign_failure(error.sqlstate())) return;
        pg_snprintf(detail, sizeof detail, "%s", error.what());
    }
    if (detail[0] != '\0') raise_unfit(relation, detail);
}

/// ENABLE TRIGGER without ALWAYS or REPLICA, as some tools have it for all triggers of a table, is meant to undo DISABLE TRIGGER.
void enable_as_planned(Relation relation, const Trigger& trigger) {
    if (trigger.tgenabled != TRIGGER_FIRES_ON_ORIGIN) return;
    const WatchSpec spec = watch_spec(trigger);
    const bool for_replica =
        TRIGGER_FOR_ROW(trigger.tgtype) && !sees_every_row(RelationGetRelid(relation), spec);
    Relation catalog = table_open(TriggerRelationId, RowExclusiveLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger.tgoid));
    SysScanDesc scan = systable_beginscan(catalog, TriggerOidIndexId, true, nullptr, 1, &key);
    if (HeapTuple found = systable_getnext(scan); HeapTupleIsValid(found)) {
        HeapTuple tuple = heap_copytuple(found);
        reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple))->tgenabled =
            for_replica ? TRIGGER_FIRES_ON_REPLICA : TRIGGER_FIRES_ALWAYS;
        CatalogTupleUpdate(catalog, &tuple->t_self, tuple);
    }
    systable_endscan(scan);
    table_close(catalog, RowExclusiveLock);
    CacheInvalidateRelcache(relation);
    CommandCounterIncrement();
}

/// The table that a command attaches as a partition; the command itself has the lock.
Oid attached_partition(const Node* statement) {
    if (!has_subcommand(statement, {AT_AttachPartition})) return InvalidOid;
    const auto* command =
        static_cast<const AlterTableCmd*>(linitial(reinterpret_cast<const AlterTableStmt*>(statement)->cmds));
    return RangeVarGetRelid(reinterpret_cast<const PartitionCmd*>(command->def)->name, NoLock, true);
}

void check_watches(Oid table, bool columns) {
    Relation relation = open_table(table);
    if (relation == nullptr) return;
    const WatchTriggers watches = watch_triggers(relation);
    for (int i = 0; i < watches.count; ++i) {
        const WatchSpec spec = watch_spec(watches.triggers[i]);
        if (columns) check_fit(relation, spec);
        enable_as_planned(relation, watches.triggers[i]);
        invalidate_broadly(spec);
    }
    table_close(relation, NoLock);
}

/// Whatever was altered, the rows may look different now, be more, or be less. `columns`: other columns are there. `below`: the command has altered
/// the tables below it too, and so locked them; others are left alone, for whose locks it might have to wait.
void table_altered(Oid table, bool columns, bool below) {
    const List* tables = below ? find_all_inheritors(table, NoLock, nullptr) : list_make1_oid(table);
    for (int i = 0; i < list_length(tables); ++i)
        check_watches(list_nth_oid(tables, i), columns);
}

/// A trigger was made, by the restoring of a dump or by whom it may be: watching begins.
void trigger_created(Oid trigger) {
    NamedTrigger created;
    Relation relation = look_up_trigger(trigger, created) ? open_table(created.relation) : nullptr;
    if (relation == nullptr) return;
    const WatchTriggers watches = watch_triggers(relation);
    for (int i = 0; i < watches.count; ++i) {
        if (watches.triggers[i].tgoid != trigger) continue;
        enable_as_planned(relation, watches.triggers[i]);
        invalidate_broadly(watch_spec(watches.triggers[i]));
        // It comes from where nothing was applied, perhaps.
        if (is_last_restored(NameStr(created.name)) && rows_are_applied())
            add_row_triggers(created.relation, RowsBy::kApply);
    }
    table_close(relation, NoLock);
}

void refuse_renaming(const Node* statement) {
    if (!IsA(statement, RenameStmt)) return;
    const auto* rename = reinterpret_cast<const RenameStmt*>(statement);
    if (std::strncmp(rename->subname, kWatchPrefix, sizeof kWatchPrefix - 1) != 0) return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("cannot rename trigger \"%s\" of a watch", rename->subname),
                    errhint("Its name tells that it belongs to the watch. Other names may not begin so.")));
}

/// Whether a command lets rows be applied once it is committed.
bool begins_applying(const Node* statement) {
    // At the end of the command: before, the other server may keep it waiting for long, and writers would wait for the locks that are taken.
    if (IsA(statement, CreateSubscriptionStmt)) return true;
    // With CASCADE it may have brought one by another name than its own.
    return IsA(statement, CreateExtensionStmt) && has_applier();
}

void command_ended(const EventTriggerData& data) {
    if (begins_applying(data.parsetree)) begin_applying();
    if (!any_watch()) return;
    switch (data.tag) {
        case CMDTAG_ALTER_TYPE:
        case CMDTAG_ALTER_DOMAIN:
            // The texts of values may be others now, in any table.
            invalidate_everything(space_id());
            return;
        case CMDTAG_ALTER_TRIGGER:
            refuse_renaming(data.parsetree);
            return;
        case CMDTAG_DROP_SUBSCRIPTION:
        case CMDTAG_DROP_EXTENSION:
            end_applying();
            return;
        case CMDTAG_CREATE_SUBSCRIPTION:
        case CMDTAG_CREATE_EXTENSION:
            return;
        default:
            break;
    }
    // A column of a table can be renamed by ALTER VIEW, too.
    const bool altered = data.tag == CMDTAG_ALTER_TABLE || data.tag == CMDTAG_ALTER_FOREIGN_TABLE ||
                         data.tag == CMDTAG_ALTER_VIEW || data.tag == CMDTAG_ALTER_MATERIALIZED_VIEW;
    // Only where there is a new relation between tables: while a dump is restored, which brings all of the triggers, none may be there already.
    const bool may_come_under = !altered || has_subcommand(data.parsetree, {AT_AddInherit});
    const bool columns =
        IsA(data.parsetree, RenameStmt) || has_subcommand(data.parsetree, {AT_AlterColumnType});
    const bool below = columns || any_subcommand(data.parsetree, pg::alters_rows_below) ||
                       has_subcommand(data.parsetree, {AT_EnableTrig, AT_EnableTrigAll, AT_EnableTrigUser});
    const Concerned concerned = ask(kCommandsQuery, commands_plan);
    for (int i = 0; i < list_length(concerned.triggers); ++i)
        trigger_created(list_nth_oid(concerned.triggers, i));
    for (int i = 0; i < list_length(concerned.relations); ++i) {
        const Oid relation = list_nth_oid(concerned.relations, i);
        if (may_come_under) copy_from_parents(relation);
        if (altered) table_altered(relation, columns, below);
    }
    if (const Oid partition = attached_partition(data.parsetree); OidIsValid(partition))
        copy_from_parents(partition);
    if (has_subcommand(data.parsetree, {AT_DetachPartition, AT_DetachPartitionFinalize, AT_DropInherit}))
        drop_orphans();
}

void objects_dropped(const EventTriggerData& data) {
    const Concerned dropped = ask(kDroppedQuery, dropped_plan);
    for (int i = 0; i < list_length(dropped.relations); ++i)
        table_altered(list_nth_oid(dropped.relations, i), true, false);
    // With the trigger went what it said. Those that ALTER TABLE drops are copies, of which the end of the command sees more.
    if (dropped.watch_dropped && data.tag != CMDTAG_ALTER_TABLE) invalidate_everything(space_id());
}

}  // namespace

CACHE_EXT_FUNCTION(watch_ddl) {
    if (!CALLED_AS_EVENT_TRIGGER(fcinfo)) {
        pg::raise(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED,
                  "watch_ddl must be called as an event trigger");
    }
    const auto& data = *reinterpret_cast<const EventTriggerData*>(fcinfo->context);
    if (!pg::current_space().exists) return PointerGetDatum(nullptr);
    if (std::strcmp(data.event, "ddl_command_end") == 0) {
        command_ended(data);
    } else if (std::strcmp(data.event, "sql_drop") == 0) {
        objects_dropped(data);
    } else if (detaches_concurrently(data.parsetree) && any_watch()) {
        // The rows are gone when the first of them commits; the end of the command is in the second.
        invalidate_everything(space_id());
    }
    return PointerGetDatum(nullptr);
}

}  // namespace cache_ext::api
