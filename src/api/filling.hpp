#pragma once

// Reading a value or computing it: what get-or-set and cached functions have in common.

#include "api/storing.hpp"
#include "pg/obstacle.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

/// Where a value is read and where it is filled.
struct Place {
    /// The one scope that it is read in and goes to. Null: it is read as get_cached_data reads, and goes where a set of the key goes.
    const core::Scope* scope = nullptr;
    bool may_fill = true;
};

/// Which of the relations that are read become what the entry depends on.
enum class Tracking : std::uint8_t {
    kNone,
    kRowSecurity,  ///< those that row-security policies read; tags say the rest
    kAll,
};

/// What makes a value.
struct Source {
    /// Called at most once, under the active snapshot. Returns a detoasted varlena in the memory context that it is called in; 0: the
    /// result is not to be kept, and the caller has it elsewhere. May raise; throws nothing.
    Datum (*compute)(void* context);
    void* context;
    const char* log_name;  ///< names the operation in the server's log
    /// If given, called where an error came after `compute` had begun and what is cached is returned in place of its result, all of which is to be forgotten.
    void (*forget)(void* context) = nullptr;
    /// If given: why the result was not kept, where that was what it had read.
    pg::Finding* obstacle = nullptr;
    /// It is called for to be refreshed: an error is raised, although there is a value.
    bool is_warmed = false;
    /// A table that its own query reads, and whose changes the request's tags tell of; for Tracking::kAll.
    Oid told = InvalidOid;
};

/// The value of a key: what is cached if the caller may have it, and otherwise what `source` computes now. That is stored if it can be, and returned in any
/// case. Of the request, key, duration, tags, grace and by_policy are the caller's to say; the rest is found here. `tracking`: the relations that are read
/// become what the entry depends on; only where pg::tracks_writes(). May raise.
Datum read_or_fill(const SetRequest& request, const Place& place, const Source& source, Tracking tracking);

}  // namespace cache_ext::api
