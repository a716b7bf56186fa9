// get_cached_data, get_cached_many, get_cached_entry, set_cached_data, add_cached_data, cache_exists, update_cache_hit_count.

#include "api/args.hpp"
#include "api/context.hpp"
#include "api/details.hpp"
#include "api/reading.hpp"
#include "api/storing.hpp"
#include "api/value.hpp"
#include "pg/guard.hpp"
#include "pg/observe.hpp"
#include "pg/settings.hpp"
#include "pg/snapshot.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "access/xact.h"
#include "access/detoast.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// One hit in so many has its duration measured.
constexpr std::uint64_t kTimedHits = 1024;

bool set_data(FunctionCallInfo fcinfo, bool only_if_absent) {
    SetRequest request;
    request.key = key_argument(fcinfo, 0);
    require_argument(fcinfo, 1, "cache data");
    request.duration = duration_argument(fcinfo, 2);
    request.tags = tags_argument(fcinfo, 3, static_cast<int>(core::kMaxTags));
    request.only_if_absent = only_if_absent;
    const bool has_token = !PG_ARGISNULL(4);

    core::Scope scope;
    if (!usable() || !scope_for_set(request.key, scope)) return false;
    // A value that is far too large is not even detoasted.
    if (toast_raw_datum_size(PG_GETARG_DATUM(1)) >
        std::size_t{static_cast<unsigned>(pg::settings::max_entry_size_kb)} * 1024 + VARHDRSZ) {
        pg::session().counters.add(core::Counter::kRefusedSets);
        return false;
    }
    request.value = reinterpret_cast<const varlena*>(PG_GETARG_JSONB_P(1));

    Age age;
    bool good = age_by_lease(scope, request.key, age);
    if (has_token) {
        text* token = PG_GETARG_TEXT_PP(4);
        const std::string_view view{VARDATA_ANY(token), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(token))};
        core::Version birth = 0;
        const pg::TokenState state =
            pg::read_lease_token(view, pg::region().header().instance, lease_hash(scope, request.key), birth);
        if (state == pg::TokenState::kMalformed) {
            pg::raise(ERRCODE_INVALID_PARAMETER_VALUE, "lease is not valid", nullptr,
                      "Pass what get_cached_entry returned as lease, or null.");
        }
        good = state == pg::TokenState::kGood;
        age.birth = std::min(pg::fill_clock(), birth);
        age.sequence = age.through = 0;  // of another transaction: whatever this one invalidated came later
    }
    if (good && only_if_absent) good = look_up(request.key).where == Visible::Where::kNowhere;
    good = good && set_pending(request, scope, age);
    if (!good) pg::session().counters.add(core::Counter::kRefusedSets);
    log_operation(only_if_absent ? "add" : "set", request.key, good ? "accepted" : "refused");
    return good;
}

}  // namespace

CACHE_EXT_FUNCTION(get_cached_data) {
    const std::string_view key = key_argument(fcinfo, 0);
    const std::int64_t max_age = duration_argument(fcinfo, 1);
    Datum value = 0;
    Visible found;
    const bool timed = pg::attached() && pg::session().counters.get(core::Counter::kHits) % kTimedHits == 0;
    const std::uint64_t begin = timed ? nanoseconds() : 0;
    if (!read_or_miss(key, max_age, value, found)) PG_RETURN_NULL();
    if (timed) {
        pg::session().counters.add(core::Counter::kTimedHits);
        pg::session().counters.add(core::Counter::kHitNanos, nanoseconds() - begin);
    }
    return value;
}

CACHE_EXT_FUNCTION(get_cached_many) {
    const Texts keys = texts_argument(fcinfo, 0, "cache keys");
    for (const std::string_view key : keys) {
        if (key.empty()) pg::raise(ERRCODE_INVALID_PARAMETER_VALUE, "cache key must not be empty");
        if (key.size() > core::kMaxKeyBytes) {
            ereport(ERROR,
                    (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cache key is too long"),
                     errdetail("It has %zu bytes; the limit is %zu.", key.size(), core::kMaxKeyBytes)));
        }
    }
    InitMaterializedSRF(fcinfo, 0);
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    constexpr int kAhead = 16;  // entries whose first lines the nearest cache holds easily
    for (int i = 0; i < keys.count; ++i) {
        if (i % kAhead == 0 && usable()) prefetch(keys.begin() + i, std::min(kAhead, keys.count - i));
        const std::string_view key = keys.begin()[i];
        Datum value = 0;
        Visible found;
        const bool hit = read_or_miss(key, 0, value, found);
        Datum values[] = {PointerGetDatum(cstring_to_text_with_len(key.data(), static_cast<int>(key.size()))),
                          value, BoolGetDatum(hit)};
        bool nulls[] = {false, !hit, false};
        tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    PG_RETURN_NULL();
}

CACHE_EXT_FUNCTION(get_cached_entry) {
    const std::string_view key = key_argument(fcinfo, 0);
    TupleDesc description = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &description) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    description = BlessTupleDesc(description);
    enum Column { kData, kTags, kCreatedAt, kExpiresAt, kHitCount, kIsStale, kLease, kColumns };
    Datum values[kColumns] = {};
    bool nulls[kColumns];
    std::fill_n(nulls, int{kColumns}, true);

    Visible found;
    const bool hit = read_or_miss(key, 0, values[kData], found, Freshness::kStaleToo);
    if (hit) {
        // An entry that has been replaced since it was read has no tags to show and no hits.
        const pg::Caller& caller = pg::caller();
        pg::region().store().gather_hits(pg::region().base(), GetCurrentStatementStartTimestamp());
        Details details;
        describe(found, found.own_scope ? id_of(caller.scope) : id_of(caller.shared_scope), key, details);
        const bool pending = found.where == Visible::Where::kPending;
        values[kTags] = texts_to_array(details.tags, details.tag_count);
        values[kCreatedAt] =
            TimestampTzGetDatum(pending ? found.pending->created_at : found.entry.created_at);
        values[kExpiresAt] =
            TimestampTzGetDatum(pending ? found.pending->expires_at : found.entry.expires_at);
        values[kHitCount] = Int64GetDatum(details.hits);
        values[kIsStale] = BoolGetDatum(found.stale);
        std::fill_n(nulls, int{kLease}, false);
    }
    // Who gets what is stale may refresh it.
    if (core::Scope scope; (!hit || found.stale) && reachable() && scope_for_set(key, scope)) {
        // Nothing is stored for a lease of version 0. It says that the value may hold uncommitted rows, or that nothing is known of its age; no
        // lease at all would say that it is current.
        const core::Version birth = pg::has_written() ? 0 : pg::fill_clock();
        const std::string token =
            pg::lease_token(pg::region().header().instance, lease_hash(scope, key), birth);
        values[kLease] = pg::pg_call([&token] { return CStringGetTextDatum(token.c_str()); });
        nulls[kLease] = false;
    }
    return HeapTupleGetDatum(heap_form_tuple(description, values, nulls));
}

CACHE_EXT_FUNCTION(set_cached_data) { PG_RETURN_BOOL(set_data(fcinfo, false)); }

CACHE_EXT_FUNCTION(add_cached_data) { PG_RETURN_BOOL(set_data(fcinfo, true)); }

CACHE_EXT_FUNCTION(cache_exists) {
    const std::string_view key = key_argument(fcinfo, 0);
    const bool exists = usable() && look_up(key).where != Visible::Where::kNowhere;
    if (!exists) pg::note_cached_read();
    PG_RETURN_BOOL(exists);
}

CACHE_EXT_FUNCTION(update_cache_hit_count) {
    const std::string_view key = key_argument(fcinfo, 0);
    if (!usable()) PG_RETURN_VOID();
    const Visible found = look_up(key);
    if (found.where == Visible::Where::kRegion)
        pg::region().store().touch(pg::region().base(), found.entry, GetCurrentTimestamp());
    PG_RETURN_VOID();
}

}  // namespace cache_ext::api
