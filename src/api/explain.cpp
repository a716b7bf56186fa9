// explain_invalidation: why an entry went.
//
// What is invalid but still in its place tells by itself which of its tags is newer than it is; of what has been removed a note is left. Both are
// best effort: what there was no room to remember is not told, and a transaction that was rolled back after it had told what it would invalidate has
// invalidated it all the same.

#include "api/args.hpp"
#include "api/listing.hpp"
#include "core/glob.hpp"
#include "pg/entry_tags.hpp"
#include "pg/guard.hpp"
#include "pg/observe.hpp"
#include "pg/transaction.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
}

namespace cache_ext::api {

namespace {

/// The columns, in their order.
enum Column { kCacheKey, kScope, kReason, kName, kRelation, kAt, kTransaction, kStatus, kColumns };

/// What is known of one key: in each scope the last departure. Palloc'd; added to under locks.
struct Known {
    static constexpr int kMaxScopes = 64;
    core::Departure departures[kMaxScopes];
    int count;
    core::Id128 own;
    core::Id128 shared;
    bool sees_all;

    void add(const core::Departure& d) noexcept {
        if (d.reason == core::Gone::kNot || !(sees_all || d.scope == own || d.scope == shared)) return;
        for (int i = 0; i < count; ++i) {
            if (departures[i].scope != d.scope) continue;
            if (d.sequence > departures[i].sequence) departures[i] = d;
            return;
        }
        if (count < kMaxScopes) departures[count++] = d;
    }
};

// --- what this transaction has done -------------------------------------------------------------------

bool names_entry(const pg::Invalidation& i, const core::Scope& scope, std::string_view key,
                 std::span<const std::string_view> tags) {
    switch (i.kind) {
        case pg::InvalidationKind::kTag:
        case pg::InvalidationKind::kExpireTag:
            return std::find(tags.begin(), tags.end(), i.text) != tags.end();
        case pg::InvalidationKind::kKey:
            return i.scope.id == scope.id && i.text == key;
        case pg::InvalidationKind::kKeyEverywhere:
            return i.text == key;
        case pg::InvalidationKind::kPattern:
            return i.scope.id == scope.id && core::glob_match(i.text, key);
        case pg::InvalidationKind::kPatternEverywhere:
            return core::glob_match(i.text, key);
        case pg::InvalidationKind::kSpace:
            return true;
        case pg::InvalidationKind::kExpire:
        case pg::InvalidationKind::kElsewhere:
            return false;
    }
    return false;
}

core::Gone reason_of(pg::InvalidationKind kind) noexcept {
    switch (kind) {
        case pg::InvalidationKind::kTag:
        case pg::InvalidationKind::kExpireTag:
            return core::Gone::kTag;
        case pg::InvalidationKind::kPattern:
        case pg::InvalidationKind::kPatternEverywhere:
            return core::Gone::kPattern;
        case pg::InvalidationKind::kSpace:
            return core::Gone::kEverything;
        default:
            return core::Gone::kKey;
    }
}

/// What the transaction has invalidated and not yet committed is gone for itself.
void add_own(Known& known, const core::Scope& scope, std::string_view key) {
    const bool has_writes = pg::has_own_writes();
    if (!pg::pending().has_invalidations() && !has_writes) return;
    pg::EntryTags depends;
    if (!depends.copy(scope, key)) return;
    core::Departure d;
    d.scope = scope.id;
    d.is_private = scope.is_private;
    d.origin.xid = U64FromFullTransactionId(GetTopFullTransactionIdIfAny());
    for (const pg::Invalidation& i : pg::pending().invalidations()) {
        if (!names_entry(i, scope, key, depends.tags())) continue;
        d.reason = reason_of(i.kind);
        if (d.reason == core::Gone::kTag || d.reason == core::Gone::kPattern) d.set_name(i.text);
    }
    if (pg::pending().everything()) d.reason = core::Gone::kEverything;
    const auto relations = depends.relations();
    const auto* written =
        has_writes && d.reason == core::Gone::kNot
            ? std::find_if(relations.data(), relations.data() + relations.size(), pg::wrote_relation)
            : relations.data() + relations.size();
    if (written != relations.data() + relations.size()) {
        d.reason = core::Gone::kTag;
        d.is_relation = true;
        d.set_name(pg::RelationTag(*written).name().text);
    }
    known.add(d);
}

// --- what others have done ----------------------------------------------------------------------------

/// What is still in its place.
void add_in_place(Known& known, const core::Scope& own, const core::Scope& shared, std::string_view key) {
    core::Store& store = pg::region().store();
    const core::Base base = pg::region().base();
    const core::Timestamp now = GetCurrentTimestamp();
    const auto add = [&](const core::EntryInfo& e) { known.add(store.departure_of(base, e, now)); };
    const auto add_of = [&](const core::Scope& scope) {
        store.visit_one(base, {scope.id, key, store.key_hash(scope.id, key)}, add);
    };
    add_of(own);
    if (own.id != shared.id) add_of(shared);
    if (!known.sees_all || store.usage().private_entries == 0) return;
    const std::uint32_t buckets = store.bucket_count();
    for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
        CHECK_FOR_INTERRUPTS();
        store.visit(base, bucket, buckets, [&](const core::EntryInfo& e) {
            if (e.is_private && e.space == own.space && e.key == key) add(e);
        });
    }
}

/// The prepared transaction that holds a tag in quarantine; 0: not known.
core::FullXid holder_of(std::uint64_t tag_hash) noexcept {
    const core::Region& region = pg::region();
    const std::uint32_t cell = region.store().tags().cell_number(tag_hash);
    for (std::uint32_t i = 0; i < region.header().prepared_count; ++i) {
        const core::Prepared& p = region.prepared(i);
        const core::FullXid xid = p.mark.xid.load(std::memory_order_acquire);
        if (xid == 0 || xid == UINT64_MAX) continue;
        const std::uint32_t count = std::min<std::uint32_t>(p.count, core::Prepared::kCells);
        if (std::find(p.cells, p.cells + count, cell) != p.cells + count) return xid;
    }
    return 0;
}

// --- the answer ---------------------------------------------------------------------------------------

const char* word_of(const core::Departure& d, Oid relation) noexcept {
    switch (d.reason) {
        case core::Gone::kNot:
            break;
        case core::Gone::kTag:
            return !d.is_relation ? "tag" : OidIsValid(relation) ? "relation" : "definition";
        case core::Gone::kKey:
            return "key";
        case core::Gone::kPattern:
            return "pattern";
        case core::Gone::kEverything:
            return "everything";
        case core::Gone::kExpired:
            return "expired";
        case core::Gone::kEvicted:
            return "evicted";
    }
    return "unknown";
}

/// A text of which only the beginning may be there.
Datum clipped(const core::Departure& d) {
    if (!d.is_cut) return PointerGetDatum(cstring_to_text_with_len(d.text, static_cast<int>(d.text_bytes)));
    const int whole = pg_mbcliplen(d.text, d.text_bytes, d.text_bytes);
    return CStringGetTextDatum(psprintf("%.*s...", whole, d.text));
}

/// The status of a transaction, as pg_xact_status() says it; false: it is not known any more.
bool status_of(core::FullXid xid, Datum& status) {
    if (xid == 0 || xid >= U64FromFullTransactionId(ReadNextFullTransactionId())) return false;
    LOCAL_FCINFO(call, 1);
    InitFunctionCallInfoData(*call, nullptr, 1, InvalidOid, nullptr, nullptr);
    call->args[0].value = FullTransactionIdGetDatum(FullTransactionIdFromU64(xid));
    call->args[0].isnull = false;
    status = pg_xact_status(call);
    return !call->isnull;
}

void put_row(ReturnSetInfo* result, std::string_view key, const core::Scope& own, core::Departure& d) {
    if (d.in_quarantine) d.origin.xid = holder_of(d.tag_hash);
    const Oid relation = d.is_relation ? pg::RelationTag::relation_of(d.name()) : InvalidOid;
    Datum values[kColumns] = {};
    bool nulls[kColumns] = {};
    values[kCacheKey] = PointerGetDatum(cstring_to_text_with_len(key.data(), static_cast<int>(key.size())));
    values[kScope] = scope_text({d.scope, own.space, {}, d.is_private});
    values[kReason] = CStringGetTextDatum(word_of(d, relation));
    nulls[kRelation] = !OidIsValid(relation);
    values[kRelation] = ObjectIdGetDatum(relation);
    if (OidIsValid(relation)) {
        values[kName] =
            CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(regclassout, values[kRelation])));
    } else if (d.text_bytes > 0 && !d.is_relation) {
        values[kName] = clipped(d);
    } else {
        nulls[kName] = true;
    }
    values[kAt] = TimestampTzGetDatum(d.origin.at);
    nulls[kAt] = d.origin.at == 0;
    values[kTransaction] = FullTransactionIdGetDatum(FullTransactionIdFromU64(d.origin.xid));
    nulls[kTransaction] = d.origin.xid == 0;
    nulls[kStatus] = !status_of(d.origin.xid, values[kStatus]);
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

}  // namespace

CACHE_EXT_FUNCTION(explain_invalidation) {
    const std::string_view key = key_argument(fcinfo, 0);
    InitMaterializedSRF(fcinfo, 0);
    pg::note_cached_read();
    if (!reachable()) PG_RETURN_NULL();
    const pg::Caller caller = pg::caller();
    const core::Scope own = own_scope(caller);
    const core::Scope shared = shared_scope(caller);

    auto* known = static_cast<Known*>(palloc(sizeof(Known)));
    known->count = 0;
    known->own = own.id;
    known->shared = shared.id;
    known->sees_all = caller.is_shared;
    add_in_place(*known, own, shared, key);
    add_own(*known, own, key);
    if (own.id != shared.id) add_own(*known, shared, key);
    pg::region().store().visit_departures(pg::region().base(), own.space, key,
                                          [&](const core::Departure& d) { known->add(d); });

    // The caller's own first.
    auto* result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    for (const bool wanted : {true, false}) {
        for (int i = 0; i < known->count; ++i) {
            if ((known->departures[i].scope == own.id) == wanted)
                put_row(result, key, own, known->departures[i]);
        }
    }
    PG_RETURN_NULL();
}

}  // namespace cache_ext::api
