#include "pg/append.hpp"

#include "pg/subtransaction.hpp"

extern "C" {
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "commands/sequence.h"
#include "nodes/execnodes.h"
#include "storage/bufmgr.h"
#include "storage/bufpage.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace cache_ext::pg {

namespace {

constexpr char kInternalSchema[] = "cache_ext_internal";

/// Whether rows can be put in there without an executor: of a heap, in indexes of the plainest kind.
bool is_plain_table(Relation table) {
    return table->rd_rel->relkind == RELKIND_RELATION && table->rd_rel->relam == HEAP_TABLE_AM_OID;
}
bool is_plain_index(Relation index) {
    return index->rd_rel->relam == BTREE_AM_OID && !index->rd_index->indisexclusion &&
           heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, nullptr) &&
           heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, nullptr);
}

}  // namespace

Oid find_own_table(const char* name) {
    const Oid schema = get_namespace_oid(kInternalSchema, true);
    return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

OwnSequence read_own_sequence(const char* name) {
    const Oid oid = find_own_table(name);
    Relation sequence = OidIsValid(oid) ? relation_open(oid, AccessShareLock) : nullptr;
    if (sequence == nullptr || sequence->rd_rel->relkind != RELKIND_SEQUENCE)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("sequence \"%s.%s\" does not exist", kInternalSchema, name)));
    const Buffer buffer = ReadBuffer(sequence, 0);
    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    const Page page = BufferGetPage(buffer);
    auto* const row =
        reinterpret_cast<HeapTupleHeader>(PageGetItem(page, PageGetItemId(page, FirstOffsetNumber)));
    const auto* data = reinterpret_cast<Form_pg_sequence_data>(reinterpret_cast<char*>(row) + row->t_hoff);
    const OwnSequence result{data->last_value, data->is_called};
    UnlockReleaseBuffer(buffer);
    relation_close(sequence, AccessShareLock);
    return result;
}

OwnRows OwnRows::open(Oid oid) {
    OwnRows rows;
    if (!OidIsValid(oid))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("a table of the extension's is locked or is not there")));
    if (!ConditionalLockRelationOid(oid, RowExclusiveLock)) {
        const char* name = get_rel_name(oid);
        ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
                        errmsg("table \"%s.%s\" is locked", kInternalSchema, name != nullptr ? name : "?")));
    }
    // Raises where it was dropped since it was found. Unlike try_table_open without a look at the catalog.
    rows.table_ = table_open(oid, NoLock);
    bool is_plain = is_plain_table(rows.table_);
    ListCell* cell = nullptr;
    foreach (cell, RelationGetIndexList(rows.table_)) {
        if (rows.index_count_ == kIndexes) is_plain = false;
        if (!is_plain) break;
        Relation index = index_open(lfirst_oid(cell), RowExclusiveLock);
        rows.indexes_[rows.index_count_++] = index;
        is_plain = is_plain_index(index);
    }
    if (!is_plain)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("table \"%s.%s\" is not as it was made", kInternalSchema,
                               RelationGetRelationName(rows.table_))));
    return rows;
}

void OwnRows::append(HeapTuple row) {
    simple_heap_insert(table_, row);
    for (int i = 0; i < index_count_; ++i) {
        Relation index = indexes_[i];
        if (!index->rd_index->indisready) continue;
        Datum values[INDEX_MAX_KEYS];
        bool nulls[INDEX_MAX_KEYS];
        for (int key = 0; key < index->rd_index->indnatts; ++key)
            values[key] = heap_getattr(row, index->rd_index->indkey.values[key], description(), &nulls[key]);
        // Nothing of it but its kind is looked at for an index like this.
        IndexInfo info{};
        info.type = T_IndexInfo;
        (void)index_insert(index, values, nulls, &row->t_self, table_,
                           index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, &info);
    }
}

void OwnRows::close() {
    while (index_count_ > 0)
        index_close(indexes_[--index_count_], NoLock);
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
