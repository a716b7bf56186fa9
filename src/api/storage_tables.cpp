#include "api/storage_tables.hpp"

#include "api/make_trigger.hpp"
#include "api/context.hpp"
#include "api/storage_listing.hpp"
#include "pg/space.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace cache_ext::api {

namespace detail {
constinit StorageTables storage_tables{};
constinit bool storage_tables_valid = false;
}  // namespace detail

namespace {

constexpr char kInternalSchema[] = "cache_ext_internal";
constexpr char kTriggerFunction[] = "handle_storage_change";

/// Goes up with each invalidation, so that a look-up during which one arrives is not kept.
constinit std::uint32_t invalidations = 0;
constinit Oid settings_table = InvalidOid;

void forget(Datum /*argument*/, Oid relation) noexcept {
    const StorageTables& t = detail::storage_tables;
    const auto is_one = [&](Oid of) { return of == relation; };
    // While nothing is counted anything may be what begins it.
    if (!OidIsValid(relation) || !t.enabled || !t.counting || !t.has_tables || is_one(settings_table) ||
        is_one(t.objects) || is_one(t.totals.table) || is_one(t.totals.index) || is_one(t.deltas.table) ||
        is_one(t.deltas.index) || is_one(t.marks.table) || is_one(t.marks.index) || is_one(t.state)) {
        ++invalidations;
        detail::storage_tables_valid = false;
    }
}

struct Column {
    const char* name;
    Oid type;
};

constexpr Column kTotals[] = {{"owner", TEXTOID},
                              {"bucket", TEXTOID},
                              {"bytes", NUMERICOID},
                              {"files", INT8OID},
                              {"changed_at", TIMESTAMPTZOID}};
constexpr Column kDeltas[] = {{"owner", TEXTOID},
                              {"bucket", TEXTOID},
                              {"bytes", INT8OID},
                              {"files", INT8OID},
                              {"changed_at", TIMESTAMPTZOID}};
constexpr Column kMarks[] = {{"owner", TEXTOID}, {"reason", TEXTOID}, {"marked_at", TIMESTAMPTZOID}};
constexpr Column kState[] = {
    {"singleton", BOOLOID}, {"populated_at", TIMESTAMPTZOID}, {"covers", XID8OID}, {"fingerprint", INT8OID}};
constexpr Column kSettings[] = {{"singleton", BOOLOID}, {"usage_schema", TEXTOID}, {"usage_table", TEXTOID}};

/// Set where a look-up did not see everything, because of somebody's lock: then it is made again next time.
constinit bool incomplete = false;

/// Opens a relation, without waiting for anybody. Null: it is gone, or locked.
Relation open_at_once(Oid oid) {
    if (!ConditionalLockRelationOid(oid, AccessShareLock)) {
        incomplete = true;
        return nullptr;
    }
    Relation relation = try_relation_open(oid, NoLock);
    if (relation == nullptr) UnlockRelationOid(oid, AccessShareLock);
    return relation;
}

/// A table of the extension's own, as it was made: anything else is left alone.
template <std::size_t kCount>
Relation open_own(Oid schema, const char* name, const Column (&columns)[kCount]) {
    const Oid oid = get_relname_relid(name, schema);
    if (!OidIsValid(oid) || get_rel_relkind(oid) != RELKIND_RELATION ||
        getExtensionOfObject(RelationRelationId, oid) != get_extension_oid("cache_ext", true))
        return nullptr;
    Relation relation = open_at_once(oid);
    if (relation == nullptr) return nullptr;
    const TupleDesc row = RelationGetDescr(relation);
    bool is_whole = relation->rd_rel->relam == HEAP_TABLE_AM_OID && row->natts >= static_cast<int>(kCount);
    for (std::size_t i = 0; is_whole && i < kCount; ++i) {
        const auto* column = TupleDescAttr(row, i);
        is_whole = !column->attisdropped && column->atttypid == columns[i].type &&
                   std::strcmp(NameStr(column->attname), columns[i].name) == 0;
    }
    if (is_whole) return relation;
    relation_close(relation, AccessShareLock);
    return nullptr;
}

/// The index on owners, if it can be used as that.
Oid find_owner_index(Oid schema, const char* name, Oid table) {
    const Oid oid = get_relname_relid(name, schema);
    Oid found = InvalidOid;
    if (!OidIsValid(oid) || get_rel_relkind(oid) != RELKIND_INDEX) return found;
    Relation index = open_at_once(oid);
    if (index == nullptr) return found;
    const auto* form = index->rd_index;
    if (form->indrelid == table && form->indisvalid && form->indislive && form->indkey.values[0] == 1 &&
        index->rd_rel->relam == BTREE_AM_OID && index->rd_indcollation[0] == C_COLLATION_OID &&
        heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, nullptr))
        found = oid;
    relation_close(index, AccessShareLock);
    return found;
}

template <std::size_t kCount>
OwnedTable find_owned(Oid schema, const char* name, const char* index, const Column (&columns)[kCount]) {
    OwnedTable found{InvalidOid, InvalidOid};
    if (Relation table = open_own(schema, name, columns); table != nullptr) {
        found = {RelationGetRelid(table), find_owner_index(schema, index, RelationGetRelid(table))};
        relation_close(table, AccessShareLock);
    }
    return found;
}

void take_name(HeapTuple row, int column, TupleDesc description, NameData& name) {
    bool is_null = true;
    const Datum value = heap_getattr(row, column, description, &is_null);
    namestrcpy(&name, is_null ? "" : TextDatumGetCString(value));
}

/// Reads what is to be counted. False: nothing.
bool read_settings(Oid schema, StorageTables& found) {
    Relation settings = open_own(schema, kStorageSettings, kSettings);
    if (settings == nullptr) return false;
    settings_table = RelationGetRelid(settings);
    SysScanDesc scan = systable_beginscan(settings, InvalidOid, false, nullptr, 0, nullptr);
    HeapTuple row = systable_getnext(scan);
    if (HeapTupleIsValid(row)) {
        const TupleDesc description = RelationGetDescr(settings);
        take_name(row, 2, description, found.usage_schema);
        take_name(row, 3, description, found.usage_table);
        found.enabled = true;
    }
    systable_endscan(scan);
    relation_close(settings, AccessShareLock);
    return found.enabled;
}

/// The definitions that decide what is counted, each by the transaction that made it as it is: a trigger that was off for a while, a column that was given other values as
/// its type changed, make another.
class Fingerprint {
public:
    void add(std::uint32_t value) noexcept { hash_ = hash_combine64(hash_, murmurhash32(value)); }
    void add(HeapTuple tuple) noexcept { add(HeapTupleHeaderGetRawXmin(tuple->t_data)); }
    void add_column(Oid table, AttrNumber column) {
        add(static_cast<std::uint32_t>(column));
        if (column == InvalidAttrNumber) return;
        HeapTuple tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(table), Int16GetDatum(column));
        if (!HeapTupleIsValid(tuple)) return;
        add(tuple);
        ReleaseSysCache(tuple);
    }
    std::int64_t value() const noexcept { return static_cast<std::int64_t>(hash_); }

private:
    std::uint64_t hash_ = 0;
};

/// Whether both triggers are there and fire always; then they are added.
bool add_triggers(Oid table, Oid function, Fingerprint& fingerprint) {
    int count = 0;
    Relation catalog = table_open(TriggerRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
    SysScanDesc scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, nullptr, 1, &key);
    while (HeapTuple tuple = systable_getnext(scan)) {
        const auto* row = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
        const char* name = NameStr(row->tgname);
        if (std::strcmp(name, kStorageRowTrigger) != 0 && std::strcmp(name, kStorageTruncateTrigger) != 0)
            continue;
        if (row->tgfoid != function || row->tgenabled != TRIGGER_FIRES_ALWAYS) continue;
        ++count;
        fingerprint.add(row->oid);
        fingerprint.add(tuple);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return count == 2;
}

/// The table that has the triggers; of several, which somebody must have made by hand, none is it for certain.
Oid find_objects(Oid function, bool& is_certain) {
    Oid found = InvalidOid;
    is_certain = true;
    const List* triggers = triggers_of(function);
    for (int i = 0; i < list_length(triggers); ++i) {
        NamedTrigger trigger;
        if (!look_up_trigger(list_nth_oid(triggers, i), trigger) ||
            (std::strcmp(NameStr(trigger.name), kStorageRowTrigger) != 0 &&
             std::strcmp(NameStr(trigger.name), kStorageTruncateTrigger) != 0))
            continue;
        is_certain = is_certain && (!OidIsValid(found) || found == trigger.relation);
        found = trigger.relation;
    }
    return found;
}

/// The table whose objects are counted.
void look_at_objects(StorageTables& found) {
    const Oid function = storage_trigger_function();
    bool is_certain = true;
    const Oid oid = find_objects(function, is_certain);
    Relation objects = OidIsValid(oid) ? try_relation_open(oid, AccessShareLock) : nullptr;
    if (objects == nullptr) return;
    const char* fault = nullptr;
    if (objects->rd_rel->relkind == RELKIND_RELATION && objects->rd_rel->relam == HEAP_TABLE_AM_OID &&
        find_shape(RelationGetDescr(objects), found.shape, fault)) {
        found.objects = oid;
        Fingerprint fingerprint;
        fingerprint.add(oid);
        found.counting = add_triggers(oid, function, fingerprint) && is_certain;
        for (const AttrNumber column :
             {found.shape.bucket_id, found.shape.metadata, found.shape.owner_id, found.shape.owner})
            fingerprint.add_column(oid, column);
        found.fingerprint = fingerprint.value();
    }
    relation_close(objects, AccessShareLock);
}

}  // namespace

Oid storage_trigger_function() {
    const pg::Space& space = pg::current_space();
    if (!space.exists) return InvalidOid;
    oidvector* none = buildoidvector(nullptr, 0);
    return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(kTriggerFunction),
                           PointerGetDatum(none), ObjectIdGetDatum(space.schema));
}

const StorageTables& detail::look_storage_tables_up() {
    const std::uint32_t before = invalidations;
    incomplete = false;
    StorageTables found{};
    const Oid schema = get_namespace_oid(kInternalSchema, true);
    if (OidIsValid(schema) && pg::current_space().exists && read_settings(schema, found)) {
        look_at_objects(found);
        found.totals = find_owned(schema, "storage_totals", "storage_totals_pkey", kTotals);
        found.deltas = find_owned(schema, "storage_deltas", "storage_deltas_owner", kDeltas);
        found.marks = find_owned(schema, "storage_marks", "storage_marks_owner", kMarks);
        if (Relation state = open_own(schema, "storage_state", kState); state != nullptr) {
            found.state = RelationGetRelid(state);
            relation_close(state, AccessShareLock);
        }
        found.has_tables = OidIsValid(found.totals.table) && OidIsValid(found.deltas.table) &&
                           OidIsValid(found.marks.table) && OidIsValid(found.state);
    }
    found.unknown = incomplete && !found.enabled;
    storage_tables = found;
    storage_tables_valid = invalidations == before && !incomplete;
    return storage_tables;
}

const StorageTables& lock_storage_objects() {
    for (;;) {
        const Oid objects = storage_tables().objects;
        if (storage_tables().unknown) {
            ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                            errmsg("the settings of the storage usage are locked")));
        }
        if (!storage_tables().enabled || !OidIsValid(objects)) {
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("storage usage is not being counted"),
                            errhint("SELECT enable_storage_usage_cache();")));
        }
        LockRelationOid(objects, AccessShareLock);
        // While it waited, another may have become it.
        if (const StorageTables& now = storage_tables(); now.enabled && now.objects == objects) return now;
        UnlockRelationOid(objects, AccessShareLock);
    }
}

void announce_storage_tables() {
    if (OidIsValid(settings_table)) CacheInvalidateRelcacheByRelid(settings_table);
    CommandCounterIncrement();
    detail::storage_tables_valid = false;
    // What was listed while nobody told of changes, or will be.
    invalidate_listings(space_id());
}

void init_storage_tables() { CacheRegisterRelcacheCallback(forget, Datum{0}); }

}  // namespace cache_ext::api
