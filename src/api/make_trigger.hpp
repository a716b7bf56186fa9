#pragma once

// Making triggers of this extension's on tables of others.

#include "pg/prelude.hpp"

extern "C" {
#include "nodes/pg_list.h"
}

namespace cache_ext::api {

/// How a trigger is to be made. It is called after the event.
struct TriggerPlan {
    const char* name;
    bool row;
    int events;  ///< TRIGGER_TYPE_INSERT and others
    bool old_rows;
    bool new_rows;
    char fires;  ///< TRIGGER_FIRES_ALWAYS and others
};

/// Makes a trigger, or makes it anew, whoever calls: whether the caller may is to be asked before. Takes the lock that CREATE TRIGGER takes.
void make_trigger(Oid relation, const TriggerPlan& plan, Oid function, List* arguments);

/// Drops a trigger, whoever calls. Takes the lock that DROP TRIGGER takes.
void drop_trigger(Oid trigger);

/// The OIDs of the triggers that call a function.
List* triggers_of(Oid function);

/// A trigger's relation and name, and when it fires.
struct NamedTrigger {
    Oid relation;
    NameData name;
    char fires;
};

/// False: it is gone.
bool look_up_trigger(Oid trigger, NamedTrigger& found);

}  // namespace cache_ext::api
