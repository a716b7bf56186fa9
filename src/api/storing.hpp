#pragma once

// Storing a value for a key: what set, add and get-or-set have in common.

#include <string_view>

#include "api/args.hpp"
#include "core/clock.hpp"
#include "pg/pending.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

/// What a caller wants to be stored.
struct SetRequest {
    std::string_view key;
    const varlena* value = nullptr;  ///< detoasted
    std::int64_t duration = 0;       ///< microseconds; 0 = the policy's or the default
    std::int64_t grace = 0;  ///< microseconds after that; where by_policy, the policy's counts instead
    bool is_binary = false;  ///< the value is no JSON
    bool by_policy = true;   ///< a policy of the key's prefix adds what it says
    std::int64_t max_age =
        0;  ///< microseconds; for what is read or filled: nothing older is read; 0 = of any age
    Texts tags;
    Texts inherited_tags;            ///< of the cached values that went into it
    const Oid* relations = nullptr;  ///< that it was computed from, and that are watched; null: not tracked
    int relation_count = 0;
    std::uint32_t compute_us = 0;
    bool only_if_absent = false;
    core::Timestamp ends_by = INT64_MAX;  ///< it ends then at the latest
    bool handed_out = false;              ///< the caller is given the value as well; see pg::note_computed
};

/// How old a value may be.
struct Age {
    core::Version birth = 0;
    pg::Sequence sequence = 0;  ///< since when it must not have been invalidated by the transaction itself
    core::Version through =
        0;  ///< pg::settled_newest() when it was computed, for what the transaction itself had invalidated before; 0 = not known
};

/// Puts a value among the transaction's pending work. False: refused. Raises only as the server's own functions do.
bool set_pending(const SetRequest& request, const core::Scope& scope, const Age& age);

/// The same for a value that depends on nothing uncommitted: others get it at once, whatever becomes of this transaction, which has neither an xid
/// nor anything pending. False: refused.
bool publish_now(const SetRequest& request, const core::Scope& scope, const Age& age);

/// The age of a value that answers a miss of this session, if there was one, and else is current as of this statement. False: it
/// may have been computed from writes that were rolled back.
bool age_by_lease(const core::Scope& scope, std::string_view key, Age& age);

}  // namespace cache_ext::api
