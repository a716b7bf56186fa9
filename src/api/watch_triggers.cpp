// Making, copying and dropping the triggers that watches are made of.

#include "api/make_trigger.hpp"
#include "api/watch.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace cache_ext::api {

namespace {

void add_plan(List*& plans, const WatchSpec& spec, const char* which, TriggerPlan plan) {
    auto* copy = static_cast<TriggerPlan*>(palloc(sizeof(TriggerPlan)));
    *copy = plan;
    copy->name = psprintf("%s%s_%s", kWatchPrefix, spec.id, which);
    plans = lappend(plans, copy);
}

constexpr char kRowTrigger[] = "row";
constexpr int kRows = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE | TRIGGER_TYPE_DELETE;

TriggerPlan row_plan(char fires) { return {nullptr, true, kRows, false, false, fires}; }

/// Whether tables of this kind can have triggers for rows that are applied. Rows of foreign tables are not applied.
bool is_applied_to(char kind) { return kind != RELKIND_PARTITIONED_TABLE && kind != RELKIND_FOREIGN_TABLE; }

/// The triggers of the watch that a table of this kind is to have.
List* plan_watch(const WatchSpec& spec, Oid relation, char kind) {
    List* plans = NIL;
    // Logical replication fires no statement triggers as it applies rows: what is done for statements otherwise is done for rows there. Where
    // nothing is applied there is no such trigger: the server fetches each old row for it, though it does not fire.
    // A partitioned table has no rows of its own, and those of a trigger for rows would be copied by the server, in the name of whoever makes a
    // partition and may not execute our functions.
    if (kind != RELKIND_PARTITIONED_TABLE && sees_every_row(relation, spec)) {
        add_plan(plans, spec, kRowTrigger, row_plan(TRIGGER_FIRES_ALWAYS));
    } else if (is_applied_to(kind) && rows_are_applied()) {
        add_plan(plans, spec, kRowTrigger, row_plan(TRIGGER_FIRES_ON_REPLICA));
    }
    // On foreign tables there are neither triggers for TRUNCATE nor transition tables.
    const int truncate = kind == RELKIND_FOREIGN_TABLE ? 0 : TRIGGER_TYPE_TRUNCATE;
    if (spec.has_sql()) {
        // A transition table belongs to one kind of event.
        add_plan(plans, spec, "insert",
                 {nullptr, false, TRIGGER_TYPE_INSERT, false, true, TRIGGER_FIRES_ALWAYS});
        add_plan(plans, spec, "update",
                 {nullptr, false, TRIGGER_TYPE_UPDATE, true, true, TRIGGER_FIRES_ALWAYS});
        add_plan(plans, spec, "delete",
                 {nullptr, false, TRIGGER_TYPE_DELETE, true, false, TRIGGER_FIRES_ALWAYS});
        add_plan(plans, spec, "truncate",
                 {nullptr, false, TRIGGER_TYPE_TRUNCATE, false, false, TRIGGER_FIRES_ALWAYS});
    } else {
        add_plan(plans, spec, "statement",
                 {nullptr, false, kRows | truncate, false, false, TRIGGER_FIRES_ALWAYS});
    }
    return plans;
}

const TriggerPlan& plan_at(const List* plans, int i) {
    return *static_cast<const TriggerPlan*>(list_nth(plans, i));
}

bool is_planned(const List* plans, const char* name) {
    for (int i = 0; i < list_length(plans); ++i) {
        if (std::strcmp(plan_at(plans, i).name, name) == 0) return true;
    }
    return false;
}

/// Copies the watches of a table to one below it, in place of what it has of them.
void copy_to_member(const WatchTriggers& originals, Oid relation) {
    if (originals.count == 0) return;
    // It may be going just now, where only the list of inheritors and no lock says that it is there.
    Relation member = try_table_open(relation, ShareRowExclusiveLock);
    if (member == nullptr) return;
    const WatchTriggers present = watch_triggers(member);
    // What is cached depends on no temporary table.
    const bool is_temporary = member->rd_rel->relpersistence == RELPERSISTENCE_TEMP;
    const char kind = member->rd_rel->relkind;
    table_close(member, NoLock);
    if (is_temporary) return;
    for (int i = 0; i < originals.count; ++i) {
        const WatchSpec spec = watch_spec(originals.triggers[i]);
        // All triggers of a watch say the same.
        const auto is_same = [&spec](const Trigger& t) {
            return std::strcmp(watch_spec(t).id, spec.id) == 0;
        };
        if (std::any_of(originals.triggers, originals.triggers + i, is_same)) continue;
        put_watch(relation, kind, spec, WatchRole::kMember, present);
        // Of all that come under a table as they are made, only this has rows already.
        if (kind == RELKIND_FOREIGN_TABLE) invalidate_broadly(spec);
    }
}

/// The triggers of watches on a table; none where it is gone.
WatchTriggers watches_of(Oid relation) {
    Relation table = try_table_open(relation, AccessShareLock);
    if (table == nullptr) return {nullptr, 0};
    const WatchTriggers watches = watch_triggers(table);
    table_close(table, NoLock);
    return watches;
}

/// The part of a trigger's name that all triggers of its watch have in common.
std::string_view watch_of(const char* trigger_name) {
    const std::string_view name = trigger_name;
    return name.substr(0, name.rfind('_') + 1);
}

/// Whether a table has a trigger whose name begins so. Takes no lock: most that are asked about have nothing to do with the command.
bool has_trigger(Oid relation, std::string_view prefix) {
    Relation catalog = table_open(TriggerRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
    SysScanDesc scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, nullptr, 1, &key);
    bool found = false;
    for (HeapTuple tuple; !found && HeapTupleIsValid(tuple = systable_getnext(scan));) {
        found = std::string_view(NameStr(reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple))->tgname))
                    .starts_with(prefix);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return found;
}

/// Whether a table is below one that has not got the watch.
bool is_below_unwatched(Oid relation, const WatchSpec& spec) {
    const char* watch = psprintf("%s%s_", kWatchPrefix, spec.id);
    const List* parents = parents_of(relation);
    for (int i = 0; i < list_length(parents); ++i) {
        const Oid parent = list_nth_oid(parents, i);
        if (!has_trigger(parent, watch) || is_below_unwatched(parent, spec)) return true;
    }
    return false;
}

bool has_original(Oid relation, const char* name) {
    const List* parents = parents_of(relation);
    bool found = false;
    for (int i = 0; i < list_length(parents) && !found; ++i)
        found = has_trigger(list_nth_oid(parents, i), watch_of(name));
    return found;
}

}  // namespace

void put_watch(Oid relation, char kind, const WatchSpec& spec, WatchRole role, const WatchTriggers& present) {
    if (kind == RELKIND_FOREIGN_TABLE && spec.has_sql()) {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("a watch with a condition or a cascade cannot include foreign table \"%s\"",
                               get_rel_name(relation)),
                        errhint("Watch the table without them, or the other partitions one by one.")));
    }
    const List* plans = plan_watch(spec, relation, kind);
    for (int i = 0; i < present.count; ++i) {
        const Trigger& t = present.triggers[i];
        if (watch_role(t) == role && std::strcmp(watch_spec(t).id, spec.id) == 0 &&
            !is_planned(plans, t.tgname))
            drop_trigger(t.tgoid);
    }
    for (int i = 0; i < list_length(plans); ++i)
        make_trigger(relation, plan_at(plans, i), watch_function(role), watch_arguments(spec));
}

bool sees_every_row(Oid relation, const WatchSpec& spec) {
    return (has_row_tags(spec) && !spec.has_sql()) || is_below_unwatched(relation, spec);
}

bool is_last_restored(const char* name) {
    const std::string_view text = name;
    // They are restored in the order of their names.
    return text.ends_with("_statement") || text.ends_with("_update");
}

bool may_lack_row_trigger(const NamedTrigger& last_restored) {
    const std::string_view watch = watch_of(NameStr(last_restored.name));
    const char* row = psprintf("%.*s%s", static_cast<int>(watch.size()), watch.data(), kRowTrigger);
    return is_applied_to(get_rel_relkind(last_restored.relation)) &&
           !has_trigger(last_restored.relation, row);
}

void add_row_triggers(Oid relation, RowsBy rows_by) {
    // Without a lock first: most that are asked about have no watch.
    if (!has_trigger(relation, kWatchPrefix)) return;
    Relation table = try_table_open(relation, ShareRowExclusiveLock);
    if (table == nullptr) return;
    const WatchTriggers present = watch_triggers(table);
    const char kind = table->rd_rel->relkind;
    table_close(table, NoLock);
    const bool by_apply = rows_by == RowsBy::kApply;
    if (kind == RELKIND_PARTITIONED_TABLE || (by_apply && !is_applied_to(kind))) return;
    for (int i = 0; i < present.count; ++i) {
        const Trigger& t = present.triggers[i];
        if (!is_last_restored(t.tgname)) continue;
        const WatchSpec spec = watch_spec(t);
        const Trigger* row = find_trigger(present, psprintf("%s%s_%s", kWatchPrefix, spec.id, kRowTrigger));
        const bool lacks = row == nullptr || (!by_apply && row->tgenabled == TRIGGER_FIRES_ON_REPLICA);
        if (!lacks || (!by_apply && !is_below_unwatched(relation, spec))) continue;
        List* plans = NIL;
        add_plan(plans, spec, kRowTrigger,
                 row_plan(by_apply ? TRIGGER_FIRES_ON_REPLICA : TRIGGER_FIRES_ALWAYS));
        make_trigger(relation, plan_at(plans, 0), watch_function(watch_role(t)), watch_arguments(spec));
    }
}

void copy_to_members(Oid relation) {
    const WatchTriggers originals = watches_of(relation);
    if (originals.count == 0) return;
    const List* children = find_inheritance_children(relation, NoLock);
    for (int i = 0; i < list_length(children); ++i) {
        const Oid child = list_nth_oid(children, i);
        copy_to_member(originals, child);
        copy_to_members(child);
    }
}

void copy_from_parents(Oid relation) {
    const List* parents = parents_of(relation);
    bool any = false;
    for (int i = 0; i < list_length(parents); ++i) {
        const WatchTriggers originals = watches_of(list_nth_oid(parents, i));
        any = any || originals.count > 0;
        copy_to_member(originals, relation);
    }
    if (any) copy_to_members(relation);
    // What it had already, and those below it with it, can be written now by the name of what is above.
    if (parents == NIL || !has_trigger(relation, kWatchPrefix)) return;
    const List* below = find_all_inheritors(relation, NoLock, nullptr);
    for (int i = 0; i < list_length(below); ++i)
        add_row_triggers(list_nth_oid(below, i), RowsBy::kAbove);
}

void drop_orphans() {
    // Those below an orphan become orphans with it.
    for (bool dropped = true; dropped;) {
        dropped = false;
        const List* members = all_triggers(WatchRole::kMember);
        for (int i = 0; i < list_length(members); ++i) {
            const Oid trigger = list_nth_oid(members, i);
            NamedTrigger copy;
            if (!look_up_trigger(trigger, copy) || has_original(copy.relation, NameStr(copy.name))) continue;
            const WatchTriggers present = watches_of(copy.relation);
            const Trigger* found = find_trigger(present, NameStr(copy.name));
            if (found == nullptr) continue;
            invalidate_broadly(watch_spec(*found));
            drop_trigger(trigger);
            dropped = true;
        }
    }
}

List* parents_of(Oid relation) {
    List* parents = NIL;
    Relation catalog = table_open(InheritsRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_inherits_inhrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
    SysScanDesc scan = systable_beginscan(catalog, InheritsRelidSeqnoIndexId, true, nullptr, 1, &key);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        parents = lappend_oid(parents, reinterpret_cast<Form_pg_inherits>(GETSTRUCT(tuple))->inhparent);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return parents;
}

}  // namespace cache_ext::api
