#include "pg/append.hpp"

#include "pg/subtransaction.hpp"

extern "C" {
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "nodes/execnodes.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace cache_ext::pg {

namespace {

constexpr char kInternalSchema[] = "cache_ext_internal";

/// What the server's functions for catalogs can do without an executor: rows of a heap, in indexes over columns alone.
bool is_as_we_made_it(Relation table, CatalogIndexState indexes) {
    if (table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relam != HEAP_TABLE_AM_OID) return false;
    for (int i = 0; i < indexes->ri_NumIndices; ++i) {
        const IndexInfo& index = *indexes->ri_IndexRelationInfo[i];
        if (index.ii_Expressions != NIL || index.ii_Predicate != NIL || index.ii_ExclusionOps != nullptr)
            return false;
    }
    return true;
}

}  // namespace

Oid find_own_table(const char* name) {
    const Oid schema = get_namespace_oid(kInternalSchema, true);
    return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

OwnRows OwnRows::open(Oid oid) {
    OwnRows rows;
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("a table of the extension's is locked or is not there")));
    // Null: dropped since it was found.
    if (!ConditionalLockRelationOid(oid, RowExclusiveLock) ||
        (rows.table_ = try_table_open(oid, NoLock)) == nullptr) {
        const char* name = get_rel_name(oid);
        ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                        errmsg("table \"%s.%s\" is locked", kInternalSchema, name != nullptr ? name : "?")));
    }
    rows.indexes_ = CatalogOpenIndexes(rows.table_);
    if (!is_as_we_made_it(rows.table_, rows.indexes_))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("table \"%s.%s\" is not as it was made", kInternalSchema,
                               RelationGetRelationName(rows.table_))));
    return rows;
}

void OwnRows::append(HeapTuple row) { CatalogTupleInsertWithInfo(table_, row, indexes_); }

void OwnRows::close() {
    CatalogCloseIndexes(indexes_);
    table_close(table_, NoLock);
}

TupleDesc OwnRows::description() const noexcept { return RelationGetDescr(table_); }

bool append_row(const char* table, MakeRow make, void* context, const char* what) {
    ErrorData* error = attempt([=] {
        OwnRows rows = OwnRows::open(find_own_table(table));
        rows.append(make(rows.description(), context));
        rows.close();
    });
    if (error == nullptr) return true;
    ereport(WARNING, (errcode(error->sqlerrcode), errmsg("%s", what), errdetail("%s", error->message)));
    FreeErrorData(error);
    return false;
}

}  // namespace cache_ext::pg
