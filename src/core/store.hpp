#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>

#include "core/allocator.hpp"
#include "core/entry.hpp"
#include "core/index.hpp"
#include "core/patterns.hpp"
#include "core/scopes.hpp"
#include "core/session.hpp"
#include "core/sieve.hpp"
#include "core/spinlock.hpp"
#include "core/tags.hpp"

namespace cache_ext::core {

inline constexpr std::size_t kMaxTagBytes = 256;
inline constexpr std::size_t kMaxTags = 64;

/// A key in its scope. `hash` is `Store::key_hash(scope, bytes)`.
struct Key {
    Id128 scope;
    std::string_view bytes;
    std::uint64_t hash = 0;
};

enum class Found : std::uint8_t {
    kHit,
    kAbsent,
    kStale,  ///< its time is over, but its grace is not
    kExpired,
    kInvalidated,  ///< a tag, or the whole scope, was invalidated after the value was computed
    kFuture,       ///< the value reflects what the reader's snapshot does not see yet
};

/// An entry that `find` found. It may be gone by the time its value is copied; `copy` tells.
struct Lookup {
    Ref entry = 0;
    std::uint32_t hash_low = 0;
    const Bucket* chain = nullptr;
    std::uint32_t chain_version = 0;
    std::uint32_t value_offset = 0;  ///< within the head block
    std::uint32_t value_bytes = 0;
    std::uint32_t compute_us = 0;
    Encoding encoding = Encoding::kPlain;
    Version birth = 0;
    Timestamp created_at = 0;
    Timestamp expires_at = 0;
};

/// What a new entry consists of.
struct NewEntry {
    const Scope* scope = nullptr;
    Key key;
    std::span<const TagName> tags;
    std::span<const std::byte> value;  ///< as it is to be stored
    Encoding encoding = Encoding::kPlain;
    Version birth = 0;
    Timestamp created_at = 0;
    Timestamp expires_at = 0;
    std::uint32_t compute_us = 0;  ///< 0 = not known
    std::uint32_t grace_ms = 0;
    bool only_if_absent = false;  ///< a live entry stays
    Timestamp now = 0;
    // Of an entry that comes back from an archive:
    std::uint32_t hits = 0;
    std::uint32_t used_at = 0;  ///< 0 = when it was created
    bool visited = false;       ///< read since the eviction hand last passed
};

enum class Put : std::uint8_t {
    kStored,
    kExists,  ///< only_if_absent, and there is one
    kLate,    ///< what it was computed from has been invalidated since
    kNoMemory,  ///< too large: for an entry, the region or the scope's share of it; or eviction could not free enough
};

/// How much memory private entries may take, in bytes.
struct Quota {
    std::uint64_t per_owner = UINT64_MAX;
    std::uint64_t all_private = UINT64_MAX;
};

/// A copy of an entry's description, for views. The text is behind it in the visitor's buffer.
struct EntryInfo {
    Ref entry;
    Id128 scope;
    Id128 space;
    bool is_private;
    std::string_view key;
    const Ref* tags;
    std::uint32_t tag_count;
    std::uint32_t value_bytes;
    std::uint32_t size_bytes;  ///< of all its blocks
    Encoding encoding;
    Version birth;
    Timestamp created_at;
    Timestamp expires_at;
    std::uint32_t hits;
    std::uint32_t used_at;
    std::uint32_t compute_us;
    std::uint32_t grace_ms;
    bool dead;  ///< invalidated: no reader will get it any more

    /// When the last reader may have it.
    Timestamp gone_at() const noexcept { return after(expires_at, grace_ms); }
};

/// The entries: memory, index, eviction, tags, scopes.
///
/// Locking: one spin lock for every change, held for well under a microsecond at a time and never across a value's copy; readers
/// hold none. The order is store lock, then a tag partition's lock. Nothing in here calls the server, allocates from a heap or
/// throws, so that no holder can be torn away from under the lock.
class Store {
public:
    // --- reading: no lock --------------------------------------------------------------------------

    std::uint64_t key_hash(const Id128& scope, std::string_view bytes) const noexcept;

    /// Looks for an entry that a reader whose snapshot has this clock may be given at `now`.
    Found find(Base base, const Key& key, Version clock, Timestamp now, Lookup& out) const noexcept;

    /// Asks memory for what finding a key will look at: its bucket first, and its entry once that has had time to come. For who looks up many keys,
    /// so that their ways to memory do not follow one another.
    void prefetch_bucket(Base base, const Key& key) const noexcept {
        __builtin_prefetch(bucket_for(base, key));
    }
    void prefetch_entry(Base base, const Key& key) const noexcept;

    /// Copies the stored bytes of what `find` found; false: it has gone meanwhile, look again.
    bool copy(Base base, const Lookup& found, void* to) const noexcept;

    // --- writing -----------------------------------------------------------------------------------

    /// Stores an entry in place of the one with the same key, evicting others for it.
    Put put(Base base, SessionSlot& session, const NewEntry& entry, const Quota& quota) noexcept;

    /// Counts a hit in the session's buffer, and empties the buffer where it is full.
    void count_hit(Base base, SessionSlot& session, const Lookup& found, Timestamp now) noexcept {
        if (session.hits.add(found.entry, found.hash_low)) [[likely]]
            return;
        flush_hits(base, session, now);
        session.hits.add(found.entry, found.hash_low);
    }

    /// Marks what `find` found as used now, without counting a hit.
    void touch(Base base, const Lookup& found, Timestamp now) noexcept;

    /// Adds a session's own hits to their entries, and empties its buffer.
    void flush_hits(Base base, SessionSlot& session, Timestamp now) noexcept;

    /// Adds all sessions' hits to their entries, for whoever is about to look at the counts.
    void gather_hits(Base base, Timestamp now) noexcept;

    /// Removes one entry. Whether it was there and alive.
    bool remove(Base base, const Key& key) noexcept;

    /// Versions for a transaction that invalidates. Each is called after `Clock::stamp` gave `version` and before the
    /// transaction can become visible.
    void stamp_tag(Base base, const TagName& tag, Version version) noexcept {
        tags_.stamp(base, tag, version);
    }
    void stamp_key(Base base, const Scope& scope, std::string_view key, bool all_scopes,
                   Version version) noexcept;
    void stamp_pattern(Base base, const Id128& space, const Id128* scope, std::string_view pattern,
                       Version version) noexcept;
    void stamp_space(Base base, const Id128& space, Version version) noexcept;
    /// All spaces.
    void stamp_all(Base base, Version version) noexcept;

    /// The hash under which a key's invalidations are remembered, whatever its scope.
    std::uint64_t key_cell_hash(const Id128& space, std::string_view key) const noexcept;

    /// The version below which nothing of a space is stored. An upper bound.
    Version space_floor(const Id128& space) const noexcept {
        return space_floors_[space_cell(space)].load(std::memory_order_acquire);
    }

    /// For a transaction that is about to be prepared, in place of the stamps: until `lift`, what carries the tag or has the key is neither served nor
    /// stored. The cell to be lifted goes to `cell`. False: not possible, stamp it.
    bool quarantine_tag(Base base, const TagName& tag, std::uint32_t& cell) noexcept;
    bool quarantine_key(Base base, const Scope& scope, std::string_view key, bool all_scopes,
                        std::uint32_t& cell) noexcept;

    /// Ends one quarantine, by whoever finds that the transaction is over. `version` has been taken since then, and registered as that transaction's.
    void lift(Base base, std::uint32_t cell, Version version) noexcept { tags_.lift(base, cell, version); }

    /// Makes an entry end at `when` if it would end later. Whether it was there.
    bool expire(Base base, const Key& key, Timestamp when) noexcept;

    /// The same for all entries that carry the tag and were born before `version`, and no such entry is stored any more. Called as the
    /// stamps are.
    void expire_tag(Base base, const TagName& tag, Version version, Timestamp when) noexcept;

    /// The version below which nothing that carries the tag is stored, though what is there may stay. An upper bound.
    Version expired_at(Base base, const TagName& tag) const noexcept {
        return tags_.cell(base, expiry_cell_hash(tag));
    }

    // --- looking at all of it -----------------------------------------------------------------------

    /// Calls `visit(const EntryInfo&)`, under the lock, for the entries that belong to one bucket of `count`, wherever they have moved since there
    /// were that many: going through all buckets below a `bucket_count()` meets each entry that stays exactly once. The visitor must be short
    /// and must not call the server; what it throws passes.
    template <class Visit>
    void visit(Base base, std::uint32_t bucket, std::uint32_t count, Visit&& visit) {
        std::scoped_lock guard(lock_);
        const std::uint32_t step = std::max(std::bit_ceil(count) / 2, 1U);
        for (std::uint32_t at = bucket; at < index_.bucket_count(); at += step) {
            if (at != bucket && (at < count || Index::bucket_of(at, count) != bucket)) continue;
            for (const Bucket* b = index_.bucket(base, at); b != nullptr; b = Index::next(base, *b)) {
                for (const auto& slot : b->slots) {
                    if (const Ref ref = Bucket::slot_ref(slot.load(std::memory_order_relaxed)))
                        visit(describe(base, ref));
                }
            }
        }
    }

    /// The same for one bucket of those that there are now. Entries may move to a later bucket between two calls, never to an earlier one, so that
    /// going on until `bucket_count()` misses none but may meet one twice.
    template <class Visit>
    void visit(Base base, std::uint32_t bucket, Visit&& visitor) {
        visit(base, bucket, std::max(bucket_count(), bucket + 1), visitor);
    }
    std::uint32_t bucket_count() const noexcept { return index_.bucket_count(); }

    /// The same for one entry, if it is there.
    template <class Visit>
    void visit_one(Base base, const Key& key, Visit&& visit) noexcept {
        std::scoped_lock guard(lock_);
        if (const Ref ref = find_locked(base, key)) visit(describe(base, ref));
    }

    /// Whether no pattern that was invalidated after `birth` matches the key.
    bool pattern_allows(Version birth, const Scope& scope, std::string_view key) noexcept {
        std::scoped_lock guard(lock_);
        return patterns_.allows(birth, scope.space, scope.id, key);
    }

    /// The tag's text and space; only within `visit`.
    static const TagSlot& tag(Base base, Ref ref) noexcept { return *base.at<const TagSlot>(ref); }

    /// Whether any live entry carries the tag: if not, nothing needs to be looked through.
    bool has_tag(Base base, const TagName& name) noexcept;

    /// Removes the entries of one bucket for which `which(const EntryInfo&)` holds; how many.
    template <class Which>
    std::uint32_t remove_if(Base base, std::uint32_t bucket, Which&& which) noexcept {
        std::scoped_lock guard(lock_);
        std::uint32_t removed = 0;
        if (bucket >= index_.bucket_count()) return 0;
        for (bool again = true; again;) {
            again = false;
            for (const Bucket* b = index_.bucket(base, bucket); b != nullptr && !again;
                 b = Index::next(base, *b)) {
                for (const auto& slot : b->slots) {
                    const Ref ref = Bucket::slot_ref(slot.load(std::memory_order_relaxed));
                    if (ref == 0 || !which(describe(base, ref))) continue;
                    discard(base, ref);
                    ++removed;
                    again = true;  // the chain may have been shortened
                    break;
                }
            }
        }
        return removed;
    }

    // For an archive, where nobody else uses the region; so without the lock.

    /// Calls `visit(const EntryInfo&, bool visited)` for all entries, the oldest of the eviction queue first.
    template <class Visit>
    void for_each_alone(Base base, Visit&& visit) const {
        for (Ref ref = sieve_.oldest(); ref != 0; ref = entry_at(base, ref)->newer) {
            visit(describe(base, ref),
                  (entry_at(base, ref)->flags.load(std::memory_order_relaxed) & Entry::kVisited) != 0);
        }
    }
    /// The quota owner of a private entry.
    Id128 owner_of(Base base, const EntryInfo& entry) const noexcept;
    /// Copies the stored bytes of a value.
    void value_of(Base base, const EntryInfo& entry, std::byte* to) const noexcept;
    /// Whether there is no such scope yet, or one that agrees in everything.
    bool scope_fits(Base base, const Scope& scope) const noexcept;
    /// Whether some process died while it held the lock. Only where there is no other process.
    bool torn() const noexcept { return lock_.is_locked(); }

    struct Usage {
        std::uint64_t used_bytes;
        std::uint64_t capacity_bytes;
        std::uint64_t index_bytes;
        std::uint64_t private_bytes;
        std::uint32_t entries;
        std::uint32_t tags;
        std::uint32_t scopes;
        std::uint32_t private_entries;
    };
    Usage usage() noexcept;

    TagTable& tags() noexcept { return tags_; }
    Allocator& allocator() noexcept { return allocator_; }  // for tests, under no concurrency

    /// Verifies that everything agrees with everything else. For tests.
    bool check(Base base) noexcept;

private:
    friend class Region;
    struct Links;
    static constexpr std::size_t kSpaceCells = 256;

    const Entry* entry_at(Base base, Ref ref) const noexcept { return base.at<const Entry>(ref); }
    static std::uint64_t expiry_cell_hash(const TagName& tag) noexcept;
    std::size_t space_cell(const Id128& space) const noexcept;
    void remove_everywhere(Base base, const Scope& scope, std::string_view key, bool all_scopes) noexcept;
    const Bucket* bucket_for(Base base, const Key& key) const noexcept {
        return index_.bucket(base, Index::bucket_of(key.hash, index_.bucket_count()));
    }
    bool in_bounds(Ref ref) const noexcept { return ref >= first_ref_ && ref < end_ref_; }
    std::uint64_t hash_of(Base base, Ref ref) const noexcept;
    bool invalidated(Base base, const Entry& entry, std::uint8_t flags,
                     std::uint32_t tag_count) const noexcept;
    Found judge(Base base, const Entry& entry, Version clock, Timestamp now) const noexcept;
    Ref find_locked(Base base, const Key& key) const noexcept;
    EntryInfo describe(Base base, Ref ref) const noexcept;
    std::uint32_t footprint(Base base, Ref ref) const noexcept;

    bool reserve(Base base, SessionSlot& session, const NewEntry& entry, std::uint8_t flags,
                 const Quota& quota, Ref& head) noexcept;
    bool make_room(Base base, SessionSlot& session, std::size_t& freed) noexcept;
    bool respect_quota(Base base, SessionSlot& session, const NewEntry& entry, std::size_t bytes,
                       const Quota& quota) noexcept;
    bool evict_of_owner(Base base, SessionSlot& session, Ref owner) noexcept;
    void fill(Base base, Ref head, const NewEntry& entry, std::uint8_t flags) noexcept;
    Put publish(Base base, SessionSlot& session, Ref head, const NewEntry& entry, std::uint8_t flags,
                const Quota& quota) noexcept;
    bool acquire_tags(Base base, SessionSlot& session, Ref head, const NewEntry& entry) noexcept;
    void release_tags(Base base, Ref head, std::uint32_t count) noexcept;
    void free_blocks(Base base, Ref head) noexcept;
    void discard(Base base, Ref ref) noexcept;
    void dispose(Base base, Ref ref) noexcept;
    void take_hits(Base base, HitBuffer& hits, Timestamp now, bool empty) noexcept;
    void drain(Base base, SessionSlot* own, Timestamp now) noexcept;

    alignas(64) SpinLock lock_;
    Allocator allocator_;
    Index index_;
    TagTable tags_;
    ScopeTable scopes_;
    Sieve<Links> sieve_;
    PatternRing patterns_;
    std::uint64_t seed_;
    std::atomic<Version> space_floors_
        [kSpaceCells];  // by hash. Apart from the other cells: none of these is ever in quarantine
    Ref first_ref_;     // refs that readers may follow
    Ref end_ref_;
    std::uint64_t region_bytes_;
    std::uint32_t entries_;
    Ref sessions_;  // an array of SessionSlot
    std::uint32_t session_count_;
    Timestamp drained_at_;  // when all sessions' hits were last added
};

}  // namespace cache_ext::core
