#include "pg/compat.hpp"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/pgstat_internal.h"
#if PG_VERSION_NUM < 170000
// 17 replaced backend ids by the numbers of the PGPROC array.
#include "storage/backendid.h"
#endif
}

namespace cache_ext::pg {

int backend_index() noexcept {
#if PG_VERSION_NUM >= 170000
    // A PGPROC's number, from 0; -1 without one.
    return MyProcNumber;
#else
    // A backend id, from 1; InvalidBackendId is -1.
    return MyBackendId == InvalidBackendId ? -1 : MyBackendId - 1;
#endif
}

int process_number() noexcept {
#if PG_VERSION_NUM >= 170000
    return MyProcNumber;
#else
    // 17 took the number out of the structure.
    return MyProc->pgprocno;
#endif
}

int max_backend_slots() noexcept {
    // Auxiliary processes come after the backends in both numberings.
    return MaxBackends + NUM_AUXILIARY_PROCS;
}

TransactionId oldest_known_transaction() noexcept {
#if PG_VERSION_NUM >= 170000
    // 17 gave it another name.
    return TransamVariables->oldestClogXid;
#else
    return ShmemVariableCache->oldestClogXid;
#endif
}

WaitEventSet* make_wait_set(int events) {
#if PG_VERSION_NUM >= 170000
    // 17 has its resources owned; this one is not.
    return CreateWaitEventSet(nullptr, events);
#else
    return CreateWaitEventSet(TopMemoryContext, events);
#endif
}

MinimalTuple form_minimal_tuple(TupleDesc row, Datum* values, bool* nulls) {
#if PG_VERSION_NUM >= 180000
    // 18 can leave room before the tuple.
    return heap_form_minimal_tuple(row, values, nulls, 0);
#else
    return heap_form_minimal_tuple(row, values, nulls);
#endif
}

void visit_settings(const char* prefix, void (*visit)(const char* name)) {
    // From 16 on they are in a hash table, of which the server makes an array.
#if PG_VERSION_NUM >= 160000
    int count = 0;
    config_generic** all = get_guc_variables(&count);
#else
    config_generic** all = get_guc_variables();
    const int count = GetNumConfigOptions();
#endif
    for (int i = 0; i < count; ++i) {
        if (pg_strncasecmp(all[i]->name, prefix, std::strlen(prefix)) == 0) visit(all[i]->name);
    }
}

bool may_execute(Oid function, Oid role) {
#if PG_VERSION_NUM >= 160000
    // 16 has one function for all kinds of objects.
    return object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE) == ACLCHECK_OK;
#else
    return pg_proc_aclcheck(function, role, ACL_EXECUTE) == ACLCHECK_OK;
#endif
}

namespace {

Oid relation_of(const PgStat_TableXactStatus& table) noexcept {
#if PG_VERSION_NUM >= 160000
    return table.parent->id;
#else
    // 16 renamed the field.
    return table.parent->t_id;
#endif
}

}  // namespace

bool any_written_relation(bool (*test)(void* context, Oid relation), void* context) {
    // The counts that each nesting level keeps until its end is known: the server's own book of what was written.
    for (const PgStat_SubXactStatus* level = pgstat_get_xact_stack_level(GetCurrentTransactionNestLevel());
         level != nullptr; level = level->prev) {
        for (const PgStat_TableXactStatus* table = level->first; table != nullptr; table = table->next) {
            if (test(context, relation_of(*table))) return true;
        }
    }
    return false;
}

std::int64_t written_rows(Oid relation) {
    std::int64_t rows = 0;
    for (const PgStat_SubXactStatus* level = pgstat_get_xact_stack_level(GetCurrentTransactionNestLevel());
         level != nullptr; level = level->prev) {
        for (const PgStat_TableXactStatus* table = level->first; table != nullptr; table = table->next) {
            if (relation_of(*table) == relation)
                rows += table->tuples_inserted + table->tuples_updated + table->tuples_deleted;
        }
    }
    return rows;
}

namespace {

#if PG_VERSION_NUM >= 160000
TreeWalker server_walker(TreeWalker walker) noexcept { return walker; }
#else
// 15 declares walkers without arguments, which in C++ means that they take none.
auto server_walker(TreeWalker walker) noexcept {
    return reinterpret_cast<bool (*)()>(reinterpret_cast<void (*)()>(walker));
}
#endif

}  // namespace

bool walk_query(Query* query, TreeWalker walker, void* context) {
    return query_tree_walker(query, server_walker(walker), context, QTW_EXAMINE_RTES_BEFORE);
}

bool walk_expression(Node* node, TreeWalker walker, void* context) {
    return expression_tree_walker(node, server_walker(walker), context);
}

void SettingRef::take(config_generic* record) noexcept {
    record_ = record;
    record_name_ = record != nullptr ? record->name : nullptr;
    variable_ = record != nullptr && record->vartype == PGC_STRING
                    ? reinterpret_cast<config_string*>(record)->variable
                    : nullptr;
}

const char* SettingRef::other_value() const noexcept {
    return record_ != nullptr ? GetConfigOption(name_, true, false) : nullptr;
}

#if PG_VERSION_NUM < 160000

// 15 keeps pointers to all settings in one array sorted by name, which it lets us see. A record in the array
// is alive; one that is replaced leaves the array before it is freed, and its name is never freed, so the same record
// under the same name is the same setting. A setting that is created has to go between its
// neighbours.

namespace {

/// The array's order: bytes, with ASCII letters in lower case.
int compare_names(const char* left, const char* right) noexcept {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; };
    while (*left != '\0' && lower(*left) == lower(*right)) {
        ++left;
        ++right;
    }
    if (*left == '\0' || *right == '\0') {
        return (*left != '\0') - (*right != '\0');
    }
    return lower(*left) - lower(*right);
}

}  // namespace

bool SettingRef::is_current() const noexcept {
    if (position_ < 0) {
        return false;
    }
    config_generic** const all = get_guc_variables();
    const int count = GetNumConfigOptions();
    if (record_ != nullptr) [[likely]] {
        return position_ < count && all[position_] == record_ && record_->name == record_name_;
    }
    for (int side = 0; side < 2; ++side) {
        const int place = position_ - 1 + side;
        config_generic* const there = place >= 0 && place < count ? all[place] : nullptr;
        if (there != neighbours_[side] || (there != nullptr && there->name != neighbour_names_[side])) {
            return false;
        }
    }
    return true;
}

void SettingRef::resolve() noexcept {
    config_generic** const all = get_guc_variables();
    const int count = GetNumConfigOptions();
    config_generic** const found = std::lower_bound(
        all, all + count, name_,
        [](const config_generic* record, const char* name) { return compare_names(record->name, name) < 0; });
    position_ = static_cast<int>(found - all);
    if (position_ < count && compare_names(all[position_]->name, name_) == 0) {
        take(all[position_]);
        return;
    }
    take(nullptr);
    for (int side = 0; side < 2; ++side) {
        const int place = position_ - 1 + side;
        neighbours_[side] = place >= 0 && place < count ? all[place] : nullptr;
        neighbour_names_[side] = neighbours_[side] != nullptr ? neighbours_[side]->name : nullptr;
    }
}

#else

// From 16 on settings are in a hash table that only find_option reaches. A setting that is defined (by the
// server or by a library, which is never unloaded) stays. A placeholder that has a value is a member of the list of
// settings that are not at their default, and leaves that list before it is dropped from the table or
// freed. A freed one lies in the server's memory context for settings: still readable, its first word, the name,
// overwritten by the free list's link. Whatever is neither defined nor in the list is looked up.

bool SettingRef::is_current() const noexcept {
    if (record_ == nullptr || record_->name != record_name_) {
        return false;
    }
    if ((record_->flags & GUC_CUSTOM_PLACEHOLDER) == 0) {
        return true;
    }
    const dlist_node* const link = &record_->nondef_link;
    return record_->source != PGC_S_DEFAULT && link->prev->next == link && link->next->prev == link;
}

void SettingRef::resolve() noexcept { take(find_option(name_, false, true, DEBUG5)); }

#endif

}  // namespace cache_ext::pg
