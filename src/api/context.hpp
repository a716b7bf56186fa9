#pragma once

// What a call that concerns entries needs to know of the moment it is made in: who calls, under which snapshot, when.

#include <string_view>

#include "core/store.hpp"
#include "pg/attach.hpp"
#include "pg/identity.hpp"
#include "pg/pending.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

inline core::Id128 id_of(const std::uint64_t (&words)[2]) noexcept { return {words[0], words[1]}; }

/// The current space's id.
core::Id128 space_id();

/// The shared scope, and the one of the caller, which is the same for a shared caller.
core::Scope shared_scope(const pg::Caller& caller);
core::Scope own_scope(const pg::Caller& caller);

/// The scope of cached functions' results beside that of a caller, or beside the shared one: no set reaches it.
core::Scope function_scope(core::Scope beside) noexcept;

/// What the keys of cached functions' results begin with.
inline constexpr std::string_view kFunctionKeys = "function:";

/// Whether calls may use the cache at all now: switched on, attached, not bypassed for this caller, isolation level or server. May raise, as pg::caller().
bool usable();

/// The same whatever the isolation level: where it bypasses the cache, what is computed may still be set by a later transaction.
bool reachable();

/// The time, a few milliseconds behind at most. 4 ns.
core::Timestamp coarse_now() noexcept;

/// Whether something that ends at `expires_at` has ended, exactly.
bool has_expired(core::Timestamp expires_at) noexcept;

/// Whether a reader takes what is over, but within its grace.
enum class Freshness : std::uint8_t { kFresh, kStaleToo };

/// What the caller may read under a key.
struct Visible {
    enum class Where : std::uint8_t { kNowhere, kPending, kRegion };
    Where where = Where::kNowhere;
    const pg::PendingSet* pending = nullptr;
    core::Lookup entry;
    bool own_scope = false;  ///< found in the caller's private scope
    bool stale =
        false;  ///< within its grace: to be marked as that, and whoever serves it tells pg::note_cached_read()
};

/// Looks a key up: in the caller's scope, then in the shared one; in each the transaction's own pending work first, then the region. Only where
/// `usable()`. May raise.
Visible look_up(std::string_view key, Freshness wanted = Freshness::kFresh);
/// The same in this scope alone.
Visible look_up(std::string_view key, const core::Scope& scope, Freshness wanted = Freshness::kFresh);

/// The same in one scope, for a reader that is at `clock`. Whether there is anything.
bool look_up_in(const core::Scope& scope, std::string_view key, core::Version clock, Visible& found,
                Freshness wanted = Freshness::kFresh);

/// Whether somebody has invalidated what is set since it was computed, so that nobody will be given it.
bool is_late(const pg::PendingSet& set) noexcept;

/// Has memory bring what looking up these keys one after the other will read. Only where `usable()`. May raise.
void prefetch(const std::string_view* keys, int count);

/// Counts a hit of what `look_up` found.
void count_hit(const Visible& found) noexcept;

/// Leaves the lease that a later set answers: after a miss, or where a read bypassed the cache. Only where `reachable()`.
void leave_lease(std::string_view key);

/// The scope that a set of this key goes to. False: the key is under a shared prefix that the caller may not fill.
bool scope_for_set(std::string_view key, core::Scope& scope);

/// The hash under which this session keeps leases of a key.
std::uint64_t lease_hash(const core::Scope& scope, std::string_view key) noexcept;

}  // namespace cache_ext::api
