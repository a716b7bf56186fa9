// The validator of the language `cached` (whether a definition can be called at all, and what it depends on), and what SQL asks of cached functions.

#include "api/cached_function.hpp"
#include "pg/attach.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_proc.h"
#include "funcapi.h"
#include "utils/guc.h"
}

namespace cache_ext::api {

namespace {

/// A cached function goes with the function that it calls, and finds it again when that is renamed.
void depend_on(Oid function, Oid underneath) {
    const ObjectAddress depender{ProcedureRelationId, function, 0};
    const ObjectAddress referenced{ProcedureRelationId, underneath, 0};
    recordDependencyOn(&depender, &referenced, DEPENDENCY_AUTO);
}

}  // namespace

CACHE_EXT_FUNCTION(validate_cached_function) {
    if (PG_ARGISNULL(0)) pg::raise(ERRCODE_NULL_VALUE_NOT_ALLOWED, "function must not be null");
    const Oid function = PG_GETARG_OID(0);
    if (!CheckFunctionValidatorAccess(fcinfo->flinfo->fn_oid, function)) PG_RETURN_VOID();
    // While a dump is restored, the function underneath may not be there yet.
    const Oid underneath = check_function_bodies ? checked_underneath(function) : underneath_of(function);
    if (OidIsValid(underneath)) depend_on(function, underneath);
    PG_RETURN_VOID();
}

CACHE_EXT_FUNCTION(underneath_cached_function) {
    const Oid underneath = PG_ARGISNULL(0) ? InvalidOid : underneath_of(PG_GETARG_OID(0));
    if (!OidIsValid(underneath)) PG_RETURN_NULL();
    PG_RETURN_OID(underneath);
}

CACHE_EXT_FUNCTION(count_cached_function) {
    TupleDesc description = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &description) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    core::FunctionCounts counts;
    if (!PG_ARGISNULL(0) && pg::attached()) counts = pg::region().counted_of(count_id(PG_GETARG_OID(0)));
    Datum values[] = {Int64GetDatum(static_cast<std::int64_t>(counts.hits)),
                      Int64GetDatum(static_cast<std::int64_t>(counts.computations)),
                      Int64GetDatum(static_cast<std::int64_t>(counts.compute_us))};
    bool nulls[] = {false, false, false};
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(description), values, nulls));
}

}  // namespace cache_ext::api
