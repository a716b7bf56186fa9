#include "pg/observe.hpp"

#include "pg/writes.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "nodes/plannodes.h"
#include "utils/syscache.h"
}

namespace cache_ext::pg {

namespace detail {
constinit Observation* observing = nullptr;

void note_cached_read() noexcept {
    for (Observation* o = observing; o != nullptr; o = o->outer)
        o->untrackable = true;
}
}  // namespace detail

namespace {

constinit ExecutorStart_hook_type previous_start = nullptr;

enum class Kind : std::uint8_t {
    kNothing,  ///< holds no rows of its own; what it stands for is in the plan too
    kTable,
    kTemporary,
    kUntrackable,  ///< its changes are not seen: foreign, a catalog, a sequence, not kept as a heap
};

Kind kind_of(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return Kind::kUntrackable;
    const auto* row = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    Kind kind = Kind::kUntrackable;
    if (row->relpersistence == RELPERSISTENCE_TEMP) {
        kind = Kind::kTemporary;
    } else if (row->relkind == RELKIND_VIEW || row->relkind == RELKIND_PARTITIONED_TABLE) {
        kind = Kind::kNothing;
    } else if (relation >= FirstNormalObjectId && row->relam == HEAP_TABLE_AM_OID &&
               (row->relkind == RELKIND_RELATION || row->relkind == RELKIND_MATVIEW)) {
        kind = Kind::kTable;
    }
    ReleaseSysCache(tuple);
    return kind;
}

/// Adds a relation to one observation. False: it is there.
bool add(Observation& o, Oid relation) noexcept {
    if (!o.wants_relations || o.untrackable) return true;
    if (std::find(o.relations, o.relations + o.count, relation) != o.relations + o.count) return false;
    if (o.count == static_cast<int>(core::kMaxTags)) {
        o.untrackable = true;
    } else {
        o.relations[o.count++] = relation;
    }
    return true;
}

void observe(Oid relation) {
    // Most often it has been seen before, by the innermost at least.
    const Observation& inner = *detail::observing;
    const bool known =
        std::find(inner.relations, inner.relations + inner.count, relation) != inner.relations + inner.count;
    const Kind kind = known ? Kind::kTable : kind_of(relation);
    for (Observation* o = detail::observing; o != nullptr; o = o->outer) {
        if (kind == Kind::kTable) {
            add(*o, relation);
        } else if (kind == Kind::kTemporary) {
            o->temporary = true;
        } else if (kind == Kind::kUntrackable) {
            o->untrackable = true;
        }
    }
}

void observe(const PlannedStmt& plan) {
    for (int i = 0; i < list_length(plan.rtable); ++i) {
        const auto* entry = static_cast<const RangeTblEntry*>(list_nth(plan.rtable, i));
        if (OidIsValid(entry->relid)) observe(entry->relid);
    }
    // Of tables that the planner could do without, only this is left.
    for (int i = 0; i < list_length(plan.relationOids); ++i)
        observe(list_nth_oid(plan.relationOids, i));
    // What functions read in other processes is not seen here.
    if (plan.parallelModeNeeded) detail::note_cached_read();
}

void start_executor(QueryDesc* query, int flags) {
    if (tracks_writes())
        note_statement(query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE);
    if (detail::observing != nullptr && (flags & EXEC_FLAG_EXPLAIN_ONLY) == 0) [[unlikely]]
        observe(*query->plannedstmt);
    (previous_start != nullptr ? previous_start : standard_ExecutorStart)(query, flags);
}

}  // namespace

void start_observing(Observation& observation, bool wants_relations) noexcept {
    observation.outer = detail::observing;
    observation.wants_relations = wants_relations;
    observation.temporary = observation.untrackable = false;
    observation.count = 0;
    detail::observing = &observation;
}

void stop_observing(const Observation& observation) noexcept { detail::observing = observation.outer; }

void init_observe() {
    previous_start = ExecutorStart_hook;
    ExecutorStart_hook = start_executor;
}

}  // namespace cache_ext::pg
