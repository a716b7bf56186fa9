#include "api/row_tags.hpp"

#include "pg/transaction.hpp"

extern "C" {
#include "access/htup_details.h"
#include "executor/tuptable.h"
#include "utils/rel.h"
}

namespace cache_ext::api {

void invalidate_tag(const core::Id128& space, std::string_view tag) {
    pg::invalidate(pg::InvalidationKind::kTag, core::Scope{{}, space, {}, false}, tag);
}

RowTags* parse_row_tags(Relation relation, char* const* templates, int count, bool must_fit) {
    const TupleDesc row = RelationGetDescr(relation);
    auto* all = static_cast<RowTags*>(palloc0(sizeof(RowTags)));
    all->relation = RelationGetRelid(relation);
    all->templates =
        static_cast<TagTemplate*>(palloc0(sizeof(TagTemplate) * static_cast<Size>(std::max(count, 1))));
    for (int i = 0; i < count; ++i) {
        TagTemplate& t = all->templates[all->count];
        const char* missing = nullptr;
        if (must_fit) {
            t = checked_template(templates[i], find_column, row, "column");
        } else if (parse_template(templates[i], find_column, row, t, missing) != TemplateFault::kNone) {
            all->unknown = true;
            continue;
        }
        ++all->count;
        (t.is_plain ? all->any_plain : all->any_column) = true;
    }
    all->scratch =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext tags of a row", ALLOCSET_SMALL_SIZES);
    return all;
}

void invalidate_plain(const RowTags& tags, const core::Id128& space) {
    for (int i = 0; i < tags.count; ++i) {
        if (tags.templates[i].is_plain) invalidate_tag(space, tags.templates[i].text());
    }
}

void invalidate_row(RowTags& tags, const core::Id128& space, HeapTuple row, TupleDesc description) {
    const MemoryContext before = MemoryContextSwitchTo(tags.scratch);
    for (int i = 0; i < tags.count; ++i) {
        TagTemplate& t = tags.templates[i];
        if (t.is_plain) continue;
        const std::string_view tag = make_tag(t, [row, description](int column, bool& is_null) {
            return heap_getattr(row, column, description, &is_null);
        });
        if (!tag.empty()) invalidate_tag(space, tag);
    }
    MemoryContextSwitchTo(before);
    MemoryContextReset(tags.scratch);
}

void invalidate_rows(RowTags& tags, const core::Id128& space, Tuplestorestate* rows, TupleDesc description) {
    if (rows == nullptr) return;
    TupleTableSlot* slot = MakeSingleTupleTableSlot(description, &TTSOpsMinimalTuple);
    tuplestore_rescan(rows);
    while (tuplestore_gettupleslot(rows, true, false, slot)) {
        bool must_free = false;
        HeapTuple row = ExecFetchSlotHeapTuple(slot, true, &must_free);
        invalidate_row(tags, space, row, description);
        if (must_free) heap_freetuple(row);
    }
    ExecDropSingleTupleTableSlot(slot);
}

void invalidate_everything(const core::Id128& space) {
    pg::invalidate(pg::InvalidationKind::kSpace, core::Scope{{}, space, {}, false}, {});
}

}  // namespace cache_ext::api
