// emergency_clear_cache: everything of this database goes.

#include "api/context.hpp"
#include "api/matching.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "commands/dbcommands.h"
}

namespace cache_ext::api {

namespace {

/// Raises unless the argument is the database's name, so that nobody clears what he did not mean to.
void require_database_name(FunctionCallInfo fcinfo) {
    if (!PG_ARGISNULL(0)) {
        const text* given = PG_GETARG_TEXT_PP(0);
        const char* name = get_database_name(MyDatabaseId);
        if (name != nullptr && std::string_view(VARDATA_ANY(given), VARSIZE_ANY_EXHDR(given)) == name) return;
    }
    pg::raise(ERRCODE_INVALID_PARAMETER_VALUE, "clearing the cache is not confirmed", nullptr,
              "Pass the name of the current database, as current_database() returns it.");
}

}  // namespace

CACHE_EXT_FUNCTION(emergency_clear_cache) {
    require_database_name(fcinfo);
    if (!pg::current_space().exists) PG_RETURN_INT32(0);
    const core::Scope everything{{}, space_id(), {}, false};
    const std::int64_t count =
        count_live(Reach::everything(everything), [](const Candidate&) { return true; });
    pg::invalidate(pg::InvalidationKind::kSpace, everything, {});
    PG_RETURN_INT32(static_cast<std::int32_t>(count));
}

}  // namespace cache_ext::api
