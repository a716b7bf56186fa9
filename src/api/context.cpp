#include "api/context.hpp"

#include "api/policies.hpp"
#include "core/coarse_time.hpp"
#include "core/hash.hpp"
#include "pg/entry_tags.hpp"
#include "pg/observe.hpp"
#include "pg/replication.hpp"
#include "pg/settings.hpp"
#include "pg/snapshot.hpp"
#include "pg/space.hpp"
#include "pg/transaction.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// By how much the coarse clock may lag: a tick of the slowest kernels, and then some.
constexpr core::Timestamp kCoarseLag = 20'000;

/// Whether the transaction itself has invalidated the entry that was found, or written what it depends on. Slow, and only asked while it has
/// something pending or has written.
bool invalidated_here(const core::Scope& scope, std::string_view key) {
    const pg::Pending& pending = pg::pending();
    const bool has_writes = pg::has_own_writes();
    if (!pending.has_invalidations() && !has_writes) return false;
    pg::EntryTags depends;
    depends.copy(scope, key);
    const auto relations = depends.relations();
    if (has_writes && std::any_of(relations.begin(), relations.end(), pg::wrote_relation)) return true;
    return pending.invalidated_at(scope, key, depends.tags()) != 0;
}

/// Whether the reader may have what its own transaction has set: not invalidated since by itself or by anyone that it sees, not set
/// after the reader's snapshot, and not over.
bool may_read(const pg::PendingSet& set, core::Version clock) {
    if (pg::pending().invalidated_at(set.scope, set.key, set.tags) > set.sequence) return false;
    if (!set.relations.empty() && pg::has_own_writes() &&
        std::any_of(set.relations.begin(), set.relations.end(), pg::wrote_relation))
        return false;
    return set.command <= GetActiveSnapshot()->curcid && set.birth <= clock && !has_expired(set.expires_at) &&
           !is_late(set);
}

}  // namespace

core::Id128 space_id() { return id_of(pg::current_space().id); }

core::Scope shared_scope(const pg::Caller& caller) {
    return {id_of(caller.shared_scope), space_id(), {}, false};
}

core::Scope own_scope(const pg::Caller& caller) {
    if (caller.is_shared) return shared_scope(caller);
    return {id_of(caller.scope), space_id(), id_of(caller.quota_owner), true};
}

core::Scope function_scope(core::Scope beside) noexcept {
    constexpr std::uint64_t kFunctions = 0x66756e6374696f6eULL;
    beside.id.hi ^= core::mix(beside.id.lo, kFunctions);
    return beside;
}

bool reachable() { return pg::settings::enabled && pg::attached() && pg::is_told() && !pg::caller().bypass; }

bool usable() {
    // A worker of a parallel plan knows nothing of what its leader has pending or written.
    return !IsParallelWorker() &&
           (XactIsoLevel != XACT_SERIALIZABLE || pg::settings::serializable == pg::kSerializableAllow) &&
           reachable();
}

core::Timestamp coarse_now() noexcept { return core::coarse_now(); }

bool has_expired(core::Timestamp expires_at) noexcept { return GetCurrentTimestamp() >= expires_at; }

bool is_late(const pg::PendingSet& set) noexcept {
    core::Store& store = pg::region().store();
    const core::Base base = pg::region().base();
    if (store.space_floor(set.scope.space) > set.birth ||
        store.tags().cell(base, store.key_cell_hash(set.scope.space, set.key)) > set.birth) {
        return true;
    }
    for (const std::string_view tag : set.tags) {
        const core::TagName name{set.scope.space, tag, store.tags().hash(set.scope.space, tag)};
        if (store.tags().version(base, name) > set.birth || store.expired_at(base, name) > set.birth)
            return true;
    }
    for (const Oid relation : set.relations) {
        if (store.tags().version(base, pg::RelationTag(relation).name()) > set.birth) return true;
    }
    return !store.pattern_allows(set.birth, set.scope, set.key);
}

bool look_up_in(const core::Scope& scope, std::string_view key, core::Version clock, Visible& found,
                Freshness wanted) {
    const pg::Pending& pending = pg::pending();
    if (!pending.empty()) [[unlikely]] {
        const pg::PendingSet* set = pending.find_set(scope.id, key);
        if (set != nullptr && may_read(*set, clock)) {
            pg::note_own_entry(scope.is_private);
            found.where = Visible::Where::kPending;
            found.pending = set;
            return true;
        }
        // What the transaction has set in its place is over too, and never was anybody else's.
        if (set != nullptr && wanted == Freshness::kStaleToo) return false;
    }
    const core::Store& store = pg::region().store();
    const core::Key name{scope.id, key, store.key_hash(scope.id, key)};
    if (wanted == Freshness::kFresh) {
        const core::Timestamp now = coarse_now();
        if (store.find(pg::region().base(), name, clock, now, found.entry) != core::Found::kHit) return false;
        if (found.entry.expires_at - now <= kCoarseLag && has_expired(found.entry.expires_at)) return false;
    } else {
        const core::Found what =
            store.find(pg::region().base(), name, clock, GetCurrentTimestamp(), found.entry);
        if (what == core::Found::kStale) {
            if ((!pending.empty() || pg::has_own_writes()) && invalidated_here(scope, key)) return false;
            found.where = Visible::Where::kRegion;
            return found.stale = true;
        }
        if (what != core::Found::kHit) return false;
    }
    if ((!pending.empty() || pg::has_own_writes()) && invalidated_here(scope, key)) [[unlikely]]
        return false;
    pg::note_cached_entry(scope, key, found.entry);
    found.where = Visible::Where::kRegion;
    return true;
}

Visible look_up(std::string_view key, Freshness wanted) {
    Visible found;
    const core::Version clock = pg::snapshot_clock();
    if (clock == 0) return found;
    const pg::Caller& caller = pg::caller();
    if (!caller.is_shared) {
        found.own_scope = look_up_in(own_scope(caller), key, clock, found, wanted);
        if (found.own_scope) return found;
    }
    look_up_in(shared_scope(caller), key, clock, found, wanted);
    return found;
}

Visible look_up(std::string_view key, const core::Scope& scope, Freshness wanted) {
    Visible found;
    if (const core::Version clock = pg::snapshot_clock(); clock != 0)
        look_up_in(scope, key, clock, found, wanted);
    return found;
}

void prefetch(const std::string_view* keys, int count) {
    const core::Scope scope = own_scope(pg::caller());
    const core::Store& store = pg::region().store();
    const core::Base base = pg::region().base();
    const auto name = [&](int i) { return core::Key{scope.id, keys[i], store.key_hash(scope.id, keys[i])}; };
    for (int i = 0; i < count; ++i)
        store.prefetch_bucket(base, name(i));
    for (int i = 0; i < count; ++i)
        store.prefetch_entry(base, name(i));
}

void count_hit(const Visible& found) noexcept {
    core::SessionSlot& session = pg::session();
    session.counters.add(found.stale ? core::Counter::kStaleHits : core::Counter::kHits);
    if (found.where != Visible::Where::kRegion) return;
    if (found.entry.compute_us != 0)
        session.counters.add(core::Counter::kSavedMicros, found.entry.compute_us);
    pg::region().store().count_hit(pg::region().base(), session, found.entry,
                                   GetCurrentStatementStartTimestamp());
}

std::uint64_t lease_hash(const core::Scope& scope, std::string_view key) noexcept {
    return pg::region().store().key_hash(scope.id, key);
}

void leave_lease(std::string_view key) {
    core::Scope scope;
    // Also where the caller may not fill: a function of somebody who may can be what answers this miss.
    (void)scope_for_set(key, scope);
    pg::Lease lease{pg::fill_clock(), pg::pending().mark()};
    if (pg::pending().has_invalidations()) lease.through = pg::settled_newest();
    // The statement may have begun long ago.
    pg::leases().miss(lease_hash(scope, key), lease, pg::transaction_level(), GetCurrentTimestamp());
}

bool scope_for_set(std::string_view key, core::Scope& scope) {
    const pg::Caller& caller = pg::caller();
    const Policy* policy = find_policy(key);
    if (policy == nullptr || !policy->shared) {
        scope = own_scope(caller);
        return true;
    }
    scope = shared_scope(caller);
    return pg::effective_is_shared_writer();
}

}  // namespace cache_ext::api
