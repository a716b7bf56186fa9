// trigger_cache_invalidation(): invalidates the tags that its arguments name, for the rows that a statement wrote.

#include "api/context.hpp"
#include "api/row_tags.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"

extern "C" {
#include "commands/trigger.h"
#include "utils/rel.h"
}

namespace cache_ext::api {

namespace {

/// Of a trigger without arguments the tag is the table's name; nothing in it is a template.
RowTags* tags_of_name(Relation relation) {
    RowTags* all = parse_row_tags(relation, nullptr, 0, true);
    const char* name = pstrdup(RelationGetRelationName(relation));
    auto* piece = static_cast<TemplatePiece*>(palloc0(sizeof(TemplatePiece)));
    *piece = {name, static_cast<int>(std::strlen(name)), 0, {}};
    all->templates[all->count++] = {name, piece, 1, true, TextDepends::kNothing};
    all->any_plain = true;
    return all;
}

/// The trigger's tags: parsed when it first fires in a statement.
RowTags& tags_of(FunctionCallInfo fcinfo, const TriggerData& data) {
    auto* all = static_cast<RowTags*>(fcinfo->flinfo->fn_extra);
    if (all == nullptr || all->relation != RelationGetRelid(data.tg_relation)) {
        const Trigger& trigger = *data.tg_trigger;
        const MemoryContext before = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
        all = trigger.tgnargs > 0 ? parse_row_tags(data.tg_relation, trigger.tgargs, trigger.tgnargs, true)
                                  : tags_of_name(data.tg_relation);
        MemoryContextSwitchTo(before);
        fcinfo->flinfo->fn_extra = all;
    }
    return *all;
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

    RowTags& all = tags_of(fcinfo, data);
    const core::Id128 space = space_id();
    const TupleDesc row = RelationGetDescr(data.tg_relation);
    invalidate_plain(all, space);
    if (!all.any_column) return PointerGetDatum(nullptr);

    if (TRIGGER_FIRED_FOR_ROW(data.tg_event)) {
        invalidate_row(all, space, data.tg_trigtuple, row);
        if (TRIGGER_FIRED_BY_UPDATE(data.tg_event)) invalidate_row(all, space, data.tg_newtuple, row);
    } else if (TRIGGER_FIRED_BY_TRUNCATE(data.tg_event)) {
        // Nobody knows which rows there were.
        invalidate_everything(space);
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
        invalidate_rows(all, space, data.tg_oldtable, row);
        invalidate_rows(all, space, data.tg_newtable, row);
    }
    return PointerGetDatum(nullptr);
}

}  // namespace cache_ext::api
