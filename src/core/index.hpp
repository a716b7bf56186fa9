#pragma once

#include <atomic>
#include <bit>
#include <cstdint>

#include "core/allocator.hpp"
#include "core/entry.hpp"
#include "core/ref.hpp"

namespace cache_ext::core {

/// A cache line of the index: seven entries, each as (upper half of its hash, Ref), and the head of a chain.
///
/// `version` counts the removals from the whole chain, and stands in its first bucket. An entry that a reader found through a chain whose
/// version has not changed since is still there, and so are its tags and its scope: that is the only check that a reader needs.
struct alignas(64) Bucket {
    static constexpr unsigned kSlots = 7;

    std::atomic<std::uint32_t> version;
    std::atomic<Ref> next;
    std::atomic<std::uint64_t> slots[kSlots];

    static constexpr std::uint64_t slot_value(std::uint64_t hash, Ref entry) noexcept {
        return (hash & 0xffffffff00000000ULL) | entry;
    }
    static constexpr Ref slot_ref(std::uint64_t slot) noexcept { return static_cast<Ref>(slot); }
};
static_assert(sizeof(Bucket) == 64);

/// The hash index: linear hashing (Litwin 1980) over pages of buckets, so that it grows with the number of entries, a bucket at
/// a time, and never needs a large piece of memory.
///
/// Locking: every change is under the store's lock. Lookups take no lock; they may miss an entry that is being moved, and
/// see a bucket of another chain, but never memory that is not a bucket: buckets are not given back.
class Index {
public:
    static constexpr std::uint32_t kPageBuckets = 16;
    static constexpr std::uint32_t kEntriesPerBucket = 5;  // on average, before the next bucket is split
    static constexpr unsigned kMaxChain = 64;  // how far a reader follows a chain that changes under it

    /// `directory` is an array of `max_pages` Refs, zeroed. False: not even the first page could be had.
    bool init(Base base, Allocator& allocator, Ref directory, std::uint32_t max_pages) noexcept;

    /// Whether the last insertion wanted more buckets and found no memory for them: somebody should make room.
    bool starved() const noexcept { return starved_; }

    std::uint32_t bucket_count() const noexcept { return bucket_count_.load(std::memory_order_acquire); }
    /// What its buckets take of the region, with what the allocator adds.
    std::uint64_t memory_bytes() const noexcept { return memory_bytes_; }

    /// The bucket that a hash belongs to while there are `count` buckets.
    static std::uint32_t bucket_of(std::uint64_t hash, std::uint32_t count) noexcept {
        const std::uint32_t mask = std::bit_ceil(count) - 1;
        const std::uint32_t bucket = static_cast<std::uint32_t>(hash) & mask;
        return bucket < count ? bucket : bucket & (mask >> 1);
    }

    Bucket* bucket(Base base, std::uint32_t number) const noexcept {
        const Ref page = base.at<const std::atomic<Ref>>(directory_)[number / kPageBuckets].load(
            std::memory_order_acquire);
        return base.at<Bucket>(page) + number % kPageBuckets;
    }

    static Bucket* next(Base base, const Bucket& bucket) noexcept {
        const Ref ref = bucket.next.load(std::memory_order_acquire);
        return ref == 0 ? nullptr : base.at<Bucket>(ref);
    }

    /// Whether `entry` is linked under this hash, of which the lower half is enough.
    bool contains(Base base, std::uint64_t hash, Ref entry) const noexcept;

    /// The full hash of a linked entry, which the index does not keep.
    struct HashOf {
        std::uint64_t (*call)(const void* context, Base base, Ref entry);
        const void* context;
        std::uint64_t operator()(Base base, Ref entry) const noexcept { return call(context, base, entry); }
    };

    /// Links an entry. False: no memory for a further bucket.
    bool insert(Base base, Allocator& allocator, std::uint64_t hash, Ref entry, HashOf hash_of) noexcept;

    /// Puts `entry` where `old` was; after it the memory of `old` may be reused. Both have the same hash.
    void replace(Base base, std::uint64_t hash, Ref old, Ref entry) noexcept;

    /// Unlinks an entry; after it its memory may be reused.
    void erase(Base base, std::uint64_t hash, Ref entry) noexcept;

private:
    struct Place {
        Bucket* first;
        Bucket* before;  // the bucket that links to `holder`; null where that is the first
        Bucket* holder;
        unsigned slot;
    };

    bool locate(Base base, std::uint64_t hash, Ref entry, Place& place) const noexcept;
    bool add_to_chain(Base base, Allocator& allocator, Bucket* first, std::uint64_t slot) noexcept;
    void drop_if_empty(Base base, const Place& place) noexcept;
    Bucket* new_buckets(Base base, Allocator& allocator, std::uint32_t count) noexcept;
    Bucket* spare_bucket(Base base, Allocator& allocator) noexcept;
    void grow(Base base, Allocator& allocator, HashOf hash_of) noexcept;
    bool add_pages(Base base, Allocator& allocator, std::uint32_t number) noexcept;
    static constexpr std::uint32_t kSpareBuckets = 4;     // made at a time, for chains
    static constexpr std::uint32_t kPagesAhead = 16;      // one page more for so many that there are, ...
    static constexpr std::uint32_t kMaxPagesAhead = 256;  // ... up to 256 kB at a time

    static void removed(Bucket& first) noexcept;

    std::atomic<std::uint32_t> bucket_count_;
    std::uint32_t max_pages_;
    std::uint64_t memory_bytes_;  // of all buckets, for the table and for the chains
    Ref directory_;
    Ref spare_;  // unused chain buckets, linked by `next`
    std::uint32_t entries_;
    bool starved_;
};

}  // namespace cache_ext::core
