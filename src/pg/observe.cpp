#include "pg/observe.hpp"

#include "pg/entry_tags.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/transam.h"
#include "catalog/catalog.h"
#include "executor/executor.h"
#include "nodes/plannodes.h"
#include "utils/syscache.h"
}

namespace cache_ext::pg {

namespace {

void note(Observation& o, const Finding& finding) noexcept {
    const bool always = finding.obstacle == Obstacle::kTemporary || finding.obstacle == Obstacle::kLocked;
    (always ? o.never_kept : o.untrackable) = true;
    if (o.obstacle.obstacle == Obstacle::kNone) o.obstacle = finding;
}

/// Whether it still matters what it depends on.
bool wants(const Observation& o) noexcept { return o.wants_relations && !o.too_much; }

bool has_room(Observation& o) noexcept {
    // One is for kAnyRelation.
    if (o.count + o.tag_count + 1 < static_cast<int>(core::kMaxTags)) return true;
    note(o, {Obstacle::kTooMuch, InvalidOid});
    o.too_much = true;
    return false;
}

void add(Observation& o, Oid relation, bool inherited) noexcept {
    if (!wants(o)) return;
    const auto at = std::find(o.relations, o.relations + o.count, relation) - o.relations;
    if (at < o.count) {
        o.inherited[at] = o.inherited[at] || inherited;
    } else if (has_room(o)) {
        o.inherited[o.count] = inherited;
        o.relations[o.count++] = relation;
    }
}

void add(Observation& o, std::string_view tag) noexcept {
    if (!wants(o) || std::find(o.tags, o.tags + o.tag_count, tag) != o.tags + o.tag_count || !has_room(o))
        return;
    auto* copy = static_cast<char*>(MemoryContextAllocExtended(o.memory, tag.size(), MCXT_ALLOC_NO_OOM));
    if (copy == nullptr) {
        note(o, {Obstacle::kTooMuch, InvalidOid});
        o.too_much = true;
        return;
    }
    std::memcpy(copy, tag.data(), tag.size());
    o.tags[o.tag_count++] = {copy, tag.size()};
}

}  // namespace

namespace detail {
constinit Observation* observing = nullptr;

void note_obstacle(const Finding& finding) noexcept {
    for (Observation* o = observing; o != nullptr; o = o->outer)
        note(*o, finding);
}

void note_own_entry(bool is_private) noexcept {
    for (Observation* o = observing; o != nullptr; o = o->outer)
        o->private_entry = o->private_entry || is_private;
    note_obstacle({Obstacle::kCachedValue, InvalidOid});
}

void note_cached_parts(std::span<const std::string_view> tags, std::span<const Oid> relations,
                       core::Timestamp expires_at) noexcept {
    for (Observation* o = observing; o != nullptr; o = o->outer) {
        o->expires_at = std::min(o->expires_at, expires_at);
        for (const std::string_view tag : tags)
            add(*o, tag);
        for (const Oid relation : relations) {
            if (relation != kAnyRelation) add(*o, relation, true);
        }
    }
}

void note_cached_entry(const core::Scope& scope, std::string_view key, const core::Lookup& entry) noexcept {
    bool wanted = false;
    for (Observation* o = observing; o != nullptr; o = o->outer) {
        wanted = wanted || wants(*o);
        o->private_entry = o->private_entry || scope.is_private;
    }
    if (!wanted) return;
    EntryTags depends;
    const bool same = depends.copy(scope, key, &entry);
    const auto relations = depends.relations();
    // What somebody has set may be set anew, to anything, and nobody is told.
    if (!same || std::find(relations.begin(), relations.end(), kAnyRelation) == relations.end()) {
        note_obstacle({Obstacle::kCachedValue, InvalidOid});
        return;
    }
    note_cached_parts(depends.tags(), relations, entry.expires_at);
}
}  // namespace detail

namespace {

constinit ExecutorStart_hook_type previous_start = nullptr;

void observe(Oid relation) {
    // Most often it has been seen before, by the innermost at least.
    const Observation& inner = *detail::observing;
    bool holds_rows =
        std::find(inner.relations, inner.relations + inner.count, relation) != inner.relations + inner.count;
    const Obstacle obstacle = holds_rows ? Obstacle::kNone : obstacle_of_relation(relation, &holds_rows);
    if (obstacle != Obstacle::kNone) {
        detail::note_obstacle({obstacle, relation});
        return;
    }
    if (!holds_rows) return;
    for (Observation* o = detail::observing; o != nullptr; o = o->outer)
        add(*o, relation, false);
}

/// Whether a plan names functions that somebody has made.
bool uses_functions(const PlannedStmt& plan) {
    for (int i = 0; i < list_length(plan.invalItems); ++i) {
        if (static_cast<const PlanInvalItem*>(list_nth(plan.invalItems, i))->cacheId == PROCOID) return true;
    }
    return false;
}

void observe(const PlannedStmt& plan) {
    for (int i = 0; i < list_length(plan.rtable); ++i) {
        const auto* entry = static_cast<const RangeTblEntry*>(list_nth(plan.rtable, i));
        if (!OidIsValid(entry->relid)) continue;
        observe(entry->relid);
        for (Observation* o = detail::observing; o != nullptr; o = o->outer)
            o->told_reads += static_cast<int>(o->told == entry->relid);
    }
    // Of tables that the planner could do without, only this is left.
    for (int i = 0; i < list_length(plan.relationOids); ++i)
        observe(list_nth_oid(plan.relationOids, i));
    if (plan.commandType == CMD_SELECT && plan.rowMarks != NIL)
        detail::note_obstacle({Obstacle::kLocked, InvalidOid});
    // What functions read in other processes is not seen here. The server's own read nothing.
    if (plan.parallelModeNeeded && uses_functions(plan))
        detail::note_obstacle({Obstacle::kParallel, InvalidOid});
}

/// Notes catalogs that a statement writes by their names.
void note_catalogs(const PlannedStmt& plan) noexcept {
    for (int i = 0; i < list_length(plan.resultRelations); ++i) {
        const auto* entry = static_cast<const RangeTblEntry*>(
            list_nth(plan.rtable, list_nth_int(plan.resultRelations, i) - 1));
        if (entry->relid < FirstNormalObjectId) [[unlikely]]
            note_catalog_write(IsSharedRelation(entry->relid));
    }
}

void start_executor(QueryDesc* query, int flags) {
    if (tracks_writes()) {
        const PlannedStmt& plan = *query->plannedstmt;
        note_statement(query->operation != CMD_SELECT || plan.hasModifyingCTE);
        if (plan.resultRelations != NIL) note_catalogs(plan);
    }
    if (detail::observing != nullptr && (flags & EXEC_FLAG_EXPLAIN_ONLY) == 0) [[unlikely]]
        observe(*query->plannedstmt);
    (previous_start != nullptr ? previous_start : standard_ExecutorStart)(query, flags);
}

}  // namespace

void start_observing(Observation& observation, bool wants_relations) noexcept {
    observation.outer = detail::observing;
    observation.wants_relations = wants_relations;
    observation.never_kept = observation.untrackable = observation.private_entry = false;
    observation.too_much = false;
    observation.obstacle = {};
    observation.count = observation.tag_count = 0;
    observation.expires_at = INT64_MAX;
    observation.memory = CurrentMemoryContext;
    observation.told = InvalidOid;
    observation.told_reads = 0;
    detail::observing = &observation;
}

void forget_told(Observation& observation) noexcept {
    const auto at =
        std::find(observation.relations, observation.relations + observation.count, observation.told) -
        observation.relations;
    if (at == observation.count || observation.told_reads != 1 || observation.inherited[at]) return;
    --observation.count;
    observation.relations[at] = observation.relations[observation.count];
    observation.inherited[at] = observation.inherited[observation.count];
}

void stop_observing(const Observation& observation) noexcept { detail::observing = observation.outer; }

void init_observe() {
    previous_start = ExecutorStart_hook;
    ExecutorStart_hook = start_executor;
}

}  // namespace cache_ext::pg
