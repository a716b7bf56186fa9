// enable_storage_usage_cache, disable_storage_usage_cache.
//
// To make the triggers the table is locked against whoever writes it, until the transaction ends. So every row is either of a transaction that has ended before anything
// could be computed, or counted by the triggers; what there is, is computed after that, by the background worker or by refresh_storage_usage_cache.

#include "api/make_trigger.hpp"
#include "api/storage_mirror_table.hpp"
#include "api/storage_recompute.hpp"
#include "api/storage_tables.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"
#include "worker/own_table.hpp"
#include "worker/worker.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace cache_ext::api {

namespace {

constexpr TriggerPlan kRowTrigger = {
    kStorageRowTrigger,  true, TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE, false, false,
    TRIGGER_FIRES_ALWAYS};
constexpr TriggerPlan kTruncateTrigger = {kStorageTruncateTrigger, false, TRIGGER_TYPE_TRUNCATE, false, false,
                                          TRIGGER_FIRES_ALWAYS};

[[noreturn]] void raise_kind(Relation relation, const char* what, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                    errmsg("cannot count the objects in %s \"%s\"", what, RelationGetRelationName(relation)),
                    errhint("%s", hint)));
    pg_unreachable();
}

constexpr char kOnlyTables[] = "Name the table that the objects are rows of, such as storage.objects.";

void check_kind(Relation relation) {
    switch (relation->rd_rel->relkind) {
        case RELKIND_RELATION:
            break;
        case RELKIND_PARTITIONED_TABLE:
            raise_kind(relation, "partitioned table", kOnlyTables);
        case RELKIND_VIEW:
            raise_kind(relation, "view", kOnlyTables);
        case RELKIND_MATVIEW:
            raise_kind(relation, "materialized view", kOnlyTables);
        case RELKIND_FOREIGN_TABLE:
            raise_kind(relation, "foreign table", "What is changed on the other server is not seen here.");
        default:
            raise_kind(relation, "relation", kOnlyTables);
    }
    if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
        raise_kind(relation, "temporary table", kOnlyTables);
    if (relation->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
        raise_kind(relation, "unlogged table",
                   "After a crash it is empty, and no trigger tells: ALTER TABLE … SET LOGGED.");
    if (relation->rd_rel->relispartition) raise_kind(relation, "partition", kOnlyTables);
    if (has_superclass(RelationGetRelid(relation)) || has_subclass(RelationGetRelid(relation)))
        raise_kind(relation, "table with inheritance", kOnlyTables);
    if (relation->rd_rel->relam != HEAP_TABLE_AM_OID)
        raise_kind(relation, "table that is not a heap", kOnlyTables);
    if (IsCatalogRelation(relation)) {
        ereport(ERROR,
                (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                 errmsg("permission denied: \"%s\" is a system catalog", RelationGetRelationName(relation))));
    }
}

void check_privileges(Oid table, AclMode wanted, const char* why) {
    const char* name = get_rel_name(table);
    if (name == nullptr || pg_class_aclmask(table, GetUserId(), wanted, ACLMASK_ALL) == wanted) return;
    ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for table %s", name),
                    errdetail("%s", why)));
}

void check_shape(Relation relation) {
    ObjectShape shape;
    const char* fault = nullptr;
    if (find_shape(RelationGetDescr(relation), shape, fault)) return;
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                    errmsg("table \"%s\" is not of the shape of storage.objects: %s",
                           RelationGetRelationName(relation), fault),
                    errhint("It needs bucket_id and name of type text, metadata of type jsonb, and owner_id "
                            "or owner of type "
                            "text or uuid.")));
}

/// Makes a trigger unless it is there as it has to be.
void put_trigger(Relation relation, const TriggerPlan& plan) {
    const TriggerDesc* all = relation->trigdesc;
    const Oid function = storage_trigger_function();
    for (int i = 0; all != nullptr && i < all->numtriggers; ++i) {
        const Trigger& t = all->triggers[i];
        if (std::strcmp(t.tgname, plan.name) == 0 && t.tgfoid == function && t.tgenabled == plan.fires &&
            (t.tgtype & ~TRIGGER_TYPE_ROW) == plan.events)
            return;
    }
    make_trigger(RelationGetRelid(relation), plan, function, NIL);
}

/// Drops the triggers of a table, if it has them.
void drop_triggers(Oid table) {
    for (const char* name : {kStorageRowTrigger, kStorageTruncateTrigger}) {
        if (const Oid trigger = get_trigger_oid(table, name, true); OidIsValid(trigger))
            drop_trigger(trigger);
    }
}

/// What is to be noted in the settings.
struct Settings {
    Datum schema;
    Datum table;
};

void write_settings(const char* table, const void* context) {
    const Settings& settings = *static_cast<const Settings*>(context);
    Oid types[] = {TEXTOID, TEXTOID};
    Datum values[] = {settings.schema, settings.table};
    worker::execute_write(
        psprintf(
            "INSERT INTO %s (usage_schema, usage_table) VALUES ($1, $2) ON CONFLICT (singleton) DO UPDATE"
            " SET usage_schema = excluded.usage_schema, usage_table = excluded.usage_table",
            table),
        2, types, values);
}

Oid find_settings() {
    const Oid schema = get_namespace_oid("cache_ext_internal", true);
    const Oid table = OidIsValid(schema) ? get_relname_relid(kStorageSettings, schema) : InvalidOid;
    if (!OidIsValid(table)) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("the tables that storage usage is kept in are not as they were made"),
                        errhint("Create the extension anew.")));
    }
    return table;
}

Relation open_objects(Oid table) {
    Relation relation = try_relation_open(table, ShareRowExclusiveLock);
    if (relation == nullptr)
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", table)));
    return relation;
}

}  // namespace

CACHE_EXT_FUNCTION(enable_storage_usage_cache) {
    PreventCommandIfReadOnly("enable_storage_usage_cache()");
    if (PG_ARGISNULL(0)) {
        ereport(
            ERROR,
            (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("there is no table of objects"),
             errhint("Pass the table; without an argument it is storage.objects, which does not exist.")));
    }
    const Oid table = PG_GETARG_OID(0);
    check_privileges(table, ACL_TRIGGER | ACL_SELECT,
                     "To count its objects one needs the privileges TRIGGER and SELECT.");
    const StorageTables before = storage_tables();
    Relation objects = open_objects(table);
    check_kind(objects);
    check_shape(objects);
    put_trigger(objects, kRowTrigger);
    put_trigger(objects, kTruncateTrigger);
    relation_close(objects, NoLock);
    if (before.enabled && OidIsValid(before.objects) && before.objects != table) {
        check_privileges(before.objects, ACL_TRIGGER, "Its objects have been counted until now.");
        drop_triggers(before.objects);
    }

    const UsageTable usage = prepare_usage_table();
    const Settings settings{CStringGetTextDatum(usage.schema), CStringGetTextDatum(usage.name)};
    worker::write_as_owner(find_settings(), write_settings, &settings);
    announce_storage_tables();
    worker::want_for_storage();
    PG_RETURN_VOID();
}

CACHE_EXT_FUNCTION(disable_storage_usage_cache) {
    PreventCommandIfReadOnly("disable_storage_usage_cache()");
    const StorageTables tables = storage_tables();
    if (!tables.enabled) {
        ereport(NOTICE, (errmsg("storage usage is not being counted")));
        PG_RETURN_BOOL(false);
    }
    if (OidIsValid(tables.objects)) {
        check_privileges(tables.objects, ACL_TRIGGER, "Its triggers are to be dropped.");
        relation_close(open_objects(tables.objects), NoLock);
        drop_triggers(tables.objects);
    }
    if (tables.has_tables) forget_storage_sums(tables);
    worker::write_as_owner(
        find_settings(),
        [](const char* table, const void* /*context*/) {
            worker::execute_write(psprintf("DELETE FROM %s", table));
        },
        nullptr);
    announce_storage_tables();
    if (NameStr(tables.usage_table)[0] != '\0') {
        ereport(NOTICE,
                (errmsg("table %s stays as it is", quote_qualified_identifier(NameStr(tables.usage_schema),
                                                                              NameStr(tables.usage_table))),
                 errhint("Drop it if nothing needs it.")));
    }
    PG_RETURN_BOOL(true);
}

}  // namespace cache_ext::api
