#pragma once

// The SQL of watches: conditions over `old` and `new`, cascades over `changed`.
//
// Both run with the rights of the watch's owner, in a security-restricted operation, read only, in a subtransaction, with the search_path in
// which the watch was made. They may not read temporary tables, which whoever writes could put in the place of others.

#include "api/row_tags.hpp"
#include "api/watch.hpp"

namespace cache_ext::api {

/// What a statement has written, as a trigger sees it: transition tables, or one row. What there is not is null.
struct WrittenRows {
    Relation relation;
    Tuplestorestate* old_table;
    Tuplestorestate* new_table;
    HeapTuple old_row;
    HeapTuple new_row;
};

/// Raises the ERROR for whatever is wrong with a watch's condition or cascade, over a table.
void check_watch_sql(const WatchSpec& spec, Relation relation);

/// Invalidates what the watch says of these rows. Where condition or cascade fails, there is a WARNING, the first time in a session, and
/// broader invalidation. Raises only what ends the statement anyway, such as a cancel.
void run_watch_sql(const WatchSpec& spec, const Trigger& trigger, const WrittenRows& rows, RowTags& tags);

/// Registers for invalidation. Called once, from _PG_init.
void init_watch_sql();

}  // namespace cache_ext::api
