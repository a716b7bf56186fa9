// What can be said of a function before it runs, in SQL: for those who write one, and for tests.

#include "pg/trackability.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/builtins.h"
}

namespace cache_ext::api {

CACHE_EXT_FUNCTION(look_at_function) {
    if (PG_ARGISNULL(0)) pg::raise(ERRCODE_NULL_VALUE_NOT_ALLOWED, "function must not be null");
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    pg::Trackability seen;
    pg::look_at_function(PG_GETARG_OID(0), seen);

    const auto put = [&](const char* kind, const char* description) {
        Datum values[] = {CStringGetTextDatum(kind), CStringGetTextDatum(description)};
        bool nulls[] = {false, false};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    };
    for (int i = 0; i < seen.relation_count; ++i)
        put("table", pg::describe({pg::Obstacle::kNone, seen.relations[i]}));
    for (int i = 0; i < seen.finding_count; ++i)
        put(pg::name_of(seen.findings[i].obstacle), pg::describe(seen.findings[i]));
    if (!seen.complete) put("incomplete", "more than is looked at");
    PG_RETURN_NULL();
}

}  // namespace cache_ext::api
