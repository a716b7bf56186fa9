#include "api/warming.hpp"

#include "api/cached_function.hpp"
#include "api/cached_key.hpp"
#include "api/context.hpp"
#include "pg/guard.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/proclang.h"
#include "funcapi.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "storage/latch.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace cache_ext::api {

namespace {

/// What runs in a subtransaction, and may raise; throws nothing.
using Attempt = void (*)(void* context);

/// Runs it in a read-only subtransaction. False: it raised an error, which is reported at `level`. What tells this process to stop is raised again, but for the
/// end of its time where `has_deadline`.
bool attempt(Attempt run, void* context, int level, const char* name) {
    MemoryContext memory = CurrentMemoryContext;
    ResourceOwner resources = CurrentResourceOwner;
    volatile bool succeeded = false;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(memory);
    PG_TRY();
    {
        XactReadOnly = true;  // until it ends
        run(context);
        ReleaseCurrentSubTransaction();
        succeeded = true;
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(memory);
        ErrorData* error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(memory);
        CurrentResourceOwner = resources;
        // In a worker it is the end of the time that it gives a computation.
        if (error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
            (error->sqlerrcode == ERRCODE_QUERY_CANCELED && MyBackendType != B_BG_WORKER))
            ReThrowError(error);
        ereport(level,
                (errcode(error->sqlerrcode), errmsg("could not warm \"%s\": %s", name, error->message)));
        FreeErrorData(error);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = resources;
    return succeeded;
}

// --- what can be warmed -------------------------------------------------------------------------------

struct Description {
    WarmTarget& target;
    bool is_warmable;
};

void describe_target(void* context) {
    Description& description = *static_cast<Description*>(context);
    Definition* d = acquire_definition(description.target.function);
    description.is_warmable =
        d->is_shared && !d->is_polymorphic &&
        std::all_of(d->argument_types, d->argument_types + d->argument_count, can_be_read_back);
    if (description.is_warmable) {
        auto* buffer = static_cast<char*>(palloc(core::kMaxKeyBytes));
        description.target.prefix = pg::guarded([&] { return key_prefix(*d, nullptr, buffer); });
        description.target.name = pstrdup(d->key_name);
    }
    release_definition(d);
}

/// The cached functions of this database.
void find_targets(WarmPlan& plan) {
    const Oid language = get_language_oid("cached", true);
    if (!OidIsValid(language)) return;
    int capacity = 0;
    Relation catalog = table_open(ProcedureRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_proc_prolang, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(language));
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 1, &key);
    while (HeapTuple row = systable_getnext(scan)) {
        if (plan.target_count == capacity) {
            capacity = 2 * capacity + 16;
            const Size bytes = sizeof(WarmTarget) * static_cast<Size>(capacity);
            plan.targets = static_cast<WarmTarget*>(plan.targets == nullptr ? palloc(bytes)
                                                                            : repalloc(plan.targets, bytes));
        }
        plan.targets[plan.target_count++] = {
            reinterpret_cast<Form_pg_proc>(GETSTRUCT(row))->oid, "", {}, false};
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);

    int kept = 0;
    for (int i = 0; i < plan.target_count; ++i) {
        Description description{plan.targets[i], false};
        // One that is broken is told of when it is called.
        if (attempt(describe_target, &description, DEBUG1, "a cached function") && description.is_warmable)
            plan.targets[kept++] = plan.targets[i];
    }
    plan.target_count = kept;
}

WarmTarget* target_of(const WarmPlan& plan, std::string_view key) {
    WarmTarget* end = plan.targets + plan.target_count;
    WarmTarget* found = std::find_if(
        plan.targets, end, [key](const WarmTarget& target) { return key.starts_with(target.prefix); });
    return found == end ? nullptr : found;
}

bool has_target(const void* plan, std::string_view key) {
    return target_of(*static_cast<const WarmPlan*>(plan), key) != nullptr;
}

// --- computing one ------------------------------------------------------------------------------------

/// A call of a cached function, as a query would make it.
struct Warming {
    const WarmTarget& target;
    std::string_view key;
    Warmed result;
};

/// What the rows of a set look like in FROM. Null: only a query would say.
TupleDesc rows_of(Node* call) {
    Oid type = InvalidOid;
    TupleDesc row = nullptr;
    switch (get_expr_result_type(call, &type, &row)) {
        case TYPEFUNC_COMPOSITE:
        case TYPEFUNC_COMPOSITE_DOMAIN:
            return CreateTupleDescCopy(row);
        case TYPEFUNC_SCALAR:
            row = CreateTemplateTupleDesc(1);
            TupleDescInitEntry(row, 1, nullptr, type, -1, 0);
            TupleDescInitEntryCollation(row, 1, exprCollation(call));
            return row;
        default:
            return nullptr;
    }
}

/// The call that a key is of. Null: it does not say.
FunctionCallInfo read_call(const Definition& d, const Warming& w, ReturnSetInfo& rows) {
    auto* function = static_cast<FmgrInfo*>(palloc0(sizeof(FmgrInfo)));
    const Oid oid = w.target.function;
    const int count = get_func_nargs(oid);
    auto* fcinfo = static_cast<FunctionCallInfo>(palloc0(SizeForFunctionCallInfo(count)));
    auto* types =
        static_cast<ArgumentType*>(palloc0(sizeof(ArgumentType) * static_cast<Size>(d.argument_count + 1)));
    for (int i = 0; i < d.argument_count; ++i) {
        types[i].type = d.argument_types[i];
        get_typlenbyval(types[i].type, &types[i].bytes, &types[i].by_value);
    }
    for (int i = 0; i < count; ++i)
        fcinfo->args[i].isnull = true;
    Oid collation = InvalidOid;
    if (!read_arguments(w.key.substr(w.target.prefix.size()), types, d.argument_count, collation,
                        fcinfo->args))
        return nullptr;
    if (OidIsValid(collation) && !SearchSysCacheExists1(COLLOID, ObjectIdGetDatum(collation))) return nullptr;

    // Where a function finds the types of its arguments; their values are not looked at there.
    List* arguments = NIL;
    Oid* declared = nullptr;
    int declared_count = 0;
    const Oid result = get_func_signature(oid, &declared, &declared_count);
    for (int i = 0; i < declared_count; ++i)
        arguments = lappend(arguments, makeNullConst(declared[i], -1, collation));
    FuncExpr* call = makeFuncExpr(oid, result, arguments, collation, collation, COERCE_EXPLICIT_CALL);
    call->funcretset = d.is_set;
    call->funcvariadic = d.is_variadic;
    fmgr_info(oid, function);
    fmgr_info_set_expr(reinterpret_cast<Node*>(call), function);
    InitFunctionCallInfoData(*fcinfo, function, static_cast<short>(count), collation, nullptr, nullptr);
    if (!d.is_set) return fcinfo;

    rows.type = T_ReturnSetInfo;
    rows.econtext = CreateStandaloneExprContext();
    rows.expectedDesc = rows_of(reinterpret_cast<Node*>(call));
    rows.allowedModes = SFRM_Materialize | SFRM_Materialize_Random;
    rows.returnMode = SFRM_ValuePerCall;
    fcinfo->resultinfo = reinterpret_cast<Node*>(&rows);
    return rows.expectedDesc != nullptr ? fcinfo : nullptr;
}

/// As the function's owner from the first step on: also what is needed to call it, such as writing arguments into tags, runs code of types.
void warm_as_owner(void* context) {
    Warming& w = *static_cast<Warming*>(context);
    Definition* d = acquire_definition(w.target.function);
    Oid user = InvalidOid;
    int security = 0;
    GetUserIdAndSecContext(&user, &security);
    const int level = NewGUCNestLevel();
    SetUserIdAndSecContext(d->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    (void)set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                            true, 0, false);
    ReturnSetInfo rows{};
    FunctionCallInfo call = read_call(*d, w, rows);
    release_definition(d);
    w.result = call == nullptr ? Warmed::kNotDue : pg::guarded([&] { return warm_call(call, w.key); });
    if (rows.setResult != nullptr) tuplestore_end(rows.setResult);
    if (rows.econtext != nullptr) FreeExprContext(rows.econtext, true);
    AtEOXact_GUC(false, level);
    SetUserIdAndSecContext(user, security);
}

}  // namespace

WarmPlan plan_warming(bool only_stale) {
    WarmPlan plan;
    // Where the server recovers, nothing that a function computes is kept.
    if (pg::settings::warm_rate == 0 || !usable() || RecoveryInProgress()) return plan;
    plan.keys = MostUsed::make();
    find_targets(plan);
    if (plan.target_count == 0) return plan;
    add_from_region(plan.keys, only_stale ? InRegion::kStale : InRegion::kNotFresh, has_target, &plan);
    if (!only_stale) add_from_list(plan.keys, has_target, &plan);
    plan.keys.sort();
    return plan;
}

Warmed warm_one(WarmPlan& plan, int number, int level) {
    const std::string_view key = plan.keys[number].key;
    WarmTarget& target = *target_of(plan, key);
    MemoryContext outer = CurrentMemoryContext;
    MemoryContext work = AllocSetContextCreate(outer, "cache_ext warming", ALLOCSET_DEFAULT_SIZES);
    MemoryContextSwitchTo(work);
    Warming warming{target, key, Warmed::kNotDue};
    if (!attempt(warm_as_owner, &warming, target.has_failed ? DEBUG1 : level, target.name)) {
        target.has_failed = true;
        warming.result = Warmed::kNot;
    }
    MemoryContextSwitchTo(outer);
    MemoryContextDelete(work);
    return warming.result;
}

void WarmPace::start() noexcept {
    next_ = GetCurrentTimestamp() + USECS_PER_SEC / std::max(pg::settings::warm_rate, 1);
}

void WarmPace::wait() {
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        const TimestampTz now = GetCurrentTimestamp();
        // Not longer than a second, whatever becomes of the clock.
        const std::int64_t left = std::min<std::int64_t>(next_ - now, USECS_PER_SEC);
        if (left <= 0) break;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
                        static_cast<long>(left / 1000 + 1), PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

CACHE_EXT_FUNCTION(warm_cache) {
    if (PG_ARGISNULL(0)) pg::raise(ERRCODE_NULL_VALUE_NOT_ALLOWED, "limit must not be null");
    const int limit = PG_GETARG_INT32(0);
    if (limit < 1) pg::raise(ERRCODE_INVALID_PARAMETER_VALUE, "limit must be at least 1");
    WarmPlan plan = plan_warming(false);
    WarmPace pace;
    int tried = 0;
    int computed = 0;
    for (int i = 0; i < plan.keys.count() && tried < limit; ++i) {
        pace.start();
        const Warmed result = warm_one(plan, i, WARNING);
        if (result == Warmed::kNotDue) continue;
        computed += result == Warmed::kComputed ? 1 : 0;
        if (++tried < limit) pace.wait();
    }
    PG_RETURN_INT32(computed);
}

}  // namespace cache_ext::api
