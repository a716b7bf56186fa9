#include "api/filling.hpp"

#include "api/context.hpp"
#include "api/reading.hpp"
#include "core/refresh.hpp"
#include "pg/flight.hpp"
#include "pg/guard.hpp"
#include "pg/observe.hpp"
#include "pg/settings.hpp"
#include "pg/snapshot.hpp"
#include "pg/subtransaction.hpp"
#include "pg/testing.hpp"
#include "pg/trackability.hpp"
#include "pg/transaction.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
#include "common/pg_prng.h"
#include "storage/proc.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// Whether nothing that this transaction did can be in what it reads: neither rows nor entries of its own.
bool has_done_nothing() { return !TransactionIdIsValid(GetTopTransactionIdIfAny()) && pg::pending().empty(); }

/// Computes, and notes what was read.
Datum compute_observed(const Source& source, pg::Observation& seen, bool wants_relations) {
    pg::start_observing(seen, wants_relations);
    seen.told = source.told;
    Datum value = 0;
    PG_TRY();
    { value = source.compute(source.context); }
    PG_FINALLY();
    { pg::stop_observing(seen); }
    PG_END_TRY();
    return value;
}

/// Leaves of the relations that were read those that row-security policies have read, or may have.
void keep_policies_relations(pg::Observation& seen) {
    Oid all[core::kMaxTags];
    const int count = seen.count;
    std::copy_n(seen.relations, count, all);
    bool kept[core::kMaxTags];
    std::copy_n(seen.inherited, count, kept);
    for (int i = 0; i < count; ++i) {
        if (!pg::has_row_security(all[i])) continue;
        // Looking into them takes a subtransaction.
        if (IsInParallelMode()) return;
        pg::Trackability policies;
        pg::look_at_policies(all[i], policies);
        // Where a function's body is not looked into, it may have read any of them.
        if (!policies.complete || policies.has(pg::Obstacle::kNotLookedInto) ||
            policies.has(pg::Obstacle::kNotAnalyzed))
            return;
        for (int r = 0; r < policies.relation_count; ++r) {
            const auto at =
                static_cast<std::size_t>(std::find(all, all + count, policies.relations[r]) - all);
            if (at < static_cast<std::size_t>(count)) kept[at] = true;
        }
    }
    seen.count = 0;
    for (int i = 0; i < count; ++i) {
        if (kept[i]) seen.relations[seen.count++] = all[i];
    }
}

/// Whether a result may be kept in the scope, as far as what it was computed from goes.
bool may_keep(pg::Observation& seen, Tracking tracking, const core::Scope& scope) {
    if (seen.never_kept) return false;
    // What one caller may have put there must not become what all are given, whatever tags say of it.
    if (seen.private_entry && !scope.is_private) return false;
    if (tracking == Tracking::kNone) return true;
    // What is written elsewhere is not told by the relation.
    if (RecoveryInProgress()) return false;
    // With tags, what cannot be tracked is theirs to tell; but there must be room to have seen all of it.
    if (tracking == Tracking::kAll ? seen.untrackable : seen.too_much) return false;
    if (tracking == Tracking::kRowSecurity) keep_policies_relations(seen);
    if (tracking == Tracking::kAll) pg::forget_told(seen);
    return pg::watch_relations(seen.relations, seen.count);
}

void log_not_kept(const char* name, std::string_view key, const pg::Observation& seen, Tracking tracking) {
    if (!pg::settings::log_operations) return;
    const bool known =
        seen.obstacle.obstacle != pg::Obstacle::kNone && (tracking == Tracking::kAll || seen.never_kept);
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
    Tracking tracking;
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
    /// Whether an entry that is there may be computed again already: not just after that has failed.
    bool may_try() const noexcept { return source.is_warmed || !pg::rests(flight_key()); }
    bool peek(Datum& value, Visible& found, Freshness wanted = Freshness::kFresh) const {
        return api::peek(request.key, request.max_age, value, found, place.scope, wanted);
    }
    /// Serves what `peek` found.
    Datum serve(Datum value, const Visible& found, const char* outcome) const {
        count_hit(found);
        // Nothing that lasts may be made of what is over.
        if (found.stale) pg::note_cached_read();
        log(outcome);
        return value;
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
    const Datum value = compute_observed(call.source, seen, call.tracking != Tracking::kNone);

    const std::uint64_t micros = (nanoseconds() - begin) / 1000;
    core::Counters& counters = pg::session().counters;
    counters.add(core::Counter::kComputations);
    counters.add(core::Counter::kComputeMicros, micros);
    if (value == 0 || !call.may_fill || !may_keep(seen, call.tracking, call.scope)) {
        log_not_kept(call.source.log_name, call.request.key, seen, call.tracking);
        if (call.source.obstacle != nullptr) *call.source.obstacle = seen.obstacle;
        return value;
    }

    SetRequest request = call.request;
    request.value = reinterpret_cast<const varlena*>(DatumGetPointer(value));
    request.compute_us = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(micros, 1, UINT32_MAX));
    request.handed_out = true;
    if (call.tracking != Tracking::kNone) {
        request.relations = seen.relations;
        request.relation_count = seen.count;
    }
    if (call.tracking == Tracking::kAll) {
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

/// What a leader does. `replaced` is what it refreshes, if anything.
Datum fill_for_all(const Call& call, const Visible& replaced, core::Landing& how) {
    // Before it led another one may have landed.
    Datum value = 0;
    Visible found;
    if (call.peek(value, found) &&
        !(replaced.where == Visible::Where::kRegion && found.entry.created_at == replaced.entry.created_at)) {
        how = core::Landing::kStored;
        return call.serve(value, found, "hit");
    }
    bool stored = false;
    pg::session().counters.add(core::Counter::kMisses);
    value = fill(call, stored);
    how = stored ? core::Landing::kStored : core::Landing::kNotStored;
    return value;
}

/// The same beneath PG_TRY, through which no exception may pass. Not inlined there: what it holds need not survive a jump.
[[gnu::noinline]] Datum fill_for_all_guarded(const Call& call, const Visible& replaced, core::Landing& how) {
    return pg::guarded([&] { return fill_for_all(call, replaced, how); });
}

/// The same, and lands whatever comes.
Datum lead(const Call& call, const Visible& replaced, std::uint32_t flight) {
    core::Landing how = core::Landing::kFailed;
    Datum value = 0;
    PG_TRY();
    { value = fill_for_all_guarded(call, replaced, how); }
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
            return lead(call, {}, flight);
        case pg::Arrival::kStored: {
            Datum value = 0;
            Visible found;
            // It may reflect what this snapshot does not see, or be gone again.
            if (!call.peek(value, found) && !call.peek(value, found, Freshness::kStaleToo)) break;
            return call.serve(value, found, "shared");
        }
        case pg::Arrival::kAlone:
            break;
    }
    return fill_alone(call);
}

/// Whether an entry that is there may be computed again here. It need not be, so it is not where that could end the statement: by its time-out, or by an
/// error where none can be caught.
bool may_refresh(const Visible& found) noexcept {
    constexpr std::int64_t kMargin = 2;
    return !IsInParallelMode() && (StatementTimeout <= 0 ||
                                   kMargin * found.entry.compute_us < std::int64_t{StatementTimeout} * 1000);
}

void warn_not_refreshed(const ErrorData& error) {
    ereport(WARNING,
            (errcode(error.sqlerrcode), errmsg("could not refresh a cached value: %s", error.message),
             error.detail != nullptr ? errdetail_internal("%s", error.detail) : 0,
             errhint("The value that is there is served until it, or its grace, is over."),
             error.context != nullptr ? errcontext("%s", error.context) : 0));
}

/// Computes an entry again in whose place there is a value to serve, `value`: that is served where it cannot be computed, which is none of the caller's
/// business then, but on a standby. `flight`: the one that this session leads for it, which is landed whatever comes; null: it computes for itself.
Datum refresh(const Call& call, Datum value, const Visible& found, const char* otherwise,
              const std::uint32_t* flight) {
    if (call.source.is_warmed) return flight != nullptr ? lead(call, found, *flight) : fill_alone(call);
    Datum computed = 0;
    core::Landing how = core::Landing::kFailed;
    const ErrorData* error = nullptr;
    const core::Timestamp begin = GetCurrentTimestamp();
    const auto compute = [&] {
        computed = pg::guarded(
            [&] { return flight != nullptr ? fill_for_all(call, found, how) : fill_alone(call); });
    };
    PG_TRY();
    {
        // In a subtransaction a conflict with what is replayed would end the session, not the statement.
        if (RecoveryInProgress()) {
            compute();
        } else {
            error = pg::attempt(compute);
        }
    }
    PG_CATCH();
    {
        if (geterrcode() != ERRCODE_QUERY_CANCELED && geterrcode() != ERRCODE_ADMIN_SHUTDOWN)
            pg::note_failed_refresh(call.flight_key(), begin);
        if (flight != nullptr) pg::land(*flight, core::Landing::kFailed);
        PG_RE_THROW();
    }
    PG_END_TRY();
    if (error != nullptr) pg::note_failed_refresh(call.flight_key(), begin);
    if (flight != nullptr) pg::land(*flight, error == nullptr ? how : core::Landing::kFailed);
    if (error == nullptr) return computed;
    if (call.source.forget != nullptr) call.source.forget(call.source.context);
    warn_not_refreshed(*error);
    return call.serve(value, found, otherwise);
}

/// Whether a hit is so near its end that this reader refreshes it.
bool is_due(const Visible& found) {
    if (found.where != Visible::Where::kRegion || found.entry.compute_us == 0) return false;
    if (pg::testing::refreshes_early()) return may_refresh(found);
    const core::Timestamp remaining = found.entry.expires_at - coarse_now();
    if (!core::may_refresh_early(remaining, found.entry.compute_us)) [[likely]]
        return false;
    return may_refresh(found) &&
           core::refreshes_early(remaining, found.entry.compute_us, pg_prng_double(&pg_global_prng_state));
}

/// The value of an entry that is near its end: computed again, or as it is where that cannot be done here, or is being done elsewhere.
Datum refresh_early(Call& call, Datum value, const Visible& found) {
    call.prepare();
    std::uint32_t flight = 0;
    if (call.untouched && call.may_fill && call.may_try() &&
        pg::lead_flight(call.flight_key(), true, flight) == core::Boarding::kLeads)
        return refresh(call, value, found, "hit", &flight);
    return call.serve(value, found, "hit");
}

/// The value of an entry that is past its end, but within its grace: computed again by one session, and meanwhile as it is for the others.
Datum refresh_stale(const Call& call, Datum value, const Visible& found) {
    if (!found.stale) return call.serve(value, found, "hit");  // somebody has just refreshed it
    std::uint32_t flight = 0;
    const bool may_compute = call.may_fill && may_refresh(found) && call.may_try();
    const bool may_lead = call.untouched && may_compute;
    switch (pg::lead_flight(call.flight_key(), may_lead, flight)) {
        case core::Boarding::kLeads:
            return refresh(call, value, found, "stale hit", &flight);
        case core::Boarding::kAlone:
            // Who writes refreshes it too, if only for its own transaction until that commits.
            if (may_compute && !call.untouched) return refresh(call, value, found, "stale hit", nullptr);
            break;
        default:
            break;
    }
    return call.serve(value, found, "stale hit");
}

}  // namespace

Datum read_or_fill(const SetRequest& request, const Place& place, const Source& source, Tracking tracking) {
    if (!usable()) return source.compute(source.context);
    Call call{request, place, source, tracking};
    Datum value = 0;
    Visible found;
    if (call.peek(value, found)) {
        if (is_due(found)) [[unlikely]]
            return refresh_early(call, value, found);
        return call.serve(value, found, "hit");
    }
    call.prepare();
    if (call.peek(value, found, Freshness::kStaleToo)) return refresh_stale(call, value, found);
    return fill_once(call);
}

}  // namespace cache_ext::api
