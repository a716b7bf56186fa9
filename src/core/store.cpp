#include "core/store.hpp"

#include <algorithm>
#include <mutex>

#include "core/coarse_time.hpp"
#include "core/glob.hpp"
#include "core/racy_copy.hpp"

namespace cache_ext::core {

namespace {

/// A value smaller than this is never scattered.
constexpr std::size_t kMinExtentBytes = 256;

/// Evictions after which the lock is given up for a moment.
constexpr unsigned kEvictionBatch = 16;

/// How old other sessions' hits may be when it is decided what to evict, in microseconds.
constexpr Timestamp kHitsMaxAge = 10'000;

/// What may be evicted, in bytes, for a tag, a scope or a bucket: some hundred bytes in one piece.
constexpr std::size_t kMaxRoom = 64 * 1024;

constexpr std::uint32_t seconds_of(Timestamp t) noexcept { return static_cast<std::uint32_t>(t / 1'000'000); }

}  // namespace

/// How the eviction queue reaches into an entry.
struct Store::Links {
    Base base;
    Ref& newer(Ref ref) const noexcept { return base.at<Entry>(ref)->newer; }
    Ref& older(Ref ref) const noexcept { return base.at<Entry>(ref)->older; }
    bool visited(Ref ref) const noexcept {
        return base.at<Entry>(ref)->flags.load(std::memory_order_relaxed) & Entry::kVisited;
    }
    void set_visited(Ref ref, bool on) const noexcept {
        auto& flags = base.at<Entry>(ref)->flags;
        const std::uint8_t old = flags.load(std::memory_order_relaxed);
        flags.store(static_cast<std::uint8_t>(on ? old | Entry::kVisited : old & ~Entry::kVisited),
                    std::memory_order_relaxed);
    }
};

namespace {

/// How an owner's queue reaches into a private entry.
auto owner_links(Base base) noexcept {
    return [base](Ref ref) -> OwnerLinks& {
        return *reinterpret_cast<OwnerLinks*>(base.at<std::byte>(ref) + sizeof(Entry));
    };
}

}  // namespace

// --- memory -------------------------------------------------------------------------------------------

std::uint32_t Store::footprint(Base base, Ref ref) const noexcept {
    std::size_t bytes = allocator_.usable_bytes(base, ref) + Allocator::kHeaderBytes;
    for (Ref e = entry_at(base, ref)->extents.load(std::memory_order_relaxed); e != 0;
         e = base.at<Extent>(e)->next) {
        bytes += allocator_.usable_bytes(base, e) + Allocator::kHeaderBytes;
    }
    return static_cast<std::uint32_t>(std::min<std::size_t>(bytes, UINT32_MAX));
}

void Store::free_blocks(Base base, Ref head) noexcept {
    for (Ref e = entry_at(base, head)->extents.load(std::memory_order_relaxed); e != 0;) {
        const Ref next = base.at<Extent>(e)->next;
        allocator_.free(base, e);
        e = next;
    }
    allocator_.free(base, head);
}

/// Evicts one entry. False: there is none.
bool Store::make_room(Base base, SessionSlot& session, std::size_t& freed) noexcept {
    const Ref victim = sieve_.victim(Links{base}, [&](Ref ref) {
        const Entry& entry = *entry_at(base, ref);
        return entry.expires_at.load(std::memory_order_relaxed) <= drained_at_ ||
               invalidated(base, entry, entry.flags.load(std::memory_order_relaxed), entry.tag_count);
    });
    if (victim == 0) return false;
    freed += footprint(base, victim);
    note_departure(base, victim, {Gone::kEvicted});
    discard(base, victim);
    session.counters.add(Counter::kEvictions);
    return true;
}

bool Store::evict_of_owner(Base base, SessionSlot& session, Ref owner) noexcept {
    // The oldest first, with a second chance for what was read since: bounded, so that it may pass over a few only.
    const auto links = owner_links(base);
    auto* node = base.at<OwnerNode>(owner);
    Ref victim = node->oldest;
    for (unsigned passed = 0; passed < 8 && victim != 0; ++passed) {
        if (!Links{base}.visited(victim)) break;
        Links{base}.set_visited(victim, false);
        if (links(victim).newer == 0) break;
        victim = links(victim).newer;
    }
    if (victim == 0) return false;
    note_departure(base, victim, {Gone::kEvicted});
    discard(base, victim);
    session.counters.add(Counter::kEvictions);
    return true;
}

bool Store::respect_quota(Base base, SessionSlot& session, const NewEntry& entry, std::size_t bytes,
                          const Quota& quota) noexcept {
    if (!entry.scope->is_private) return true;
    if (bytes > quota.per_owner || bytes > quota.all_private) return false;
    for (;;) {
        const Ref owner = scopes_.find_owner(base, entry.scope->owner);
        if (owner == 0 || base.at<OwnerNode>(owner)->bytes + bytes <= quota.per_owner) break;
        if (!evict_of_owner(base, session, owner)) return false;
    }
    while (scopes_.private_bytes() + bytes > quota.all_private) {
        const Ref owner = scopes_.large_owner(base);
        if (owner == 0 || !evict_of_owner(base, session, owner)) return false;
    }
    return true;
}

/// Blocks for an entry: one if there is one, or can be by evicting about as much as is needed; otherwise a head and the value in pieces
/// of whatever is free. So memory that is free in total is never too scattered to be used.
bool Store::reserve(Base base, SessionSlot& session, const NewEntry& entry, std::uint8_t flags,
                    const Quota& quota, Ref& head) noexcept {
    // What the entry's head has no room to count would be cut off in there, and take the region's order with it.
    if (entry.key.bytes.size() > kMaxKeyBytes || entry.tags.size() > kMaxTags ||
        entry.value.size() > UINT32_MAX)
        return false;
    const auto layout = EntryLayout::of(flags, static_cast<std::uint32_t>(entry.tags.size()),
                                        static_cast<std::uint32_t>(entry.key.bytes.size()));
    const std::size_t total = layout.value + entry.value.size();
    if (Allocator::footprint(total) > allocator_.capacity_bytes() / 2) return false;

    std::unique_lock lock(lock_);
    if (!respect_quota(base, session, entry, Allocator::footprint(total), quota)) return false;

    const bool may_scatter = entry.value.size() >= kMinExtentBytes;
    std::size_t freed = 0;
    unsigned evictions = 0;
    const auto evict = [&] {
        if (evictions == 0) drain(base, &session, entry.now);
        if (++evictions % kEvictionBatch == 0) {
            lock.unlock();
            lock.lock();
        }
        return make_room(base, session, freed);
    };

    head = allocator_.allocate(base, total);
    while (head == 0) {
        const bool enough =
            freed >= total || allocator_.free_bytes() > total + allocator_.capacity_bytes() / 16;
        if (may_scatter && enough) break;
        if (freed > 64 * total || !evict()) break;
        head = allocator_.allocate(base, total);
    }
    if (head != 0) {
        base.at<Entry>(head)->extents.store(0, std::memory_order_relaxed);
        return true;
    }
    if (!may_scatter) return false;

    head = allocator_.allocate(base, layout.value);
    while (head == 0) {
        if (freed > 64 * total || !evict()) return false;
        head = allocator_.allocate(base, layout.value);
    }
    Entry& reserved = *base.at<Entry>(head);
    reserved.extents.store(0, std::memory_order_relaxed);
    Ref last = 0;
    for (std::size_t left = entry.value.size(); left > 0;) {
        const Ref extent = allocator_.allocate_upto(base, left + sizeof(Extent),
                                                    std::min(left, kMinExtentBytes) + sizeof(Extent));
        if (extent == 0) {
            if (freed > 64 * total || !evict()) {
                free_blocks(base, head);
                return false;
            }
            continue;
        }
        const std::size_t bytes = std::min(left, allocator_.usable_bytes(base, extent) - sizeof(Extent));
        store_relaxed(base.at<Extent>(extent)->next, Ref{0});
        store_relaxed(base.at<Extent>(extent)->bytes, static_cast<std::uint32_t>(bytes));
        if (last == 0) {
            reserved.extents.store(extent, std::memory_order_relaxed);
        } else {
            store_relaxed(base.at<Extent>(last)->next, extent);
        }
        last = extent;
        left -= bytes;
    }
    return true;
}

// --- storing ------------------------------------------------------------------------------------------

void Store::fill(Base base, Ref head, const NewEntry& entry, std::uint8_t flags) noexcept {
    // Ours alone until it is linked; but readers that followed an old link may still be looking here.
    Entry& e = *base.at<Entry>(head);
    store_relaxed(e.newer, Ref{0});
    store_relaxed(e.older, Ref{0});
    store_relaxed(e.birth, entry.birth);
    e.expires_at.store(entry.expires_at, std::memory_order_relaxed);
    store_relaxed(e.created_at, entry.created_at);
    store_relaxed(e.scope, Ref{0});
    store_relaxed(e.value_bytes, static_cast<std::uint32_t>(entry.value.size()));
    e.hits.store(entry.hits, std::memory_order_relaxed);
    e.used_at.store(entry.used_at != 0 ? entry.used_at : seconds_of(entry.created_at),
                    std::memory_order_relaxed);
    store_relaxed(e.key_bytes, static_cast<std::uint16_t>(entry.key.bytes.size()));
    store_relaxed(e.tag_count, static_cast<std::uint8_t>(entry.tags.size()));
    e.flags.store(flags, std::memory_order_relaxed);

    const auto layout = EntryLayout::of(flags, static_cast<std::uint32_t>(entry.tags.size()),
                                        static_cast<std::uint32_t>(entry.key.bytes.size()));
    auto* payload = base.at<std::byte>(head);
    if ((flags & Entry::kTimed) != 0) {
        EntryTimes& times = times_of(base, head, layout);
        store_relaxed(times.compute_us, entry.compute_us);
        store_relaxed(times.grace_ms, entry.grace_ms);
    }
    racy_store(payload + layout.key, entry.key.bytes.data(), entry.key.bytes.size());
    Ref extent = e.extents.load(std::memory_order_relaxed);
    if (extent == 0) {
        racy_store(payload + layout.value, entry.value.data(), entry.value.size());
        return;
    }
    const std::byte* from = entry.value.data();
    for (; extent != 0; extent = base.at<Extent>(extent)->next) {
        auto* piece = base.at<Extent>(extent);
        racy_store(piece + 1, from, piece->bytes);
        from += piece->bytes;
    }
}

bool Store::acquire_tags(Base base, SessionSlot& session, Ref head, const NewEntry& entry) noexcept {
    Ref* tags = tag_refs(base, head, base.at<Entry>(head)->flags.load(std::memory_order_relaxed));
    for (std::uint32_t i = 0; i < entry.tags.size(); ++i) {
        Ref tag = tags_.acquire(base, allocator_, entry.tags[i]);
        for (std::size_t freed = 0; tag == 0 && freed < kMaxRoom && make_room(base, session, freed);) {
            tag = tags_.acquire(base, allocator_, entry.tags[i]);
        }
        if (tag == 0) {
            release_tags(base, head, i);
            return false;
        }
        store_relaxed(tags[i], tag);
    }
    return true;
}

void Store::release_tags(Base base, Ref head, std::uint32_t count) noexcept {
    const Ref* tags = tag_refs(base, head, base.at<Entry>(head)->flags.load(std::memory_order_relaxed));
    for (std::uint32_t i = 0; i < count; ++i)
        tags_.release(base, allocator_, tags[i]);
}

Ref Store::find_locked(Base base, const Key& key) const noexcept {
    for (const Bucket* b = index_.bucket(base, Index::bucket_of(key.hash, index_.bucket_count()));
         b != nullptr; b = Index::next(base, *b)) {
        for (const auto& slot : b->slots) {
            const std::uint64_t value = slot.load(std::memory_order_relaxed);
            const Ref ref = Bucket::slot_ref(value);
            if ((value ^ key.hash) >> 32 != 0 || ref == 0) continue;
            const EntryInfo info = describe(base, ref);
            if (info.scope == key.scope && info.key == key.bytes) return ref;
        }
    }
    return 0;
}

/// The last step of storing, under the lock: what was invalidated since the value was computed is noticed here or, by whoever invalidates
/// from now on, through the link that is made here.
Put Store::publish(Base base, SessionSlot& session, Ref head, const NewEntry& entry, std::uint8_t flags,
                   const Quota& quota) noexcept {
    const Id128& space = entry.scope->space;
    const Version floor = space_floor(space);
    if (floor > entry.birth || tags_.cell(base, key_cell_hash(space, entry.key.bytes)) > entry.birth ||
        !patterns_.allows(entry.birth, space, entry.scope->id, entry.key.bytes)) {
        return Put::kLate;
    }
    for (const TagName& tag : entry.tags) {
        if (expired_at(base, tag) > entry.birth) return Put::kLate;
    }

    if (!acquire_tags(base, session, head, entry)) return Put::kNoMemory;
    const auto tag_count = static_cast<std::uint32_t>(entry.tags.size());
    const Ref* tags = tag_refs(base, head, flags);
    for (std::uint32_t i = 0; i < tag_count; ++i) {
        if (base.at<TagSlot>(tags[i])->version.load(std::memory_order_relaxed) > entry.birth) {
            release_tags(base, head, tag_count);
            return Put::kLate;
        }
    }

    Ref scope = scopes_.acquire(base, allocator_, *entry.scope, floor);
    for (std::size_t freed = 0; scope == 0 && freed < kMaxRoom && make_room(base, session, freed);) {
        scope = scopes_.acquire(base, allocator_, *entry.scope, floor);
    }
    if (scope == 0) {
        release_tags(base, head, tag_count);
        return Put::kNoMemory;
    }
    // Others may have stored for the same owner since the memory was reserved, and a scattered value takes more than was foreseen.
    if (!respect_quota(base, session, entry, footprint(base, head), quota)) {
        release_tags(base, head, tag_count);
        scopes_.release(base, allocator_, scope);
        return Put::kNoMemory;
    }
    Entry& e = *base.at<Entry>(head);
    store_relaxed(e.scope, scope);

    const Ref old = find_locked(base, entry.key);
    const Index::HashOf hash_of{[](const void* store, Base at, Ref ref) {
                                    return static_cast<const Store*>(store)->hash_of(at, ref);
                                },
                                this};
    const bool keep = old != 0 && entry.only_if_absent &&
                      judge(base, *entry_at(base, old), UINT64_MAX, entry.now) == Found::kHit;
    bool linked = false;
    if (old == 0 && !keep) {
        linked = index_.insert(base, allocator_, entry.key.hash, head, hash_of);
        for (std::size_t freed = 0; !linked && freed < kMaxRoom && make_room(base, session, freed);) {
            linked = index_.insert(base, allocator_, entry.key.hash, head, hash_of);
        }
    }
    if (keep || (old == 0 && !linked)) {
        release_tags(base, head, tag_count);
        scopes_.release(base, allocator_, scope);
        return keep ? Put::kExists : Put::kNoMemory;
    }
    if (old != 0) {
        note_departure(base, old, {});
        index_.replace(base, entry.key.hash, old, head);
        dispose(base, old);
    }
    ++entries_;
    sieve_.insert(Links{base}, head);
    if (entry.visited) Sieve<Links>::touch(Links{base}, head);
    scopes_.account(base, scope, footprint(base, head));
    if (entry.scope->is_private) scopes_.link(base, scope, head, owner_links(base));
    if (index_.starved()) {
        // Full memory has no piece of a page's size. One entry more than needed goes each time until there is one; or else chains
        // would grow without end where small entries take the place of large ones.
        std::size_t freed = 0;
        drain(base, &session, entry.now);  // what has been read since is not the one
        make_room(base, session, freed);
    }
    return Put::kStored;
}

Put Store::put(Base base, SessionSlot& session, const NewEntry& entry, const Quota& quota) noexcept {
    const auto flags = static_cast<std::uint8_t>(
        static_cast<unsigned>(entry.encoding) | (entry.scope->is_private ? Entry::kPrivate : 0U) |
        (entry.compute_us != 0 || entry.grace_ms != 0 ? Entry::kTimed : 0U));
    Ref head = 0;
    if (!reserve(base, session, entry, flags, quota, head)) return Put::kNoMemory;
    fill(base, head, entry, flags);
    std::scoped_lock guard(lock_);
    const Put result = publish(base, session, head, entry, flags, quota);
    if (result != Put::kStored) free_blocks(base, head);
    return result;
}

// --- removing -----------------------------------------------------------------------------------------

/// Frees what belongs to an entry that the index no longer leads to.
void Store::dispose(Base base, Ref ref) noexcept {
    Entry& e = *base.at<Entry>(ref);
    sieve_.remove(Links{base}, ref);
    scopes_.account(base, e.scope, -std::int64_t{footprint(base, ref)});
    if (e.flags.load(std::memory_order_relaxed) & Entry::kPrivate)
        scopes_.unlink(base, e.scope, ref, owner_links(base));
    release_tags(base, ref, e.tag_count);
    scopes_.release(base, allocator_, e.scope);
    free_blocks(base, ref);
    --entries_;
}

void Store::discard(Base base, Ref ref) noexcept {
    index_.erase(base, hash_of(base, ref), ref);
    dispose(base, ref);
}

bool Store::remove(Base base, const Key& key, const Cause& cause) noexcept {
    std::scoped_lock guard(lock_);
    const Ref ref = find_locked(base, key);
    if (ref == 0) return false;
    const bool dead = describe(base, ref).dead;
    note_departure(base, ref, cause);
    discard(base, ref);
    return !dead;
}

bool Store::expire(Base base, const Key& key, Timestamp when) noexcept {
    std::scoped_lock guard(lock_);
    const Ref ref = find_locked(base, key);
    if (ref == 0) return false;
    auto& expires_at = base.at<Entry>(ref)->expires_at;
    if (expires_at.load(std::memory_order_relaxed) > when) expires_at.store(when, std::memory_order_relaxed);
    return true;
}

void Store::expire_tag(Base base, const TagName& tag, Version version, Timestamp when) noexcept {
    // The cell first, as for keys.
    tags_.stamp_cell(base, expiry_cell_hash(tag), version);
    if (!has_tag(base, tag)) return;
    const std::uint32_t count = bucket_count();
    for (std::uint32_t b = 0; b < count; ++b) {
        visit(base, b, count, [&](const EntryInfo& e) {
            const auto carries = [&](Ref ref) {
                return base.at<const TagSlot>(ref)->hash == tag.hash &&
                       base.at<const TagSlot>(ref)->text() == tag.text;
            };
            if (e.space != tag.space || e.birth >= version ||
                !std::any_of(e.tags, e.tags + e.tag_count, carries))
                return;
            auto& expires_at = base.at<Entry>(e.entry)->expires_at;
            if (expires_at.load(std::memory_order_relaxed) > when)
                expires_at.store(when, std::memory_order_relaxed);
        });
    }
}

// --- invalidating -------------------------------------------------------------------------------------

void Store::stamp_key(Base base, const Scope& scope, std::string_view key, bool all_scopes,
                      Version version) noexcept {
    // The cell first: whoever links the key from now on looks at it under the lock.
    tags_.stamp_cell(base, key_cell_hash(scope.space, key), version);
    remove_everywhere(base, scope, key, all_scopes, {Gone::kKey, version});
}

bool Store::quarantine_tag(Base base, const TagName& tag, std::uint32_t& cell) noexcept {
    cell = tags_.cell_number(tag.hash);
    return tags_.quarantine(base, tag);
}

bool Store::quarantine_key(Base base, const Scope& scope, std::string_view key, bool all_scopes,
                           std::uint32_t& cell, FullXid xid) noexcept {
    const std::uint64_t hash = key_cell_hash(scope.space, key);
    cell = tags_.cell_number(hash);
    if (!tags_.quarantine_cell(base, hash)) return false;
    remove_everywhere(base, scope, key, all_scopes, {Gone::kKey, 0, xid});
    return true;
}

void Store::remove_everywhere(Base base, const Scope& scope, std::string_view key, bool all_scopes,
                              const Cause& cause) noexcept {
    remove(base, {scope.id, key, key_hash(scope.id, key)}, cause);
    if (!all_scopes || usage().private_entries == 0) return;
    for (std::uint32_t b = 0; b < bucket_count(); ++b) {
        remove_if(
            base, b,
            [&](const EntryInfo& e) { return e.is_private && e.space == scope.space && e.key == key; },
            cause);
    }
}

void Store::stamp_pattern(Base base, const Id128& space, const Id128* scope, std::string_view pattern,
                          Version version) noexcept {
    {
        std::scoped_lock guard(lock_);
        patterns_.add(version, space, scope, pattern);
    }
    for (std::uint32_t b = 0; b < bucket_count(); ++b) {
        remove_if(base, b,
                  [&](const EntryInfo& e) {
                      return e.space == space && (scope == nullptr || e.scope == *scope) &&
                             glob_match(pattern, e.key);
                  },
                  {Gone::kPattern, version, 0, pattern});
    }
}

void Store::stamp_space(Base base, const Id128& space, Version version) noexcept {
    raise(space_floors_[space_cell(space)], version);
    std::scoped_lock guard(lock_);
    scopes_.raise_floors(base, &space, version);
}

void Store::stamp_all(Base base, Version version) noexcept {
    for (auto& floor : space_floors_)
        raise(floor, version);
    std::scoped_lock guard(lock_);
    scopes_.raise_floors(base, nullptr, version);
}

// --- why an entry went --------------------------------------------------------------------------------

Departure Store::departure_of(Base base, const EntryInfo& e, Timestamp now) const noexcept {
    Departure d;
    d.scope = e.scope;
    d.is_private = e.is_private;
    // Of several invalidations the first: that is when it went. Of each tag only the newest is known.
    Version first = UINT64_MAX;
    const TagSlot* by = nullptr;
    for (std::uint32_t i = 0; i < e.tag_count; ++i) {
        const auto* slot = base.at<const TagSlot>(e.tags[i]);
        const Version version = slot->version.load(std::memory_order_relaxed);
        if (version <= e.birth) continue;
        const bool stamped = (version & kVersionMask) > e.birth;
        const Version since = stamped ? version & kVersionMask : UINT64_MAX;
        if (by != nullptr && since >= first) continue;
        first = since;
        by = slot;
        d.in_quarantine = !stamped;
    }
    const Version floor =
        base.at<const ScopeNode>(entry_at(base, e.entry)->scope)->floor.load(std::memory_order_relaxed);
    if (floor > e.birth && floor <= first) {
        d.reason = Gone::kEverything;
        d.in_quarantine = false;
        d.origin = journal_.origin_of(base, floor);
    } else if (by != nullptr) {
        d.reason = Gone::kTag;
        d.is_relation = !(by->space == e.space);
        d.tag_hash = by->hash;
        d.set_name(by->text());
        if (!d.in_quarantine) d.origin = journal_.origin_of(base, first);
    } else if (e.expires_at <= now) {
        d.reason = Gone::kExpired;
        d.origin.at = e.expires_at;
    }
    return d;
}

void Store::note_departure(Base base, Ref ref, const Cause& cause) noexcept {
    const EntryInfo e = describe(base, ref);
    const Timestamp now = coarse_now();
    Departure d = departure_of(base, e, now);
    if (d.reason == Gone::kNot) {
        if (cause.reason == Gone::kNot) return;
        d.reason = cause.reason;
        d.set_name(cause.text);
        d.origin = cause.version != 0 ? journal_.origin_of(base, cause.version) : Origin{cause.xid, now};
    }
    journal_.note(base, key_cell_hash(e.space, e.key), d);
}

// --- hits ---------------------------------------------------------------------------------------------

void Store::take_hits(Base base, HitBuffer& hits, Timestamp now, bool empty) noexcept {
    if (!hits.used()) return;
    for (auto& cell : hits) {
        const Ref ref = cell.entry.load(std::memory_order_acquire);
        if (ref == 0) continue;
        const std::uint32_t count = cell.count.load(std::memory_order_relaxed);
        const std::uint32_t fresh = count - cell.taken.load(std::memory_order_relaxed);
        const std::uint32_t hash_low = cell.hash_low.load(std::memory_order_relaxed);
        // Another entry of the same bucket may lie there by now: the buckets are few while the index is small.
        if (fresh > 0 && index_.contains(base, hash_low, ref) &&
            static_cast<std::uint32_t>(hash_of(base, ref)) == hash_low) {
            Entry& e = *base.at<Entry>(ref);
            e.hits.store(e.hits.load(std::memory_order_relaxed) + fresh, std::memory_order_relaxed);
            e.used_at.store(seconds_of(now), std::memory_order_relaxed);
            Sieve<Links>::touch(Links{base}, ref);
        }
        if (empty) {
            cell.entry.store(0, std::memory_order_relaxed);
        } else {
            cell.taken.store(count, std::memory_order_relaxed);
        }
    }
    if (empty) hits.emptied();
}

void Store::flush_hits(Base base, SessionSlot& session, Timestamp now) noexcept {
    std::scoped_lock guard(lock_);
    take_hits(base, session.hits, now, true);
}

void Store::touch(Base base, const Lookup& found, Timestamp now) noexcept {
    std::scoped_lock guard(lock_);
    if (!index_.contains(base, found.hash_low, found.entry)) return;
    base.at<Entry>(found.entry)->used_at.store(seconds_of(now), std::memory_order_relaxed);
    Sieve<Links>::touch(Links{base}, found.entry);
}

void Store::gather_hits(Base base, Timestamp now) noexcept {
    std::scoped_lock guard(lock_);
    drain(base, nullptr, now);
}

/// Brings the entries' visited marks up to date: one's own always, other sessions' when they may be old.
void Store::drain(Base base, SessionSlot* own, Timestamp now) noexcept {
    if (own != nullptr) take_hits(base, own->hits, now, true);
    if (own != nullptr && now - drained_at_ < kHitsMaxAge && now >= drained_at_) return;
    drained_at_ = now;
    auto* sessions = base.at<SessionSlot>(sessions_);
    for (std::uint32_t i = 0; i < session_count_; ++i)
        take_hits(base, sessions[i].hits, now, false);
}

// --- looking ------------------------------------------------------------------------------------------

bool Store::scope_fits(Base base, const Scope& scope) const noexcept {
    const Ref ref = scopes_.find(base, scope.id);
    if (ref == 0) return true;
    const auto* node = base.at<const ScopeNode>(ref);
    if (!(node->space == scope.space) || (node->owner != 0) != scope.is_private) return false;
    return node->owner == 0 || base.at<const OwnerNode>(node->owner)->id == scope.owner;
}

bool Store::has_tag(Base base, const TagName& name) noexcept {
    std::scoped_lock guard(lock_);
    return tags_.find(base, name) != 0;
}

Store::Usage Store::usage() noexcept {
    std::scoped_lock guard(lock_);
    return {allocator_.used_bytes(),
            allocator_.capacity_bytes(),
            index_.memory_bytes(),
            scopes_.private_bytes(),
            entries_,
            tags_.slot_count(),
            scopes_.scope_count(),
            scopes_.private_entries()};
}

bool Store::check(Base base) noexcept {
    std::scoped_lock guard(lock_);
    if (!allocator_.check(base) || !sieve_.check(Links{base}) || sieve_.count() != entries_) return false;
    std::uint32_t linked = 0;
    for (std::uint32_t i = 0; i < index_.bucket_count(); ++i) {
        for (const Bucket* b = index_.bucket(base, i); b != nullptr; b = Index::next(base, *b)) {
            for (const auto& slot : b->slots) {
                const Ref ref = Bucket::slot_ref(slot.load(std::memory_order_relaxed));
                if (ref == 0) continue;
                ++linked;
                const EntryInfo info = describe(base, ref);
                const std::uint64_t hash = key_hash(info.scope, info.key);
                if (Index::bucket_of(hash, index_.bucket_count()) != i) return false;
                if (hash >> 32 != slot.load(std::memory_order_relaxed) >> 32) return false;
            }
        }
    }
    return linked == entries_;
}

}  // namespace cache_ext::core
