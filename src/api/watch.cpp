#include "api/watch.hpp"

#include "api/context.hpp"
#include "api/make_trigger.hpp"
#include "api/row_tags.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "nodes/value.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/syscache.h"
}

namespace cache_ext::api {

namespace {

constexpr int kFirstTag = 5;  // the arguments before are the spec's other members

constexpr char kInternalSchema[] = "cache_ext_internal";
constexpr char kTableFunction[] = "watched_table_changed";
constexpr char kMemberFunction[] = "watched_member_changed";

/// A template whose parse ends at the first field has one.
int find_nothing(void* /*context*/, const char* /*name*/, Oid& /*type*/) { return 0; }

}  // namespace

Oid watch_function(WatchRole role) {
    const Oid schema = get_namespace_oid(kInternalSchema, true);
    if (!OidIsValid(schema)) return InvalidOid;
    oidvector* none = buildoidvector(nullptr, 0);
    return GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
                           CStringGetDatum(role == WatchRole::kTable ? kTableFunction : kMemberFunction),
                           PointerGetDatum(none), ObjectIdGetDatum(schema));
}

WatchRole watch_role(const Trigger& trigger) {
    if (trigger.tgnargs < kFirstTag || !OidIsValid(trigger.tgfoid)) return WatchRole::kNone;
    for (const WatchRole role : {WatchRole::kTable, WatchRole::kMember}) {
        if (trigger.tgfoid == watch_function(role)) return role;
    }
    return WatchRole::kNone;
}

WatchSpec watch_spec(const Trigger& trigger) {
    char** a = trigger.tgargs;
    return {a[0], a[1], a[2], a[3], a[4], a + kFirstTag, trigger.tgnargs - kFirstTag};
}

List* watch_arguments(const WatchSpec& spec) {
    List* arguments = NIL;
    for (const char* text : {spec.id, spec.owner, spec.search_path, spec.condition, spec.cascade})
        arguments = lappend(arguments, makeString(pstrdup(text)));
    for (int i = 0; i < spec.tag_count; ++i)
        arguments = lappend(arguments, makeString(pstrdup(spec.tags[i])));
    return arguments;
}

bool has_row_tags(const WatchSpec& spec) {
    for (int i = 0; i < spec.tag_count; ++i) {
        TagTemplate t;
        const char* missing = nullptr;
        if (parse_template(spec.tags[i], find_nothing, nullptr, t, missing) != TemplateFault::kNone)
            return true;
    }
    return false;
}

void invalidate_broadly(const WatchSpec& spec) {
    const core::Id128 space = space_id();
    if (spec.has_cascade() || spec.tag_count == 0 || has_row_tags(spec)) {
        invalidate_everything(space);
        return;
    }
    for (int i = 0; i < spec.tag_count; ++i) {
        TagTemplate t;
        const char* missing = nullptr;
        parse_template(spec.tags[i], find_nothing, nullptr, t, missing);
        invalidate_tag(space, t.text());
    }
}

bool any_watch() {
    return triggers_of(watch_function(WatchRole::kTable)) != NIL ||
           triggers_of(watch_function(WatchRole::kMember)) != NIL;
}

List* all_triggers(WatchRole role) { return triggers_of(watch_function(role)); }

WatchTriggers watch_triggers(Relation relation) {
    WatchTriggers found{nullptr, 0};
    TriggerDesc* all = CopyTriggerDesc(relation->trigdesc);
    if (all == nullptr) return found;
    found.triggers = static_cast<Trigger*>(palloc(sizeof(Trigger) * static_cast<Size>(all->numtriggers)));
    for (int i = 0; i < all->numtriggers; ++i) {
        if (watch_role(all->triggers[i]) != WatchRole::kNone)
            found.triggers[found.count++] = all->triggers[i];
    }
    return found;
}

const Trigger* find_trigger(const WatchTriggers& triggers, const char* name) noexcept {
    for (int i = 0; i < triggers.count; ++i) {
        if (std::strcmp(triggers.triggers[i].tgname, name) == 0) return &triggers.triggers[i];
    }
    return nullptr;
}

}  // namespace cache_ext::api
