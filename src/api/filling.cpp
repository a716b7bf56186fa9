#include "api/filling.hpp"

#include "api/context.hpp"
#include "api/reading.hpp"
#include "pg/observe.hpp"
#include "pg/settings.hpp"
#include "pg/snapshot.hpp"
#include "pg/transaction.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
}

namespace cache_ext::api {

namespace {

/// Whether nothing that this transaction did can be in what it reads: neither rows nor entries of its own.
bool has_done_nothing() { return !TransactionIdIsValid(GetTopTransactionIdIfAny()) && pg::pending().empty(); }

/// Computes, and notes what was read.
Datum compute_observed(const Source& source, pg::Observation& seen, bool wants_relations) {
    pg::start_observing(seen, wants_relations);
    Datum value = 0;
    PG_TRY();
    { value = source.compute(source.context); }
    PG_FINALLY();
    { pg::stop_observing(seen); }
    PG_END_TRY();
    return value;
}

/// Whether a result may be kept in the scope, as far as what it was computed from goes.
bool may_keep(const pg::Observation& seen, bool tracked, const core::Scope& scope) {
    if (seen.temporary) return false;
    // What one caller may have put there must not become what all are given.
    if (tracked && seen.private_entry && !scope.is_private) return false;
    // What is written elsewhere is not told by the relation.
    if (tracked && RecoveryInProgress()) return false;
    return !tracked || (!seen.untrackable && pg::watch_relations(seen.relations, seen.count));
}

void log_not_kept(const char* name, std::string_view key, const pg::Observation& seen, bool tracked) {
    if (!pg::settings::log_operations) return;
    const bool known = seen.obstacle.obstacle != pg::Obstacle::kNone && (tracked || seen.temporary);
    log_operation(name, key,
                  known ? psprintf("computed, not kept: it has read %s", pg::describe(seen.obstacle))
                        : "computed, not kept");
}

/// The scope that the value goes to. False: none.
bool scope_of(const SetRequest& request, const Place& place, core::Scope& scope) {
    if (place.scope == nullptr) return scope_for_set(request.key, scope) && place.may_fill;
    scope = *place.scope;
    return place.may_fill;
}

/// Computes the value of a missing key and stores it if it can be; otherwise it is just returned.
Datum fill(SetRequest request, const Place& place, const Source& source, bool tracked) {
    core::Scope scope;
    const bool has_scope = scope_of(request, place, scope);
    // All that says how old the value is comes before it is computed.
    Age age{pg::fill_clock(), pg::pending().mark()};
    if (pg::pending().has_invalidations()) age.through = pg::settled_newest();
    const bool untouched = has_done_nothing();
    const std::uint64_t begin = nanoseconds();
    pg::Observation seen;
    const Datum value = compute_observed(source, seen, tracked);

    const std::uint64_t micros = (nanoseconds() - begin) / 1000;
    core::Counters& counters = pg::session().counters;
    counters.add(core::Counter::kComputations);
    counters.add(core::Counter::kComputeMicros, micros);
    if (value == 0 || !has_scope || !may_keep(seen, tracked, scope)) {
        log_not_kept(source.log_name, request.key, seen, tracked);
        return value;
    }

    request.value = reinterpret_cast<const varlena*>(DatumGetPointer(value));
    request.compute_us = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(micros, 1, UINT32_MAX));
    request.handed_out = true;
    if (tracked) {
        request.relations = seen.relations;
        request.relation_count = seen.count;
        request.inherited_tags = {seen.tags, seen.tag_count};
        request.ends_by = seen.expires_at;
    }
    const bool kept =
        untouched && has_done_nothing() ? publish_now(request, scope, age) : set_pending(request, scope, age);
    log_operation(source.log_name, request.key, kept ? "computed" : "computed, not kept");
    return value;
}

}  // namespace

Datum read_or_fill(const SetRequest& request, const Place& place, const Source& source, bool tracked) {
    if (!usable()) return source.compute(source.context);
    Datum value = 0;
    Visible found;
    if (read(request.key, 0, value, found, place.scope)) {
        log_operation(source.log_name, request.key, "hit");
        return value;
    }
    pg::session().counters.add(core::Counter::kMisses);
    return fill(request, place, source, tracked);
}

}  // namespace cache_ext::api
