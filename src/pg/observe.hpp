#pragma once

// What a computation reads, seen at the start of each plan that runs in it: those of its own query, of the functions that it calls, and what
// views, row security and inlined functions have put into them.

#include <span>
#include <string_view>

#include "core/store.hpp"
#include "pg/obstacle.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// What has been seen of one computation. They nest: what an inner one reads, the outer one has read too.
struct Observation {
    Observation* outer = nullptr;
    bool wants_relations = false;
    bool never_kept =
        false;  ///< a temporary table was read: the result is this session's alone; or rows were locked
    bool untrackable = false;    ///< something was read whose changes nobody is told of, or too much
    bool private_entry = false;  ///< an entry of the caller's own went into it: nothing for others
    bool too_much = false;       ///< more relations and tags than there is room for: not all of them are here
    Finding obstacle;            ///< the first reason for `never_kept` or `untrackable`
    int count = 0;
    Oid relations[core::kMaxTags];  ///< tables and materialized views, each once; only where they are wanted
    bool inherited
        [core::kMaxTags];  ///< of each of them, whether a cached value that went into it depends on it
    int tag_count = 0;
    std::string_view tags
        [core::
             kMaxTags];  ///< of the cached values that went into it, each once; only where relations are wanted. In `memory`
    core::Timestamp expires_at = INT64_MAX;  ///< when the first of those ends
    MemoryContext memory = nullptr;          ///< where it began
    Oid told =
        InvalidOid;  ///< a table whose changes something else tells of, if the computation's own query alone reads it
    int told_reads = 0;  ///< how often a plan has read it
};

namespace detail {
extern Observation* observing;
void note_obstacle(const Finding& finding) noexcept;
void note_own_entry(bool is_private) noexcept;
void note_cached_entry(const core::Scope& scope, std::string_view key, const core::Lookup& entry) noexcept;
void note_cached_parts(std::span<const std::string_view> tags, std::span<const Oid> relations,
                       core::Timestamp expires_at) noexcept;
}  // namespace detail

/// Leaves out the table that something else tells of, if it was read once and by nothing cached.
void forget_told(Observation& observation) noexcept;

/// Begins to observe; ends with `stop_observing`, after an error too. Both are a few instructions.
void start_observing(Observation& observation, bool wants_relations) noexcept;
void stop_observing(const Observation& observation) noexcept;

/// For whoever tells something of the cache that says nothing of what it depends on: a miss, or a value that somebody has set.
inline void note_cached_read() noexcept {
    if (detail::observing != nullptr) [[unlikely]]
        detail::note_obstacle({Obstacle::kCachedValue, InvalidOid});
}

/// For whoever hands out what the transaction itself has set and not committed.
inline void note_own_entry(bool is_private) noexcept {
    if (detail::observing != nullptr) [[unlikely]]
        detail::note_own_entry(is_private);
}

/// For whoever hands out an entry of the region. What that depends on shows in no plan; where it is known, it is passed on: an entry that was
/// computed from tracked relations makes them, its tags and its end those of whatever it goes into.
///
/// The birth of the outer value needs no regard to that of the entry. Let b be the outer birth: the clock of the oldest snapshot that was held when the
/// computation began, so b <= clock(R) for each R under which it reads, whether tables or entries.
///  - What is registered up to b is reflected (I1): it had finished for R, and by I1 an entry that is handed out under R reflects all that R sees of
///    what concerns its tags, however old its own birth is. That is what a birth says of the outer value.
///  - What it reflects beyond that is not served early (I2): let the entry reflect X, registered as v, and R' not see X. If v <= b, a reader under
///    R' with b <= clock(R') sees X. If v > b, X has stamped one of the entry's tags, which is the outer's too, before it could become visible to R: the
///    outer value is dead, or is refused when it is stored.
/// So passing on the tags is enough, and passing on the birth would only make misses.
inline void note_cached_entry(const core::Scope& scope, std::string_view key,
                              const core::Lookup& entry) noexcept {
    if (detail::observing != nullptr) [[unlikely]]
        detail::note_cached_entry(scope, key, entry);
}

/// The same for what has just been computed, and is given to the caller as it is kept: its relations have been seen, its tags and its end have not.
inline void note_computed(std::span<const std::string_view> tags, core::Timestamp expires_at) noexcept {
    if (detail::observing != nullptr) [[unlikely]]
        detail::note_cached_parts(tags, {}, expires_at);
}

/// Installs the hook. Called once, from _PG_init.
void init_observe();

}  // namespace cache_ext::pg
