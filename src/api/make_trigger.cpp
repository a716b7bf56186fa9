#include "api/make_trigger.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace cache_ext::api {

namespace {

constexpr char kOldRows[] = "cache_ext_old_rows";
constexpr char kNewRows[] = "cache_ext_new_rows";

TriggerTransition* transition(const char* name, bool is_new) {
    auto* node = makeNode(TriggerTransition);
    node->name = pstrdup(name);
    node->isNew = is_new;
    node->isTable = true;
    return node;
}

}  // namespace

void make_trigger(Oid relation, const TriggerPlan& plan, Oid function, List* arguments) {
    auto* statement = makeNode(CreateTrigStmt);
    statement->replace = true;
    statement->trigname = pstrdup(plan.name);
    statement->relation =
        makeRangeVar(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation), -1);
    statement->args = arguments;
    statement->row = plan.row;
    statement->timing = TRIGGER_TYPE_AFTER;
    statement->events = static_cast<int16>(plan.events);
    if (plan.old_rows)
        statement->transitionRels = lappend(statement->transitionRels, transition(kOldRows, false));
    if (plan.new_rows)
        statement->transitionRels = lappend(statement->transitionRels, transition(kNewRows, true));

    // The functions are nobody's to execute. Whether the caller may do this has been asked before.
    Oid user = InvalidOid;
    int context = 0;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
    CreateTriggerFiringOn(statement, nullptr, relation, InvalidOid, InvalidOid, InvalidOid, function,
                          InvalidOid, nullptr, false, false, plan.fires);
    SetUserIdAndSecContext(user, context);
    CommandCounterIncrement();
}

void drop_trigger(Oid trigger) {
    const ObjectAddress address{TriggerRelationId, trigger, 0};
    performDeletion(&address, DROP_RESTRICT, PERFORM_DELETION_INTERNAL);
    CommandCounterIncrement();
}

List* triggers_of(Oid function) {
    List* triggers = NIL;
    if (!OidIsValid(function)) return triggers;
    Relation depend = table_open(DependRelationId, AccessShareLock);
    ScanKeyData key[2];
    ScanKeyInit(&key[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(ProcedureRelationId));
    ScanKeyInit(&key[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(function));
    SysScanDesc scan = systable_beginscan(depend, DependReferenceIndexId, true, nullptr, 2, key);
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        const auto* row = reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple));
        if (row->classid == TriggerRelationId) triggers = lappend_oid(triggers, row->objid);
    }
    systable_endscan(scan);
    table_close(depend, AccessShareLock);
    return triggers;
}

bool look_up_trigger(Oid trigger, NamedTrigger& found) {
    Relation catalog = table_open(TriggerRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
    SysScanDesc scan = systable_beginscan(catalog, TriggerOidIndexId, true, nullptr, 1, &key);
    HeapTuple tuple = systable_getnext(scan);
    const bool is_there = HeapTupleIsValid(tuple);
    if (is_there) {
        const auto* row = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
        found = {row->tgrelid, row->tgname, row->tgenabled};
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return is_there;
}

}  // namespace cache_ext::api
