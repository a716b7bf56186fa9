#include "pg/space.hpp"

#include "pg/identity.hpp"
#include "pg/sha256.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/uuid.h"
}

namespace cache_ext::pg {

namespace detail {
constinit Space space{};
constinit bool space_valid = false;
}  // namespace detail

namespace {

constexpr char kExtension[] = "cache_ext";
constexpr char kInternalSchema[] = "cache_ext_internal";
constexpr char kIdentityTable[] = "identity";
constexpr char kIdColumn[] = "space_id";

constexpr Space kNoSpace{};

/// Goes up with each invalidation, so that a look-up during which one arrives is not kept.
constinit std::uint32_t invalidations = 0;
/// The table whose invalidation ends detail::space. Any may while there is no space: creating one creates the table.
constinit Oid identity_table = InvalidOid;

void forget_space(Datum /*argument*/, Oid relation) noexcept {
    if (!OidIsValid(relation) || !OidIsValid(identity_table) || relation == identity_table) {
        ++invalidations;
        if (detail::space_valid) {
            detail::space_valid = false;
            forget_caller();
        }
    }
}

/// Reads pg_extension. InvalidOid: not installed.
Oid read_extension(Space& space) {
    Oid extension = InvalidOid;
    Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
                CStringGetDatum(kExtension));
    SysScanDesc scan = systable_beginscan(catalog, ExtensionNameIndexId, true, nullptr, 1, &key);
    if (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple)) {
        const auto* row = reinterpret_cast<Form_pg_extension>(GETSTRUCT(tuple));
        extension = row->oid;
        space.extension_owner = row->extowner;
        space.schema = row->extnamespace;
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return extension;
}

/// Reads the one row of the identity table, with the newest snapshot, whatever the transaction's own sees. False: none.
bool read_identity(Relation table, pg_uuid_t& id) {
    const AttrNumber column = get_attnum(RelationGetRelid(table), kIdColumn);
    if (column == InvalidAttrNumber || get_atttype(RelationGetRelid(table), column) != UUIDOID) {
        return false;
    }
    bool found = false;
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
    if (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple)) {
        bool is_null = true;
        const Datum value = heap_getattr(tuple, column, RelationGetDescr(table), &is_null);
        if (!is_null) {
            id = *DatumGetUUIDP(value);
            found = true;
        }
    }
    systable_endscan(scan);
    return found;
}

/// The identity table, if it is a table that the extension owns: nobody else's is believed.
Oid find_identity_table(Oid extension) {
    const Oid schema = get_namespace_oid(kInternalSchema, true);
    const Oid table = OidIsValid(schema) ? get_relname_relid(kIdentityTable, schema) : InvalidOid;
    return OidIsValid(table) && get_rel_relkind(table) == RELKIND_RELATION &&
                   getExtensionOfObject(RelationRelationId, table) == extension
               ? table
               : InvalidOid;
}

}  // namespace

const Space& detail::look_space_up() {
    if (!IsTransactionState()) {
        return kNoSpace;
    }
    identity_table = InvalidOid;
    const std::uint32_t before = invalidations;
    Space found{};
    Oid watched = InvalidOid;

    if (const Oid extension = read_extension(found); OidIsValid(extension)) {
        watched = find_identity_table(extension);
        // Null: dropped since it was found.
        if (Relation table = OidIsValid(watched) ? try_table_open(watched, AccessShareLock) : nullptr;
            table != nullptr) {
            struct {
                pg_uuid_t id;
                Oid database;
            } source{};
            found.exists = read_identity(table, source.id);
            table_close(table, AccessShareLock);
            if (found.exists) {
                source.database = MyDatabaseId;
                sha256_128(&source, sizeof(source)).to_words(found.id);
            }
        }
        if (!found.exists) {
            // Being created or dropped, and the row that is missing will not announce itself: ask again next time.
            space = kNoSpace;
            forget_caller();
            return space;
        }
    }

    space = found.exists ? found : kNoSpace;
    identity_table = watched;
    space_valid = invalidations == before;
    forget_caller();
    return space;
}

void init_space() { CacheRegisterRelcacheCallback(forget_space, Datum{0}); }

}  // namespace cache_ext::pg
