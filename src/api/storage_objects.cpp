#include "api/storage_objects.hpp"

#include "api/storage_tables.hpp"
#include "pg/environment.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
}

namespace cache_ext::api {

Oid storage_table(const char* name) {
    const Oid schema = LookupExplicitNamespace("storage", true);
    const Oid table = OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
    if (!OidIsValid(table)) {
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation \"storage.%s\" does not exist", name),
                 errhint("It is made by the storage service of Supabase.")));
    }
    return table;
}

// Read as the server reads its catalogs: no privilege is asked for, and nobody's code runs.
bool storage_bucket_exists(std::string_view id) {
    Relation buckets = table_open(storage_table("buckets"), AccessShareLock);
    const AttrNumber column = get_attnum(RelationGetRelid(buckets), "id");
    bool exists = true;
    if (buckets->rd_rel->relkind == RELKIND_RELATION && column != InvalidAttrNumber &&
        TupleDescAttr(RelationGetDescr(buckets), column - 1)->atttypid == TEXTOID) {
        ScanKeyData key;
        ScanKeyEntryInitialize(
            &key, 0, column, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ,
            PointerGetDatum(cstring_to_text_with_len(id.data(), static_cast<int>(id.size()))));
        SysScanDesc scan = systable_beginscan(buckets, InvalidOid, false, GetActiveSnapshot(), 1, &key);
        exists = HeapTupleIsValid(systable_getnext(scan));
        systable_endscan(scan);
    }
    table_close(buckets, NoLock);
    return exists;
}

bool tells_of_changes(Oid objects) {
    const StorageTables& tables = storage_tables();
    return tables.counting && tables.objects == objects;
}

void set_storage_operation(const char* operation) { pg::set_locally("storage.operation", operation); }

}  // namespace cache_ext::api
