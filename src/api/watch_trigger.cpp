// What the triggers of a watch do when they fire. The user's write never fails because of them: what does not fit any more is invalidated
// more broadly.

#include "api/context.hpp"
#include "api/row_tags.hpp"
#include "api/watch.hpp"
#include "api/watch_sql.hpp"
#include "pg/elsewhere.hpp"
#include "pg/guard.hpp"
#include "pg/redis_settings.hpp"
#include "pg/settings.hpp"
#include "pg/space.hpp"

extern "C" {
#include "catalog/partition.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace cache_ext::api {

namespace {

/// The watch, as a trigger's calls in one statement need it.
struct FiringWatch {
    RowTags* tags;
    WatchSpec spec;
    bool plain_done;      ///< its plain tags have been invalidated for a row of the statement
    bool told_elsewhere;  ///< so are the keys that others keep of the table
};

/// What others keep of the table; of a partition, of the table that it is a part of.
void invalidate_elsewhere(FiringWatch& watch, Relation table, const core::Id128& space) {
    if (watch.told_elsewhere || !pg::pushes_to_redis()) return;
    watch.told_elsewhere = true;
    Oid named = RelationGetRelid(table);
    if (List* ancestors = get_partition_ancestors(named); ancestors != NIL) named = llast_oid(ancestors);
    pg::invalidate_elsewhere(space, pg::settings::redis_table_pattern, "{table}", get_rel_name(named));
}

FiringWatch& firing_watch(FunctionCallInfo fcinfo, const TriggerData& data) {
    auto* watch = static_cast<FiringWatch*>(fcinfo->flinfo->fn_extra);
    if (watch == nullptr || watch->tags->relation != RelationGetRelid(data.tg_relation)) {
        if (watch_role(*data.tg_trigger) == WatchRole::kNone || !TRIGGER_FIRED_AFTER(data.tg_event)) {
            pg::raise(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                      "the trigger of a watched table is made by watch_table only");
        }
        const MemoryContext before = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
        watch = static_cast<FiringWatch*>(palloc(sizeof(FiringWatch)));
        watch->spec = watch_spec(*data.tg_trigger);
        watch->tags = parse_row_tags(data.tg_relation, watch->spec.tags, watch->spec.tag_count, false);
        watch->plain_done = false;
        watch->told_elsewhere = false;
        MemoryContextSwitchTo(before);
        fcinfo->flinfo->fn_extra = watch;
    }
    // The texts are the server's, which may move them between calls.
    watch->spec = watch_spec(*data.tg_trigger);
    return *watch;
}

WrittenRows written_rows(const TriggerData& data) {
    WrittenRows rows{data.tg_relation, data.tg_oldtable, data.tg_newtable, nullptr, nullptr};
    if (TRIGGER_FIRED_FOR_ROW(data.tg_event)) {
        const bool is_insert = TRIGGER_FIRED_BY_INSERT(data.tg_event);
        rows.old_row = is_insert ? nullptr : data.tg_trigtuple;
        rows.new_row = is_insert ? data.tg_trigtuple
                                 : (TRIGGER_FIRED_BY_UPDATE(data.tg_event) ? data.tg_newtuple : nullptr);
    }
    return rows;
}

/// Without condition and cascade, where the trigger sees a row.
void invalidate_written_row(const TriggerData& data, FiringWatch& watch, const core::Id128& space) {
    const WrittenRows rows = written_rows(data);
    const TupleDesc description = RelationGetDescr(data.tg_relation);
    for (const HeapTuple row : {rows.old_row, rows.new_row}) {
        if (row != nullptr) invalidate_row(*watch.tags, space, row, description);
    }
    // No trigger may fire for the statement: rows of a subscription are applied without, and a statement that names a table above fires that one's.
    if (!std::exchange(watch.plain_done, true)) invalidate_plain(*watch.tags, space);
}

Datum fire(FunctionCallInfo fcinfo) {
    if (!CALLED_AS_TRIGGER(fcinfo)) {
        pg::raise(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                  "the trigger of a watched table must be called as a trigger", nullptr,
                  "watch_table makes it.");
    }
    const auto& data = *reinterpret_cast<TriggerData*>(fcinfo->context);
    if (!pg::current_space().exists) return PointerGetDatum(nullptr);

    FiringWatch& watch = firing_watch(fcinfo, data);
    const core::Id128 space = space_id();
    const bool for_row = TRIGGER_FIRED_FOR_ROW(data.tg_event);
    invalidate_elsewhere(watch, data.tg_relation, space);
    if (watch.tags->unknown) {
        invalidate_everything(space);
    } else if (TRIGGER_FIRED_BY_TRUNCATE(data.tg_event)) {
        invalidate_broadly(watch.spec);
    } else if (watch.spec.has_sql()) {
        const WrittenRows rows = written_rows(data);
        // Where a row goes from one partition of the watched table to another, each of them sees but one side of it.
        if (for_row && data.tg_relation->rd_rel->relispartition && !TRIGGER_FIRED_BY_UPDATE(data.tg_event) &&
            watch_role(*data.tg_trigger) == WatchRole::kMember)
            watch.spec.condition = "";
        if (for_row || rows.old_table != nullptr || rows.new_table != nullptr) {
            run_watch_sql(watch.spec, *data.tg_trigger, rows, *watch.tags);
        } else {
            invalidate_broadly(watch.spec);
        }
    } else if (for_row) {
        invalidate_written_row(data, watch, space);
    } else {
        invalidate_plain(*watch.tags, space);
    }
    return PointerGetDatum(nullptr);
}

}  // namespace

CACHE_EXT_FUNCTION(watched_table_changed) { return fire(fcinfo); }

CACHE_EXT_FUNCTION(watched_member_changed) { return fire(fcinfo); }

}  // namespace cache_ext::api
