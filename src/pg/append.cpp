#include "pg/append.hpp"

#include "pg/subtransaction.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace cache_ext::pg {

namespace {

constexpr char kInternalSchema[] = "cache_ext_internal";

/// In the subtransaction. False: somebody is at work on the table.
bool append(const char* name, MakeRow make, void* context) {
    const Oid oid = find_own_table(name);
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("table \"%s.%s\" does not exist", kInternalSchema, name)));
    if (!ConditionalLockRelationOid(oid, RowExclusiveLock)) return false;
    // Null: dropped since it was found.
    Relation table = try_table_open(oid, NoLock);
    if (table == nullptr) return false;
    if (table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relam != HEAP_TABLE_AM_OID)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("table \"%s.%s\" is not kept as a heap", kInternalSchema, name)));
    // Meant for catalogs, which is what these tables are to the extension.
    CatalogTupleInsert(table, make(RelationGetDescr(table), context));
    table_close(table, NoLock);
    return true;
}

}  // namespace

Oid find_own_table(const char* name) {
    const Oid schema = get_namespace_oid(kInternalSchema, true);
    return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

bool append_row(const char* table, MakeRow make, void* context, const char* what) {
    bool appended = false;
    ErrorData* error = attempt([&] { appended = append(table, make, context); });
    if (error != nullptr) {
        ereport(WARNING, (errcode(error->sqlerrcode), errmsg("%s", what), errdetail("%s", error->message)));
        FreeErrorData(error);
        return false;
    }
    if (!appended)
        ereport(WARNING, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("%s", what),
                          errdetail("Table \"%s.%s\" is locked.", kInternalSchema, table)));
    return appended;
}

}  // namespace cache_ext::pg
