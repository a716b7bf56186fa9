// get_or_set_cached_data.

#include "api/args.hpp"
#include "api/compute.hpp"
#include "api/filling.hpp"
#include "pg/guard.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "utils/builtins.h"
}

namespace cache_ext::api {

CACHE_EXT_FUNCTION(get_or_set_cached_data) {
    SetRequest request;
    request.key = key_argument(fcinfo, 0);
    require_argument(fcinfo, 1, "cached query");
    request.duration = duration_argument(fcinfo, 2);
    const bool tracked = PG_ARGISNULL(3);
    request.tags = tags_argument(fcinfo, 3, static_cast<int>(core::kMaxTags));
    if (tracked && !pg::tracks_writes()) {
        pg::raise(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                  "what a query reads can be tracked only with preloading", nullptr,
                  "Add cache_ext to shared_preload_libraries, or pass tags in p_cache_tags ('{}' for none).");
    }
    Computation computation;
    computation.query = text_to_cstring(PG_GETARG_TEXT_PP(1));
    computation.parameters = PG_ARGISNULL(4) ? nullptr : PG_GETARG_JSONB_P(4);
    computation.may_be_parallel = !tracked;
    check_parameters(computation.parameters);

    const Source source{[](void* context) { return compute(*static_cast<const Computation*>(context)); },
                        &computation, "get or set"};
    return read_or_fill(request, {}, source, tracked ? Tracking::kAll : Tracking::kNone);
}

}  // namespace cache_ext::api
