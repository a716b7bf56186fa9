#pragma once

// What the transaction has set and invalidated so far: the pending tier. Private to the backend; it forgets what a savepoint that
// is rolled back had added. Needs nothing of the server, so it says nothing about levels but their order.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/store.hpp"
#include "pg/arena.hpp"
#include "pg/number_table.hpp"

namespace cache_ext::pg {

/// Counts what happens in a transaction, so that the order of a set and an invalidation is known.
using Sequence = std::uint64_t;

enum class InvalidationKind : std::uint8_t {
    kTag,
    kKey,            ///< in one scope
    kKeyEverywhere,  ///< in all scopes of the space
    kPattern,        ///< over the keys of one scope
    kPatternEverywhere,
    kSpace,      ///< everything
    kExpire,     ///< a key in one scope, which is not wrong but no longer fresh
    kExpireTag,  ///< the same for what carries a tag
    kElsewhere,  ///< a pattern over keys that others keep, in Redis; nothing here
};

struct Invalidation {
    InvalidationKind kind;
    int level;
    Sequence sequence;
    core::Scope scope;  ///< of keys and patterns; of a tag, only its space
    std::string_view text;
    std::uint64_t hash;  ///< among the pending ones
    Sequence earlier;    ///< of the last record of the same thing; 0 = none
    Arena::Mark memory;  ///< where its text begins
};

/// A set. Its texts are its maker's until it is added, and then in the memory of what is pending.
struct PendingSet {
    int level;
    Sequence sequence;
    core::Scope scope;
    std::string_view key;
    std::span<const std::string_view> tags;
    std::span<const std::uint32_t>
        relations;  ///< what it was computed from, where that is tracked: table OIDs and kAnyRelation
    std::span<const std::byte> value;  ///< as it will be stored
    core::Encoding encoding;
    core::Version birth;
    core::Timestamp created_at;
    core::Timestamp expires_at;
    std::uint32_t compute_us;
    std::uint32_t grace_ms;
    bool only_if_absent;
    bool write_through;  ///< what has been stored is offered to Redis
    std::uint32_t
        command;  ///< the command of the transaction that made it: older snapshots of its own do not see it
    core::Version
        through_newest;  ///< written through an own invalidation: the newest version when it was computed; 0 = it was not
    std::uint64_t previous;  ///< the set of the same key that it supersedes, counted from 1; 0 = none
    Arena::Mark memory;      ///< where its texts begin
};
static_assert(std::is_trivially_copyable_v<PendingSet> && std::is_trivially_copyable_v<Invalidation>);

/// Everything that one transaction has pending.
class Pending {
public:
    bool empty() const noexcept { return invalidations_.empty() && sets_.empty() && !everything_; }
    bool has_invalidations() const noexcept { return !invalidations_.empty() || everything_; }
    bool has_sets() const noexcept { return !sets_.empty(); }

    /// The next sequence number; a later invalidation is known to be later.
    Sequence mark() noexcept { return last_mark_ = ++sequence_; }

    /// Adds an invalidation; one that is there already is only renewed where something was marked since. Never fails: without memory it
    /// becomes an invalidation of everything.
    void invalidate(InvalidationKind kind, const core::Scope& scope, std::string_view text,
                    int level) noexcept;

    /// The last invalidation, own and pending, that concerns an entry; 0: none. `tags` are their texts.
    template <class Tags>
    Sequence invalidated_at(const core::Scope& scope, std::string_view key, const Tags& tags) const noexcept {
        if (!has_invalidations()) return 0;
        Sequence last = key_invalidated_at(scope, key);
        for (const auto& tag : tags) {
            last = std::max({last, find(hash_of(InvalidationKind::kTag, scope, tag)),
                             find(hash_of(InvalidationKind::kExpireTag, scope, tag))});
        }
        return last;
    }

    /// Adds a set, and copies what its views show. Throws std::bad_alloc.
    void add(const PendingSet& set);

    /// The newest set of a key, or null.
    const PendingSet* find_set(const core::Id128& scope, std::string_view key) const noexcept;

    /// Every newest set, whether or not it has been invalidated since.
    template <class Visit>
    void for_each_set(Visit&& visit) const {
        newest_sets_.for_each([&](std::uint64_t number) { visit(sets_[number - 1]); });
    }
    const std::vector<Invalidation>& invalidations() const noexcept { return invalidations_; }
    bool everything() const noexcept { return everything_; }
    const core::Id128& everything_space() const noexcept { return everything_space_; }

    /// A savepoint at `level` was rolled back: forgets what was added at that level or deeper.
    void roll_back(int level) noexcept;
    /// A savepoint at `level` was released: what it added is its parent's.
    void release(int level) noexcept;
    void clear() noexcept;

    std::size_t bytes() const noexcept { return bytes_; }

private:
    static std::uint64_t hash_of(InvalidationKind kind, const core::Scope& scope,
                                 std::string_view text) noexcept;
    Sequence find(std::uint64_t hash) const noexcept { return latest_.find(hash); }
    std::string_view keep(std::string_view text);
    Sequence key_invalidated_at(const core::Scope& scope, std::string_view key) const noexcept;
    void drop_last_invalidation() noexcept;
    void drop_last_set() noexcept;

    std::vector<Invalidation> invalidations_;  // levels never decrease along it
    std::vector<PendingSet> sets_;             // likewise
    NumberTable latest_;                       // sequences, by hash
    NumberTable newest_sets_;                  // by the key's hash, into sets_ counted from 1
    Arena memory_;                             // of the texts of both; a savepoint's are the last ones in it
    Sequence sequence_ = 0;
    Sequence last_mark_ = 0;
    std::size_t patterns_ = 0;
    bool everything_ = false;  // memory ran out, or there was too much: all of the space goes
    Sequence everything_at_ = 0;
    core::Id128 everything_space_;
    std::size_t bytes_ = 0;
};

}  // namespace cache_ext::pg
