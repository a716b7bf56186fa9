#pragma once

// Watched tables. A watch is made of ordinary triggers and of nothing else: they go where their table goes, also in a dump of that table alone,
// and with it. What the watch says is in the triggers' arguments. These can be believed, though they name a role and the SQL that is to run
// with its rights, because only who may execute the internal trigger functions can make such a trigger, and nobody is granted that:
// watch_table makes them in the caller's place, after it has asked for what CREATE TRIGGER asks for.
//
// The watched table's triggers call one function, copies of them on partitions and on inheriting tables another. A trigger's name,
// cache_ext_watch_<id>_<which>, is the same for all copies; the id tells the watches apart that meet on one partition.

#include "core/ref.hpp"
#include "core/store.hpp"
#include "pg/prelude.hpp"

extern "C" {
#include "commands/trigger.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"
}

namespace cache_ext::api {

struct NamedTrigger;

inline constexpr char kWatchPrefix[] = "cache_ext_watch_";

/// What a watch says, as its triggers' arguments have it, in this order. Texts that are not given are empty.
struct WatchSpec {
    const char* id;
    const char* owner;        ///< with whose rights condition and cascade run
    const char* search_path;  ///< in which they were written
    const char* condition;
    const char* cascade;
    char** tags;
    int tag_count;

    bool has_condition() const noexcept { return *condition != '\0'; }
    bool has_cascade() const noexcept { return *cascade != '\0'; }
    bool has_sql() const noexcept { return has_condition() || has_cascade(); }
};

/// What a trigger is to watches.
enum class WatchRole : std::uint8_t {
    kNone,
    kTable,   ///< the watched table's own
    kMember,  ///< a copy on a table below it
};

WatchRole watch_role(const Trigger& trigger);

/// What the trigger says; points into it. Only for one of a watch.
WatchSpec watch_spec(const Trigger& trigger);

/// The same as arguments.
List* watch_arguments(const WatchSpec& spec);

/// Whether any of the tags depends on the row.
bool has_row_tags(const WatchSpec& spec);

/// Invalidates whatever a change of the table may concern: its tags, or everything where they depend on rows or on a query.
void invalidate_broadly(const WatchSpec& spec);

/// The function of the triggers on watched tables, or of the copies; InvalidOid where there is no such extension.
Oid watch_function(WatchRole role);

/// Whether any trigger in this database belongs to a watch.
bool any_watch();

/// The OIDs of the watched tables' own triggers, or of the copies, of all watches.
List* all_triggers(WatchRole role);

/// The triggers of a relation that belong to watches, copied: the server's own list may go while others are changed.
struct WatchTriggers {
    Trigger* triggers;
    int count;
};
WatchTriggers watch_triggers(Relation relation);

/// The trigger of that name, or null.
const Trigger* find_trigger(const WatchTriggers& triggers, const char* name) noexcept;

/// Makes the triggers of a watch on one table, whoever calls, in place of those among `present` that it has there in this role. Takes the lock that
/// CREATE TRIGGER takes.
void put_watch(Oid relation, char kind, const WatchSpec& spec, WatchRole role, const WatchTriggers& present);

/// Whether a trigger for rows is to fire in every session, however its table is written: tags of rows ask for it, and so does a table above
/// that has not got the watch: a statement which names that one fires its triggers for statements, and for rows only those of the tables below.
bool sees_every_row(Oid relation, const WatchSpec& spec);

/// For whom triggers for rows are to be made where there are none.
enum class RowsBy : std::uint8_t {
    kApply,  ///< who applies rows and fires no triggers for statements
    kAbove,  ///< who names a table above the watched one
};

/// Makes the triggers for rows that watches on a table lack. Watches that a dump is only restoring, so far, are left as they are. Takes the lock
/// that CREATE TRIGGER takes if there is a watch.
void add_row_triggers(Oid relation, RowsBy rows_by);

/// Whether triggers for rows that are applied may be lacking. Takes no lock.
bool may_lack_row_trigger(const NamedTrigger& last_restored);

/// Whether a trigger is the last of its watch that a dump restores: the one for statements that update.
bool is_last_restored(const char* name);

/// Waits for whoever is about to begin applying rows, or to end it, and lets nobody do so until this transaction is over. To be called before locks of
/// tables are taken, where that can be.
void hold_applying();

/// The same; and whether rows may be applied in this database, without triggers for statements.
bool rows_are_applied();

/// Somebody is to apply rows, as soon as this transaction is committed: gives all watches the triggers that see them. To be called if there are none, too: some may be on their way.
/// Takes the lock that CREATE TRIGGER takes on each table that lacks them.
void begin_applying();

/// Drops these triggers if nobody applies rows any more, but for those whose table others are using.
void end_applying();

/// Whether there is an extension that applies rows.
bool has_applier();

/// Makes copies of a table's watches on all tables below it, or makes them anew. Takes the lock that CREATE TRIGGER takes on each.
void copy_to_members(Oid relation);

/// The same for a table that has come under others, and all below it.
void copy_from_parents(Oid relation);

/// Drops the copies whose original is gone, or is not above them any more, and invalidates what they stood for.
void drop_orphans();

/// The tables that a relation inherits from, or is a partition of.
List* parents_of(Oid relation);

}  // namespace cache_ext::api
