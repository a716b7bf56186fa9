// watch_table, unwatch_table, and what cache_watches shows.
//
// Step 13 of the protocol: a write that ran before the table was watched has invalidated nothing, and somebody whose snapshot is older may
// still be computing from what was there before. The stamp that the watching transaction takes for itself is enough. To make a trigger it
// has the SHARE ROW EXCLUSIVE lock of each table to its end, which waits for all who have written it, prepared transactions too, and whoever
// writes it later gets the lock after this transaction is visible, and so fires the trigger. So every write without an invalidation is of a
// transaction that ended before this one could commit. What was computed under a snapshot that does not see this one end is born before
// its stamp, and dead; what was computed under a later one reflects all of those writes. Entries that are there and leases are held
// against the same stamp. Only tags of the watch have to be stamped, if all are known beforehand.

#include "api/args.hpp"
#include "api/make_trigger.hpp"
#include "api/row_tags.hpp"
#include "api/watch.hpp"
#include "api/watch_sql.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace cache_ext::api {

namespace {

[[noreturn]] void raise_kind(const char* name, const char* what, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("cannot watch %s \"%s\"", what, name),
                    errhint("%s", hint)));
    pg_unreachable();
}

/// Whether the relation can have been written without a trigger's firing, or has no rows of its own.
void check_kind(Relation relation) {
    const char* name = RelationGetRelationName(relation);
    switch (relation->rd_rel->relkind) {
        case RELKIND_RELATION:
        case RELKIND_PARTITIONED_TABLE:
            break;
        case RELKIND_VIEW:
            raise_kind(name, "view",
                       "A view has no rows of its own: watch the tables that it reads. Writing through it "
                       "fires their triggers.");
        case RELKIND_MATVIEW:
            raise_kind(name, "materialized view",
                       "Triggers do not see REFRESH: call invalidate_cache_by_tags after it.");
        case RELKIND_FOREIGN_TABLE:
            raise_kind(name, "foreign table", "What is changed on the other server is not seen here.");
        default:
            raise_kind(name, "relation", "Only tables can be watched.");
    }
    if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
        raise_kind(name, "temporary table", "What is computed from temporary tables is not to be cached.");
    if (IsCatalogRelation(relation)) {
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied: \"%s\" is a system catalog", name)));
    }
}

/// The table of the first argument. Who may not create a trigger on it does not get so far.
Oid table_argument(FunctionCallInfo fcinfo, const char* caller) {
    require_argument(fcinfo, 0, "watched table");
    PreventCommandIfReadOnly(caller);
    const Oid table = PG_GETARG_OID(0);
    const char* name = get_rel_name(table);
    if (name != nullptr && pg_class_aclcheck(table, GetUserId(), ACL_TRIGGER) != ACLCHECK_OK) {
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for table %s", name),
                 errdetail("A watch is made of triggers: it needs the privilege TRIGGER.")));
    }
    return table;
}

/// Opens it.
Relation lock_table(Oid table, LOCKMODE mode) {
    Relation relation = try_relation_open(table, mode);
    if (relation == nullptr) {
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", table)));
    }
    check_kind(relation);
    return relation;
}

/// The own triggers of the watch on this very table.
WatchTriggers own_triggers(Relation relation) {
    WatchTriggers triggers = watch_triggers(relation);
    const auto end = std::remove_if(triggers.triggers, triggers.triggers + triggers.count,
                                    [](const Trigger& t) { return watch_role(t) != WatchRole::kTable; });
    triggers.count = static_cast<int>(end - triggers.triggers);
    return triggers;
}

/// The same before the table is locked.
WatchTriggers peek_at_own_triggers(Oid table) {
    Relation relation = try_relation_open(table, AccessShareLock);
    if (relation == nullptr) return {nullptr, 0};
    const WatchTriggers triggers = own_triggers(relation);
    relation_close(relation, AccessShareLock);
    return triggers;
}

/// A text argument, or an empty text. Not for anything that may be empty otherwise.
const char* optional_text(FunctionCallInfo fcinfo, int number, const char* what) {
    if (PG_ARGISNULL(number)) return "";
    const char* given = text_to_cstring(PG_GETARG_TEXT_PP(number));
    if (std::strspn(given, " \t\r\n") == std::strlen(given)) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s of a watch must not be empty", what), errhint("Pass null for none.")));
    }
    return given;
}

/// An id that no other watch has. A dump keeps the ids, also where its tables' OIDs are others' now: so the OID alone is not one.
const char* new_id(Oid table) {
    std::uint32_t drawn = 0;
    if (!pg_strong_random(&drawn, sizeof drawn))
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
    return psprintf("%u%010u", table, drawn);
}

WatchSpec spec_argument(FunctionCallInfo fcinfo, const WatchTriggers& present, Oid table) {
    WatchSpec spec{"", "", "", "", "", nullptr, 0};
    spec.id = present.count > 0 ? watch_spec(present.triggers[0]).id : new_id(table);
    spec.condition = optional_text(fcinfo, 2, "condition");
    spec.cascade = optional_text(fcinfo, 3, "cascade");
    if (spec.has_sql()) {
        spec.owner = GetUserNameFromId(GetUserId(), false);
        spec.search_path = GetConfigOption("search_path", false, false);
    }
    const Texts tags = tags_argument(fcinfo, 1, static_cast<int>(core::kMaxTags));
    spec.tags = static_cast<char**>(palloc(sizeof(char*) * static_cast<Size>(std::max(tags.count, 1))));
    for (const std::string_view tag : tags)
        spec.tags[spec.tag_count++] = pnstrdup(tag.data(), tag.size());
    if (spec.tag_count == 0 && !spec.has_cascade()) {
        ereport(
            ERROR,
            (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a watch needs tags or a cascade"),
             errhint("Pass the tags that a change of the table is to invalidate, such as '{products}'.")));
    }
    return spec;
}

/// The lock that watching needs. For triggers that come it is CREATE TRIGGER's, for such that go DROP TRIGGER's, which readers have to end for. It is
/// taken at once: somebody who has read the table and is to write it waited for whoever had the first and wants the second, and he for him.
LOCKMODE lock_to_watch(FunctionCallInfo fcinfo, Oid table) {
    const WatchTriggers present = peek_at_own_triggers(table);
    if (present.count == 0) return ShareRowExclusiveLock;
    const WatchSpec before = watch_spec(present.triggers[0]);
    const WatchSpec now = spec_argument(fcinfo, present, table);
    const bool left_over = std::any_of(
        present.triggers, present.triggers + present.count,
        [](const Trigger& t) { return t.tgenabled == TRIGGER_FIRES_ON_REPLICA && !rows_are_applied(); });
    const bool same = before.has_sql() == now.has_sql() && has_row_tags(before) == has_row_tags(now);
    return same && !left_over ? ShareRowExclusiveLock : AccessExclusiveLock;
}

}  // namespace

CACHE_EXT_FUNCTION(watch_table) {
    const Oid table = table_argument(fcinfo, "watch_table()");
    hold_applying();
    const LOCKMODE mode = lock_to_watch(fcinfo, table);
    Relation relation = lock_table(table, mode);
    const WatchTriggers present = own_triggers(relation);
    const WatchSpec spec = spec_argument(fcinfo, present, table);
    parse_row_tags(relation, spec.tags, spec.tag_count, true);
    if (spec.has_sql()) check_watch_sql(spec, relation);
    // All tables below it too, from above: whoever takes them in this order waits for nobody who waits for it.
    find_all_inheritors(table, mode, nullptr);
    const char kind = relation->rd_rel->relkind;
    relation_close(relation, NoLock);

    put_watch(table, kind, spec, WatchRole::kTable, present);
    copy_to_members(table);
    drop_orphans();
    invalidate_broadly(spec);
    PG_RETURN_VOID();
}

CACHE_EXT_FUNCTION(unwatch_table) {
    const Oid table = table_argument(fcinfo, "unwatch_table()");
    hold_applying();
    const bool is_watched = peek_at_own_triggers(table).count > 0;
    Relation relation = lock_table(table, is_watched ? AccessExclusiveLock : ShareRowExclusiveLock);
    const WatchTriggers present = own_triggers(relation);
    relation_close(relation, NoLock);
    if (is_watched) find_all_inheritors(table, AccessExclusiveLock, nullptr);
    for (int i = 0; i < present.count; ++i)
        drop_trigger(present.triggers[i].tgoid);
    drop_orphans();
    PG_RETURN_BOOL(present.count > 0);
}

/// The arguments of a trigger, from pg_trigger's own form: each ends with a zero byte.
CACHE_EXT_FUNCTION(trigger_arguments) {
    if (PG_ARGISNULL(0)) PG_RETURN_NULL();
    const bytea* packed = PG_GETARG_BYTEA_PP(0);
    const char* at = VARDATA_ANY(packed);
    const char* const end = at + VARSIZE_ANY_EXHDR(packed);
    ArrayBuildState* arguments = initArrayResult(TEXTOID, CurrentMemoryContext, false);
    while (at < end) {
        const std::size_t bytes = strnlen(at, static_cast<std::size_t>(end - at));
        accumArrayResult(arguments, PointerGetDatum(cstring_to_text_with_len(at, static_cast<int>(bytes))),
                         false, TEXTOID, CurrentMemoryContext);
        at += bytes + 1;
    }
    PG_RETURN_DATUM(makeArrayResult(arguments, CurrentMemoryContext));
}

}  // namespace cache_ext::api
