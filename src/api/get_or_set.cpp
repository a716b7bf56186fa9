// get_or_set_cached_data.

#include "api/args.hpp"
#include "api/compute.hpp"
#include "api/context.hpp"
#include "api/reading.hpp"
#include "api/storing.hpp"
#include "pg/guard.hpp"
#include "pg/observe.hpp"
#include "pg/snapshot.hpp"
#include "pg/transaction.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
#include "utils/builtins.h"
}

namespace cache_ext::api {

namespace {

/// Whether nothing that this transaction did can be in what it reads: neither rows nor entries of its own.
bool has_done_nothing() { return !TransactionIdIsValid(GetTopTransactionIdIfAny()) && pg::pending().empty(); }

/// Computes, and notes what was read.
Datum compute_observed(const Computation& computation, pg::Observation& seen, bool wants_relations) {
    pg::start_observing(seen, wants_relations);
    Datum value = 0;
    PG_TRY();
    { value = compute(computation); }
    PG_FINALLY();
    { pg::stop_observing(seen); }
    PG_END_TRY();
    return value;
}

/// Whether a result may be kept, as far as what it was computed from goes.
bool may_keep(const pg::Observation& seen, bool tracked) {
    if (seen.temporary) return false;
    // What is written elsewhere is not told by the relation.
    if (tracked && RecoveryInProgress()) return false;
    return !tracked || (!seen.untrackable && pg::watch_relations(seen.relations, seen.count));
}

/// Computes the value of a missing key and stores it if it can be; otherwise it is just returned.
Datum fill(SetRequest request, const Computation& computation, bool tracked) {
    core::Scope scope;
    const bool has_scope = scope_for_set(request.key, scope);
    // All that says how old the value is comes before it is computed.
    Age age{pg::fill_clock(), pg::pending().mark()};
    if (pg::pending().has_invalidations()) age.through = pg::settled_newest();
    const bool untouched = has_done_nothing();
    const std::uint64_t begin = nanoseconds();
    pg::Observation seen;
    const Datum value = compute_observed(computation, seen, tracked);

    const std::uint64_t micros = (nanoseconds() - begin) / 1000;
    core::Counters& counters = pg::session().counters;
    counters.add(core::Counter::kComputations);
    counters.add(core::Counter::kComputeMicros, micros);
    if (!has_scope || !may_keep(seen, tracked)) {
        log_operation("get or set", request.key, "computed, not kept");
        return value;
    }

    request.value = reinterpret_cast<const varlena*>(DatumGetPointer(value));
    request.compute_us = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(micros, 1, UINT32_MAX));
    if (tracked) {
        request.relations = seen.relations;
        request.relation_count = seen.count;
    }
    const bool kept =
        untouched && has_done_nothing() ? publish_now(request, scope, age) : set_pending(request, scope, age);
    log_operation("get or set", request.key, kept ? "computed" : "computed, not kept");
    return value;
}

}  // namespace

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

    if (!usable()) return compute(computation);
    Datum value = 0;
    Visible found;
    if (read(request.key, 0, value, found)) {
        log_operation("get or set", request.key, "hit");
        return value;
    }
    pg::session().counters.add(core::Counter::kMisses);
    return fill(request, computation, tracked);
}

}  // namespace cache_ext::api
