// trigger_cache_invalidation(): invalidates the tags that its arguments name, for the rows that a statement wrote.

#include "api/context.hpp"
#include "api/template.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
}

namespace cache_ext::api {

namespace {

/// The templates of a trigger, parsed once for all rows of a statement. Kept in the call's own memory.
struct Templates {
    Oid relation;
    int count;
    bool any_column;
    TagTemplate* templates;
    MemoryContext scratch;  // for the texts of one row
};

Templates* parse_all(const TriggerData& data) {
    const Trigger& trigger = *data.tg_trigger;
    const TupleDesc row = RelationGetDescr(data.tg_relation);
    auto* all = static_cast<Templates*>(palloc0(sizeof(Templates)));
    all->relation = RelationGetRelid(data.tg_relation);
    all->count = std::max<int>(trigger.tgnargs, 1);
    all->templates = static_cast<TagTemplate*>(palloc0(sizeof(TagTemplate) * static_cast<Size>(all->count)));
    for (int i = 0; i < trigger.tgnargs; ++i) {
        all->templates[i] = checked_template(trigger.tgargs[i], find_column, row, "column");
        all->any_column = all->any_column || !all->templates[i].is_plain;
    }
    if (trigger.tgnargs == 0) {
        // Without arguments the tag is the table's name.
        const char* name = pstrdup(RelationGetRelationName(data.tg_relation));
        auto* piece = static_cast<TemplatePiece*>(palloc0(sizeof(TemplatePiece)));
        *piece = {name, static_cast<int>(std::strlen(name)), 0, {}};
        all->templates[0] = {name, piece, 1, true};
    }
    all->scratch =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext tags of a row", ALLOCSET_SMALL_SIZES);
    return all;
}

/// The trigger's templates: parsed when it first fires in a statement.
Templates& templates_of(FunctionCallInfo fcinfo, const TriggerData& data) {
    auto* all = static_cast<Templates*>(fcinfo->flinfo->fn_extra);
    if (all == nullptr || all->relation != RelationGetRelid(data.tg_relation)) {
        const MemoryContext before = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
        all = parse_all(data);
        MemoryContextSwitchTo(before);
        fcinfo->flinfo->fn_extra = all;
    }
    return *all;
}

void invalidate_plain(const Templates& all, const core::Scope& space) {
    for (int i = 0; i < all.count; ++i) {
        const TagTemplate& t = all.templates[i];
        if (t.is_plain) pg::invalidate(pg::InvalidationKind::kTag, space, t.text());
    }
}

/// Invalidates the templates with columns, for one version of a row.
void invalidate_row(Templates& all, const core::Scope& space, HeapTuple tuple, TupleDesc row) {
    const MemoryContext before = MemoryContextSwitchTo(all.scratch);
    for (int i = 0; i < all.count; ++i) {
        TagTemplate& t = all.templates[i];
        if (t.is_plain) continue;
        const std::string_view tag = make_tag(t, [tuple, row](int column, bool& is_null) {
            return heap_getattr(tuple, column, row, &is_null);
        });
        if (!tag.empty()) pg::invalidate(pg::InvalidationKind::kTag, space, tag);
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(all.scratch);
}

void invalidate_transition_table(Templates& all, const core::Scope& space, Tuplestorestate* table,
                                 TupleDesc row) {
    if (table == nullptr) return;
    TupleTableSlot* slot = MakeSingleTupleTableSlot(row, &TTSOpsMinimalTuple);
    tuplestore_rescan(table);
    while (tuplestore_gettupleslot(table, true, false, slot)) {
        bool must_free = false;
        HeapTuple tuple = ExecFetchSlotHeapTuple(slot, true, &must_free);
        invalidate_row(all, space, tuple, row);
        if (must_free) heap_freetuple(tuple);
    }
    ExecDropSingleTupleTableSlot(slot);
}

}  // namespace

CACHE_EXT_FUNCTION(trigger_cache_invalidation) {
    if (!CALLED_AS_TRIGGER(fcinfo)) {
        pg::raise(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                  "trigger_cache_invalidation must be called as a trigger", nullptr,
                  "CREATE TRIGGER … AFTER INSERT OR UPDATE OR DELETE ON … EXECUTE FUNCTION "
                  "trigger_cache_invalidation('tag', …)");
    }
    const auto& data = *reinterpret_cast<TriggerData*>(fcinfo->context);
    if (!TRIGGER_FIRED_AFTER(data.tg_event)) {
        pg::raise(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                  "trigger_cache_invalidation must be fired AFTER the event");
    }
    if (!pg::current_space().exists) return PointerGetDatum(nullptr);

    Templates& all = templates_of(fcinfo, data);
    const core::Scope space{{}, space_id(), {}, false};
    const TupleDesc row = RelationGetDescr(data.tg_relation);
    invalidate_plain(all, space);
    if (!all.any_column) return PointerGetDatum(nullptr);

    if (TRIGGER_FIRED_FOR_ROW(data.tg_event)) {
        invalidate_row(all, space, data.tg_trigtuple, row);
        if (TRIGGER_FIRED_BY_UPDATE(data.tg_event)) invalidate_row(all, space, data.tg_newtuple, row);
    } else if (TRIGGER_FIRED_BY_TRUNCATE(data.tg_event)) {
        // Nobody knows which rows there were: any tag may be concerned.
        pg::invalidate(pg::InvalidationKind::kSpace, space, {});
    } else if (data.tg_oldtable == nullptr && data.tg_newtable == nullptr) {
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("trigger \"%s\" has a tag template with columns, but sees no rows",
                               data.tg_trigger->tgname),
                        errhint("Make it FOR EACH ROW, or give it transition tables by REFERENCING OLD TABLE "
                                "AS … NEW TABLE AS ….")));
    } else {
        const bool needs_both = TRIGGER_FIRED_BY_UPDATE(data.tg_event) &&
                                (data.tg_oldtable == nullptr || data.tg_newtable == nullptr);
        if (needs_both) {
            ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                            errmsg("trigger \"%s\" sees only one side of an update", data.tg_trigger->tgname),
                            errhint("Give it both transition tables: a row may leave one tag for another.")));
        }
        invalidate_transition_table(all, space, data.tg_oldtable, row);
        invalidate_transition_table(all, space, data.tg_newtable, row);
    }
    return PointerGetDatum(nullptr);
}

}  // namespace cache_ext::api
