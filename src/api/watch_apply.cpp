// Rows that logical replication applies: whether there may be any, and the triggers by which watches see them.
//
// Who applies rows fires no triggers for statements, but those for rows that fire in replicas too. For each of these triggers the server fetches the
// old row of every update and delete, in all sessions, so they are made only in databases that have a subscription, for all watched tables:
// which tables it will write, perhaps through partitions, is told by the other server only, and may become others later.
//
// Nothing may be missed in between. Who makes a watch holds a lock, shared, from its look at the subscriptions to its end; who makes
// a subscription or drops one holds it exclusively. So one of two sees the other's work, and a worker that applies rows starts after the commit of
// the transaction that made both the subscription and the triggers.

#include "api/make_trigger.hpp"
#include "api/watch.hpp"

extern "C" {
#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_subscription.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
}

namespace cache_ext::api {

namespace {

/// Extensions that apply rows themselves, with subscriptions of their own.
constexpr const char* kAppliers[] = {"pglogical", "spock", "bdr"};

/// The lock is on the function of watched tables' triggers, on which nothing else takes one but the dropping of the extension.
bool lock_applying(LOCKMODE mode, bool wait) {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ProcedureRelationId, watch_function(WatchRole::kTable), 0);
    if (LockAcquire(&tag, mode, false, !wait) == LOCKACQUIRE_NOT_AVAIL) return false;
    AcceptInvalidationMessages();
    return true;
}

/// Disabled ones count: until it has noticed, a worker goes on.
bool has_subscription() {
    Relation catalog = table_open(SubscriptionRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_subscription_subdbid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(MyDatabaseId));
    SysScanDesc scan = systable_beginscan(catalog, SubscriptionNameIndexId, true, nullptr, 1, &key);
    const bool found = HeapTupleIsValid(systable_getnext(scan));
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return found;
}

}  // namespace

bool has_applier() {
    return std::any_of(std::begin(kAppliers), std::end(kAppliers),
                       [](const char* name) { return OidIsValid(get_extension_oid(name, true)); });
}

void hold_applying() { lock_applying(ShareLock, true); }

bool rows_are_applied() {
    hold_applying();
    return has_subscription() || has_applier();
}

void begin_applying() {
    lock_applying(ExclusiveLock, true);
    List* relations = NIL;
    for (const WatchRole role : {WatchRole::kTable, WatchRole::kMember}) {
        const List* triggers = all_triggers(role);
        for (int i = 0; i < list_length(triggers); ++i) {
            NamedTrigger found;
            if (look_up_trigger(list_nth_oid(triggers, i), found) && is_last_restored(NameStr(found.name)) &&
                may_lack_row_trigger(found))
                relations = list_append_unique_oid(relations, found.relation);
        }
    }
    // In one order, whoever does it.
    list_sort(relations, list_oid_cmp);
    for (int i = 0; i < list_length(relations); ++i)
        add_row_triggers(list_nth_oid(relations, i), RowsBy::kApply);
}

void end_applying() {
    // A subscription's slot on the other server is gone already: this must not fail, nor wait. What is left here costs time, and no more. The locks
    // keep readers out, and so are not for transactions that go on.
    if (IsTransactionBlock() || !lock_applying(ExclusiveLock, false) || has_subscription() || has_applier())
        return;
    for (const WatchRole role : {WatchRole::kTable, WatchRole::kMember}) {
        const List* triggers = all_triggers(role);
        for (int i = 0; i < list_length(triggers); ++i) {
            const Oid trigger = list_nth_oid(triggers, i);
            NamedTrigger found;
            if (look_up_trigger(trigger, found) && found.fires == TRIGGER_FIRES_ON_REPLICA &&
                ConditionalLockRelationOid(found.relation, AccessExclusiveLock) &&
                look_up_trigger(trigger, found))
                drop_trigger(trigger);
        }
    }
}

}  // namespace cache_ext::api
