// create_cached_function, drop_cached_function. Whoever may execute them needs no other right of the extension's: what is internal is called from here.

#include "api/args.hpp"
#include "api/cached_function.hpp"
#include "pg/guard.hpp"
#include "pg/trackability.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
}

namespace cache_ext::api {

namespace {

/// A function of the schema for internal objects, whose names are all different.
Oid internal_function(const char* name) {
    const Oid schema = get_namespace_oid("cache_ext_internal", false);
    CatCList* list = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
    Oid found = InvalidOid;
    for (int i = 0; i < list->n_members; ++i) {
        const auto* row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(&list->members[i]->tuple));
        if (row->pronamespace == schema) found = row->oid;
    }
    ReleaseCatCacheList(list);
    if (!OidIsValid(found)) elog(ERROR, "function cache_ext_internal.%s does not exist", name);
    return found;
}

/// Whose rights it takes to make the cached function: those of whoever calls, unless parsing the defaults of somebody else's function may run his code.
Oid maker_for(Oid function) {
    const Oid caller = GetUserId();
    HeapTuple row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(row)) return caller;
    const auto* f = reinterpret_cast<Form_pg_proc>(GETSTRUCT(row));
    const bool is_lent = f->pronargdefaults > 0 && has_privs_of_role(caller, f->proowner);
    const Oid maker = is_lent ? f->proowner : caller;
    ReleaseSysCache(row);
    return maker;
}

void append_finding(StringInfoData& text, const pg::Finding& finding) {
    if (text.len > 0) appendStringInfoString(&text, "; ");
    appendStringInfoString(&text, pg::describe(finding));
}

/// Tells what of a function's answers nobody can know to have changed. Who calls it is no such thing: others have results of their own, and a shared
/// function is asked by nobody in particular.
void tell_untracked(Oid function) {
    pg::Trackability seen;
    pg::look_at_function(function, seen);
    StringInfoData never_kept;
    StringInfoData not_told;
    initStringInfo(&never_kept);
    initStringInfo(&not_told);
    StringInfoData not_seen;
    initStringInfo(&not_seen);
    for (int i = 0; i < seen.finding_count; ++i) {
        const pg::Finding& finding = seen.findings[i];
        if (finding.obstacle == pg::Obstacle::kIdentity) continue;
        append_finding(pg::prevents_keeping(finding.obstacle)             ? never_kept
                       : finding.obstacle == pg::Obstacle::kNotLookedInto ? not_seen
                                                                          : not_told,
                       finding);
    }
    const char* name = format_procedure(function);
    if (never_kept.len > 0) {
        ereport(
            NOTICE,
            (errmsg("results of function %s are not kept where they are computed from what cannot be tracked",
                    name),
             errdetail("It reads %s.", never_kept.data),
             errhint("Pass tags in p_cache_tags, and invalidate them when that changes.")));
    }
    if (not_told.len > 0) {
        ereport(NOTICE, (errmsg("not everything that results of function %s depend on can be tracked", name),
                         errdetail("It uses %s.", not_told.data),
                         errhint("A short p_cache_duration bounds how long a result may be out of date.")));
    }
    if (not_seen.len > 0) {
        ereport(NOTICE, (errmsg("what results of function %s depend on is seen only when it runs", name),
                         errdetail("It uses %s.", not_seen.data),
                         errhint("Results of what cannot be tracked are not kept then. cache_dependencies "
                                 "shows what a result depends on.")));
    }
}

}  // namespace

CACHE_EXT_FUNCTION(create_cached_function) {
    constexpr int kGiven = 6;
    constexpr int kAll = kGiven + 2;
    LOCAL_FCINFO(call, kAll);
    FmgrInfo make;
    fmgr_info(internal_function("make_cached_function"), &make);
    InitFunctionCallInfoData(*call, &make, kAll, InvalidOid, nullptr, nullptr);
    std::copy_n(fcinfo->args, kGiven, call->args);
    call->args[kGiven] = {CStringGetTextDatum(namespace_search_path), false};
    call->args[kGiven + 1] = {BoolGetDatum(pg::tracks_writes()), false};
    Oid caller = InvalidOid;
    int security = 0;
    GetUserIdAndSecContext(&caller, &security);
    const Oid maker = PG_ARGISNULL(0) ? caller : maker_for(PG_GETARG_OID(0));
    if (maker != caller) {
        SetUserIdAndSecContext(maker,
                               security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    }
    const Datum made = FunctionCallInvoke(call);
    SetUserIdAndSecContext(caller, security);
    const bool is_tracked = PG_ARGISNULL(2);
    if (is_tracked) tell_untracked(PG_GETARG_OID(0));
    return made;
}

CACHE_EXT_FUNCTION(drop_cached_function) {
    if (PG_ARGISNULL(0)) pg::raise(ERRCODE_NULL_VALUE_NOT_ALLOWED, "function must not be null");
    const Oid function = PG_GETARG_OID(0);
    const char* name = format_procedure(function);
    SPI_connect();
    SPI_execute(
        "SELECT f.oid FROM pg_catalog.pg_proc f JOIN pg_catalog.pg_language l ON f.prolang "
        "OPERATOR(pg_catalog.=) l.oid"
        " WHERE l.lanname OPERATOR(pg_catalog.=) 'cached'",
        true, 0);
    const SPITupleTable* all = SPI_tuptable;
    bool found = false;
    for (std::uint64_t i = 0; i < all->numvals; ++i) {
        bool is_null = false;
        const Oid cached = DatumGetObjectId(SPI_getbinval(all->vals[i], all->tupdesc, 1, &is_null));
        if (cached != function && underneath_of(cached) != function) continue;
        SPI_execute(psprintf("DROP FUNCTION %s", format_procedure_qualified(cached)), false, 0);
        found = true;
    }
    SPI_finish();
    if (!found) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("function %s has no cached function", name),
                        errhint("The view cached_functions lists those that there are.")));
    }
    PG_RETURN_VOID();
}

}  // namespace cache_ext::api
