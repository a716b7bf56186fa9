#pragma once

// What a computation reads, seen at the start of each plan that runs in it: those of its own query, of the functions that it calls, and what
// views, row security and inlined functions have put into them.

#include "core/store.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// What has been seen of one computation. They nest: what an inner one reads, the outer one has read too.
struct Observation {
    Observation* outer = nullptr;
    bool wants_relations = false;
    bool temporary = false;    ///< a temporary table was read: the result is this session's alone
    bool untrackable = false;  ///< something was read whose changes nobody is told of, or too much
    int count = 0;
    Oid relations[core::kMaxTags];  ///< tables and materialized views, each once; only where they are wanted
};

namespace detail {
extern Observation* observing;
void note_cached_read() noexcept;
}  // namespace detail

/// Begins to observe; ends with `stop_observing`, after an error too. Both are a few instructions.
void start_observing(Observation& observation, bool wants_relations) noexcept;
void stop_observing(const Observation& observation) noexcept;

/// For whoever hands out a cached value: what that depends on does not show in any plan.
inline void note_cached_read() noexcept {
    if (detail::observing != nullptr) [[unlikely]]
        detail::note_cached_read();
}

/// Installs the hook. Called once, from _PG_init.
void init_observe();

}  // namespace cache_ext::pg
