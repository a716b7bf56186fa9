#pragma once

// The tags of the rows of a table: a list of templates over its columns, and what they stand for in rows that are written.

#include "api/template.hpp"

extern "C" {
#include "access/htup.h"
#include "utils/relcache.h"
#include "utils/tuplestore.h"
}

namespace cache_ext::api {

/// Templates over the columns of one relation, parsed once for all rows of a statement.
struct RowTags {
    Oid relation;
    int count;
    bool any_plain;
    bool any_column;
    bool unknown;  ///< a template does not fit the relation: nobody knows which tags its rows have
    TagTemplate* templates;
    MemoryContext scratch;  // for the texts of one row
};

/// Parses `count` templates, in the current memory context. A fault is an ERROR where `must_fit`, and `unknown` otherwise.
RowTags* parse_row_tags(Relation relation, char* const* templates, int count, bool must_fit);

/// Invalidates those without columns.
void invalidate_plain(const RowTags& tags, const core::Id128& space);

/// Invalidates those with columns, for one version of a row.
void invalidate_row(RowTags& tags, const core::Id128& space, HeapTuple row, TupleDesc description);

/// Invalidates those with columns, for all rows of a transition table; null is none.
void invalidate_rows(RowTags& tags, const core::Id128& space, Tuplestorestate* rows, TupleDesc description);

/// Invalidates one tag.
void invalidate_tag(const core::Id128& space, std::string_view tag);

/// Invalidates all entries: any tag may be concerned.
void invalidate_everything(const core::Id128& space);

}  // namespace cache_ext::api
