#include "api/storing.hpp"

#include "api/context.hpp"
#include "api/policies.hpp"
#include "api/value.hpp"
#include "pg/guard.hpp"
#include "pg/observe.hpp"
#include "pg/redis_settings.hpp"
#include "pg/settings.hpp"
#include "pg/snapshot.hpp"
#include "pg/testing.hpp"
#include "pg/transaction.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/xact.h"
#include "common/pg_prng.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// How long the entry lives: what was asked for, or the policy's with its jitter, or the default.
std::int64_t lifetime(const SetRequest& request, const Policy* policy) {
    if (request.duration > 0) return request.duration;
    if (policy == nullptr || policy->duration == 0)
        return std::int64_t{pg::settings::default_duration_s} * USECS_PER_SEC;
    const double shorter = policy->jitter > 0 ? policy->jitter * pg_prng_double(&pg_global_prng_state) : 0;
    return std::max<std::int64_t>(
        1, static_cast<std::int64_t>(static_cast<double>(policy->duration) * (1 - shorter)));
}

/// How long it may be served after that, in milliseconds.
std::uint32_t grace_of(const SetRequest& request, const Policy* policy) {
    const std::int64_t grace = request.by_policy ? (policy != nullptr ? policy->grace : 0) : request.grace;
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>(grace / 1000, grace > 0 ? 1 : 0, UINT32_MAX));
}

/// The texts of a set, gathered from its request and its policy. Small enough for the stack, and not initialised.
struct Gathered {
    std::string_view* tags() noexcept { return reinterpret_cast<std::string_view*>(tag_bytes_); }
    std::uint32_t relations[core::kMaxTags];

    /// False: too many. `set` then shows what is in here.
    bool gather(pg::PendingSet& set, const SetRequest& request, const Policy* policy) noexcept {
        std::size_t count = 0;
        const auto add = [&](std::string_view tag) {
            if (count == core::kMaxTags) return false;
            std::construct_at(tags() + count++, tag);
            return true;
        };
        for (const std::string_view tag : request.tags) {
            if (!add(tag)) return false;
        }
        const auto add_new = [&](std::string_view tag) {
            return std::find(tags(), tags() + count, tag) != tags() + count || add(tag);
        };
        for (const std::string_view tag : request.inherited_tags) {
            if (!add_new(tag)) return false;
        }
        if (policy != nullptr) {
            for (const std::string_view tag : policy->tags) {
                if (!add_new(tag)) return false;
            }
        }
        set.tags = {tags(), count};
        if (request.relations != nullptr) {
            const auto relation_count = static_cast<std::size_t>(request.relation_count);
            if (count + relation_count + 1 > core::kMaxTags) return false;
            std::copy_n(request.relations, relation_count, relations);
            relations[relation_count] = pg::kAnyRelation;
            set.relations = {relations, relation_count + 1};
        }
        return true;
    }

private:
    alignas(std::string_view) std::byte tag_bytes_[core::kMaxTags * sizeof(std::string_view)];
};

/// Makes a set of a request and hands it to `store(set)`, which says whether it took it. False where it is refused before, or memory runs out.
template <class Store>
bool with_set(const SetRequest& request, const core::Scope& scope, const Age& age, Store&& store) {
    if (age.birth == 0 || VARSIZE_ANY_EXHDR(request.value) >
                              std::size_t{static_cast<unsigned>(pg::settings::max_entry_size_kb)} * 1024)
        return false;
    const Policy* policy = request.by_policy ? find_policy(request.key) : nullptr;
    const StoredValue value = encode(request.value);
    const core::Timestamp now = GetCurrentTimestamp();
    const std::int64_t life = lifetime(request, policy);
    const std::uint32_t grace_ms = grace_of(request, policy);

    // From here on only C++: nothing raises.
    try {
        pg::PendingSet set{};
        Gathered texts;
        if (!texts.gather(set, request, policy)) return false;
        set.key = request.key;
        set.value = value.bytes;
        set.scope = scope;
        set.level = pg::transaction_level();
        set.encoding = request.is_binary ? value.encoding | core::Encoding::kBinary : value.encoding;
        set.birth = age.birth;
        set.created_at = now;
        set.expires_at = std::min(now + life, request.ends_by);
        set.compute_us = request.compute_us;
        set.grace_ms = grace_ms;
        set.only_if_absent = request.only_if_absent;
        // What depends on relations stays here: Redis is not told of writes to them.
        set.write_through = policy != nullptr && policy->write_through && !scope.is_private &&
                            set.relations.empty() && pg::pushes_to_redis();
        set.command = GetCurrentCommandId(false);
        if (request.handed_out) pg::note_computed(set.tags, set.expires_at);
        return set.expires_at > now && store(set);
    } catch (const std::bad_alloc&) {
        return false;
    }
}

}  // namespace

bool age_by_lease(const core::Scope& scope, std::string_view key, Age& age) {
    const core::Timestamp now = GetCurrentStatementStartTimestamp();
    age.birth = pg::fill_clock();
    age.sequence = UINT64_MAX;
    if (pg::testing::breaks(pg::testing::Break::kBirthAtSet)) return true;
    if (const auto lease = pg::leases().answer(lease_hash(scope, key), now)) {
        age.birth = std::min(age.birth, lease->birth);
        age.sequence = lease->sequence;
        age.through = lease->through;
        return !lease->void_;
    }
    const core::Version bound = pg::leases().displaced_bound(now);
    if (pg::pending().has_invalidations() && bound == UINT64_MAX) age.through = pg::settled_newest();
    age.birth = std::min(age.birth, bound);
    return true;
}

bool set_pending(const SetRequest& request, const core::Scope& scope, const Age& age) {
    // What it was computed from may hold this transaction's own writes already; whether they came before it or after is not known.
    if (request.relations != nullptr && pg::has_own_writes()) {
        if (pg::wrote_relation(pg::kAnyRelation) ||
            std::any_of(request.relations, request.relations + request.relation_count, pg::wrote_relation))
            return false;
    }
    // What waits for the commit is bounded too.
    if (pg::pending().bytes() + VARSIZE_ANY_EXHDR(request.value) > pg::region().header().bytes / 4)
        return false;

    return with_set(request, scope, age, [&](pg::PendingSet& set) {
        if (const pg::Sequence last = pg::pending().invalidated_at(scope, set.key, set.tags); last != 0) {
            // Computed before this transaction invalidated it; or after, which can be published only if nothing else has happened that the
            // value does not reflect, a later write to what it was computed from among it.
            if (last > age.sequence || age.through == 0 || !set.relations.empty()) return false;
            set.birth = set.through_newest = age.through;
        }
        if (is_late(set)) return false;
        pg::pending().add(set);
        return true;
    });
}

bool publish_now(const SetRequest& request, const core::Scope& scope, const Age& age) {
    return with_set(request, scope, age, [](pg::PendingSet& set) { return pg::publish_now(set); });
}

}  // namespace cache_ext::api
