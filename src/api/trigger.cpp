// trigger_cache_invalidation(): invalidates the tags that its arguments name, for the rows that a statement wrote.

#include "api/args.hpp"
#include "api/context.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "access/htup_details.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"
}

namespace cache_ext::api {

namespace {

/// A piece of a template: literal text, and after it a column's value.
struct Piece {
    const char* text;
    int text_bytes;
    AttrNumber column;  // 0 = nothing follows the text
    FmgrInfo output;
};

/// A tag as an argument of the trigger gives it: `{column}` stands for that column's value, `{{` and `}}` for a brace.
struct Template {
    Piece* pieces;
    int count;
    bool is_plain;
};

/// The templates of a trigger, parsed once for all rows of a statement. Kept in the call's own memory.
struct Templates {
    Oid relation;
    int count;
    bool any_column;
    Template* templates;
    MemoryContext scratch;  // for the texts of one row
};

[[noreturn]] void raise_template(const char* source, const char* detail) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("tag template \"%s\" is not valid", source), errdetail_internal("%s", detail)));
    pg_unreachable();
}

Template parse(const char* source, TupleDesc row) {
    const auto length = std::strlen(source);
    Template result{static_cast<Piece*>(palloc0(sizeof(Piece) * (length + 1))), 0, true};
    StringInfoData literal;
    initStringInfo(&literal);
    const auto end_piece = [&](AttrNumber column) {
        Piece& piece = result.pieces[result.count++];
        piece.text = pnstrdup(literal.data, static_cast<Size>(literal.len));
        piece.text_bytes = literal.len;
        piece.column = column;
        resetStringInfo(&literal);
    };
    for (const char* at = source; *at != '\0'; ++at) {
        if ((*at == '{' || *at == '}') && at[1] == *at) {
            appendStringInfoChar(&literal, *at++);
        } else if (*at == '}') {
            raise_template(source,
                           "There is a closing brace that nothing opens; a brace itself is written twice.");
        } else if (*at != '{') {
            appendStringInfoChar(&literal, *at);
        } else {
            const char* close = std::strchr(at, '}');
            if (close == nullptr)
                raise_template(source, "An opening brace is not closed; a brace itself is written twice.");
            char* name = pnstrdup(at + 1, static_cast<Size>(close - at - 1));
            const int column = SPI_fnumber(row, name);
            if (column <= 0) {
                ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                                errmsg("column \"%s\" of tag template \"%s\" does not exist", name, source)));
            }
            end_piece(static_cast<AttrNumber>(column));
            Oid function = InvalidOid;
            bool is_varlena = false;
            getTypeOutputInfo(TupleDescAttr(row, column - 1)->atttypid, &function, &is_varlena);
            fmgr_info(function, &result.pieces[result.count - 1].output);
            result.is_plain = false;
            at = close;
        }
    }
    if (literal.len > 0 || result.count == 0) end_piece(0);
    return result;
}

Templates* parse_all(const TriggerData& data) {
    const Trigger& trigger = *data.tg_trigger;
    const TupleDesc row = RelationGetDescr(data.tg_relation);
    auto* all = static_cast<Templates*>(palloc0(sizeof(Templates)));
    all->relation = RelationGetRelid(data.tg_relation);
    all->count = std::max<int>(trigger.tgnargs, 1);
    all->templates = static_cast<Template*>(palloc0(sizeof(Template) * static_cast<Size>(all->count)));
    for (int i = 0; i < trigger.tgnargs; ++i) {
        all->templates[i] = parse(trigger.tgargs[i], row);
        if (all->templates[i].is_plain)
            check_tag({all->templates[i].pieces[0].text,
                       static_cast<std::size_t>(all->templates[i].pieces[0].text_bytes)});
        all->any_column = all->any_column || !all->templates[i].is_plain;
    }
    if (trigger.tgnargs == 0) {
        // Without arguments the tag is the table's name.
        const char* name = RelationGetRelationName(data.tg_relation);
        auto* piece = static_cast<Piece*>(palloc0(sizeof(Piece)));
        *piece = {pstrdup(name), static_cast<int>(std::strlen(name)), 0, {}};
        all->templates[0] = {piece, 1, true};
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
        const Template& t = all.templates[i];
        if (t.is_plain)
            pg::invalidate(pg::InvalidationKind::kTag, space,
                           {t.pieces[0].text, static_cast<std::size_t>(t.pieces[0].text_bytes)});
    }
}

/// Invalidates the templates with columns, for one version of a row. A null value makes no tag, as it makes none where entries are tagged.
void invalidate_row(Templates& all, const core::Scope& space, HeapTuple tuple, TupleDesc row) {
    const MemoryContext before = MemoryContextSwitchTo(all.scratch);
    for (int i = 0; i < all.count; ++i) {
        Template& t = all.templates[i];
        if (t.is_plain) continue;
        StringInfoData tag;
        initStringInfo(&tag);
        bool complete = true;
        for (int p = 0; p < t.count && complete; ++p) {
            Piece& piece = t.pieces[p];
            appendBinaryStringInfo(&tag, piece.text, piece.text_bytes);
            if (piece.column == 0) continue;
            bool is_null = true;
            const Datum value = heap_getattr(tuple, piece.column, row, &is_null);
            complete = !is_null;
            if (complete) appendStringInfoString(&tag, OutputFunctionCall(&piece.output, value));
        }
        // No entry can carry a tag that is empty or too long.
        if (complete && tag.len > 0 && static_cast<std::size_t>(tag.len) <= core::kMaxTagBytes) {
            pg::invalidate(pg::InvalidationKind::kTag, space, {tag.data, static_cast<std::size_t>(tag.len)});
        }
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
