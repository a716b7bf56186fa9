// invalidate_cache_key, invalidate_cache_by_tags, invalidate_cache_by_pattern, expire_cache_by_tags.

#include <span>
#include <vector>

#include "api/args.hpp"
#include "api/context.hpp"
#include "api/matching.hpp"
#include "core/glob.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "utils/builtins.h"
}

namespace cache_ext::api {

namespace {

/// More tags than this in one call are a mistake.
constexpr int kMaxTagsInCall = 10'000;

/// Where a caller's invalidation by key or pattern reaches. False: nowhere.
bool reach_of_caller(core::Scope& scope, bool& everywhere) {
    if (!pg::current_space().exists) return false;
    const pg::Caller& caller = pg::caller();
    if (caller.bypass) return false;
    scope = own_scope(caller);
    everywhere = caller.is_shared;
    return true;
}

/// Whether any of the texts is among the tags of an entry.
template <class Tags>
bool has_any(const Texts& wanted, const Tags& tags) {
    for (const auto& tag : tags) {
        if (std::binary_search(wanted.begin(), wanted.end(), std::string_view(tag))) return true;
    }
    return false;
}

}  // namespace

CACHE_EXT_FUNCTION(invalidate_cache_key) {
    const std::string_view key = key_argument(fcinfo, 0);
    core::Scope scope;
    bool everywhere = false;
    if (!reach_of_caller(scope, everywhere)) PG_RETURN_BOOL(false);
    const Reach reach = everywhere ? Reach::everything(scope) : Reach::only(scope);
    const std::int64_t count = count_live(reach, [key](const Candidate& c) { return c.key == key; });
    pg::invalidate(everywhere ? pg::InvalidationKind::kKeyEverywhere : pg::InvalidationKind::kKey, scope,
                   key);
    if (everywhere && key.starts_with(kFunctionKeys))
        pg::invalidate(pg::InvalidationKind::kKey, function_scope(scope), key);
    PG_RETURN_BOOL(count > 0);
}

CACHE_EXT_FUNCTION(invalidate_cache_by_tags) {
    const Texts tags = tags_argument(fcinfo, 0, kMaxTagsInCall);
    if (!pg::current_space().exists) PG_RETURN_INT32(0);
    const pg::Caller& caller = pg::caller();
    const core::Scope space{{}, space_id(), {}, false};
    std::int64_t count = 0;
    if (!caller.bypass && any_tag_is_used(space, tags)) {
        const core::Scope scope = own_scope(caller);
        count = count_live(
            caller.is_shared ? Reach::everything(scope) : Reach::visible(scope, shared_scope(caller)),
            [&tags](const Candidate& c) { return has_any(tags, c.tags); });
    }
    for (const std::string_view tag : tags)
        pg::invalidate(pg::InvalidationKind::kTag, space, tag);
    PG_RETURN_INT32(static_cast<std::int32_t>(count));
}

CACHE_EXT_FUNCTION(invalidate_cache_by_pattern) {
    const std::string_view pattern = pattern_argument(fcinfo, 0);
    core::Scope scope;
    bool everywhere = false;
    if (!reach_of_caller(scope, everywhere)) PG_RETURN_INT32(0);
    const Reach reach = everywhere ? Reach::everything(scope) : Reach::only(scope);
    const std::int64_t count =
        count_live(reach, [pattern](const Candidate& c) { return core::glob_match(pattern, c.key); });
    pg::invalidate(everywhere ? pg::InvalidationKind::kPatternEverywhere : pg::InvalidationKind::kPattern,
                   scope, pattern);
    PG_RETURN_INT32(static_cast<std::int32_t>(count));
}

CACHE_EXT_FUNCTION(expire_cache_by_tags) {
    const Texts tags = tags_argument(fcinfo, 0, kMaxTagsInCall);
    if (!pg::current_space().exists) PG_RETURN_INT32(0);
    const pg::Caller& caller = pg::caller();
    if (caller.bypass) PG_RETURN_INT32(0);
    const core::Scope scope = own_scope(caller);

    std::vector<Match> matches =
        find_live(caller.is_shared ? Reach::everything(scope) : Reach::visible(scope, shared_scope(caller)),
                  [&tags](const Candidate& c) { return has_any(tags, c.tags); });
    for (const Match& match : matches) {
        pg::invalidate(match.has_grace ? pg::InvalidationKind::kExpire : pg::InvalidationKind::kKey,
                       match.scope, match.key);
    }
    // What is being computed now, and would be stored later as if it were fresh.
    const core::Scope space{{}, scope.space, {}, false};
    for (const std::string_view tag : tags)
        pg::invalidate(pg::InvalidationKind::kExpireTag, space, tag);
    PG_RETURN_INT32(static_cast<std::int32_t>(matches.size()));
}

}  // namespace cache_ext::api
