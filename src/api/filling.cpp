#include "api/filling.hpp"

#include "api/context.hpp"
#include "api/reading.hpp"
#include "pg/flight.hpp"
#include "pg/guard.hpp"
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

/// One call: what is asked for, and what was found out about it.
struct Call {
    const SetRequest& request;
    const Place& place;
    const Source& source;
    bool tracked;
    core::Scope scope{};
    bool may_fill = false;
    bool untouched = false;  ///< see has_done_nothing()

    /// Finds out what only a miss needs.
    void prepare() {
        may_fill = scope_of(request, place, scope);
        untouched = has_done_nothing();
    }
    /// The flight that the computation is.
    std::uint64_t flight_key() const noexcept { return pg::region().store().key_hash(scope.id, request.key); }
    bool read(Datum& value, Visible& found) const {
        return api::read(request.key, 0, value, found, place.scope);
    }
    void log(const char* outcome) const { log_operation(source.log_name, request.key, outcome); }
};

/// Computes the value and stores it if it can be; otherwise it is just returned. `stored`: others can read it now.
Datum fill(const Call& call, bool& stored) {
    stored = false;
    // All that says how old the value is comes before it is computed.
    Age age{pg::fill_clock(), pg::pending().mark()};
    if (pg::pending().has_invalidations()) age.through = pg::settled_newest();
    const std::uint64_t begin = nanoseconds();
    pg::Observation seen;
    const Datum value = compute_observed(call.source, seen, call.tracked);

    const std::uint64_t micros = (nanoseconds() - begin) / 1000;
    core::Counters& counters = pg::session().counters;
    counters.add(core::Counter::kComputations);
    counters.add(core::Counter::kComputeMicros, micros);
    if (value == 0 || !call.may_fill || !may_keep(seen, call.tracked, call.scope)) {
        log_not_kept(call.source.log_name, call.request.key, seen, call.tracked);
        return value;
    }

    SetRequest request = call.request;
    request.value = reinterpret_cast<const varlena*>(DatumGetPointer(value));
    request.compute_us = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(micros, 1, UINT32_MAX));
    request.handed_out = true;
    if (call.tracked) {
        request.relations = seen.relations;
        request.relation_count = seen.count;
        request.inherited_tags = {seen.tags, seen.tag_count};
        request.ends_by = seen.expires_at;
    }
    bool kept = false;
    if (call.untouched && has_done_nothing()) {
        kept = stored = publish_now(request, call.scope, age);
    } else {
        kept = set_pending(request, call.scope, age);
    }
    call.log(kept ? "computed" : "computed, not kept");
    return value;
}

Datum fill_alone(const Call& call) {
    bool stored = false;
    pg::session().counters.add(core::Counter::kMisses);
    return fill(call, stored);
}

/// What a leader does.
Datum fill_for_all(const Call& call, core::Landing& how) {
    // Between the miss and the lead another one may have landed.
    Datum value = 0;
    if (Visible found; call.read(value, found)) {
        how = core::Landing::kStored;
        call.log("hit");
        return value;
    }
    bool stored = false;
    pg::session().counters.add(core::Counter::kMisses);
    value = fill(call, stored);
    how = stored ? core::Landing::kStored : core::Landing::kNotStored;
    return value;
}

/// The same beneath PG_TRY, through which no exception may pass. Not inlined there: what it holds need not survive a jump.
[[gnu::noinline]] Datum fill_for_all_guarded(const Call& call, core::Landing& how) {
    return pg::guarded([&] { return fill_for_all(call, how); });
}

/// The same, and lands whatever comes.
Datum lead(const Call& call, std::uint32_t flight) {
    core::Landing how = core::Landing::kFailed;
    Datum value = 0;
    PG_TRY();
    { value = fill_for_all_guarded(call, how); }
    PG_CATCH();
    {
        pg::land(flight, core::Landing::kFailed);
        PG_RE_THROW();
    }
    PG_END_TRY();
    pg::land(flight, how);
    return value;
}

/// The value of a missing key: computed here, or by another session meanwhile.
Datum fill_once(const Call& call) {
    // What this transaction has written may be in what it computes, and it holds locks that a leader may need.
    if (!call.untouched) return fill_alone(call);
    std::uint32_t flight = 0;
    switch (pg::join_flight(call.flight_key(), call.may_fill, flight)) {
        case pg::Arrival::kLeads:
            return lead(call, flight);
        case pg::Arrival::kStored: {
            Datum value = 0;
            Visible found;
            // It may reflect what this snapshot does not see, or be gone again.
            if (!call.read(value, found)) break;
            call.log("shared");
            return value;
        }
        case pg::Arrival::kAlone:
            break;
    }
    return fill_alone(call);
}

}  // namespace

Datum read_or_fill(const SetRequest& request, const Place& place, const Source& source, bool tracked) {
    if (!usable()) return source.compute(source.context);
    Call call{request, place, source, tracked};
    Datum value = 0;
    Visible found;
    if (call.read(value, found)) {
        call.log("hit");
        return value;
    }
    call.prepare();
    return fill_once(call);
}

}  // namespace cache_ext::api
