#include "core/index.hpp"

#include <algorithm>

namespace cache_ext::core {

bool Index::init(Base base, Allocator& allocator, Ref directory, std::uint32_t max_pages) noexcept {
    directory_ = directory;
    max_pages_ = max_pages;
    memory_bytes_ = 0;
    spare_ = 0;
    entries_ = 0;
    starved_ = false;
    bucket_count_.store(0, std::memory_order_relaxed);
    Bucket* page = new_buckets(base, allocator, kPageBuckets);
    if (page == nullptr) return false;
    base.at<std::atomic<Ref>>(directory_)[0].store(base.ref_of(page), std::memory_order_release);
    bucket_count_.store(kPageBuckets, std::memory_order_release);
    return true;
}

/// Called after a slot was emptied or overwritten, before what it pointed to changes in any way.
void Index::removed(Bucket& first) noexcept {
    first.version.store(first.version.load(std::memory_order_relaxed) + 1, std::memory_order_release);
    std::atomic_thread_fence(std::memory_order_release);
}

bool Index::locate(Base base, std::uint64_t hash, Ref entry, Place& place) const noexcept {
    place.first = bucket(base, bucket_of(hash, bucket_count()));
    place.before = nullptr;
    for (place.holder = place.first; place.holder != nullptr; place.holder = next(base, *place.holder)) {
        for (place.slot = 0; place.slot < Bucket::kSlots; ++place.slot) {
            if (Bucket::slot_ref(place.holder->slots[place.slot].load(std::memory_order_relaxed)) == entry)
                return true;
        }
        place.before = place.holder;
    }
    return false;
}

bool Index::contains(Base base, std::uint64_t hash, Ref entry) const noexcept {
    Place place;
    return locate(base, hash, entry, place);
}

bool Index::insert(Base base, Allocator& allocator, std::uint64_t hash, Ref entry, HashOf hash_of) noexcept {
    starved_ = false;
    if (entries_ >= std::uint64_t{bucket_count()} * kEntriesPerBucket) grow(base, allocator, hash_of);
    Bucket* first = bucket(base, bucket_of(hash, bucket_count()));
    if (!add_to_chain(base, allocator, first, Bucket::slot_value(hash, entry))) return false;
    ++entries_;
    return true;
}

void Index::replace(Base base, std::uint64_t hash, Ref old, Ref entry) noexcept {
    Place place;
    if (!locate(base, hash, old, place)) return;
    place.holder->slots[place.slot].store(Bucket::slot_value(hash, entry), std::memory_order_release);
    removed(*place.first);
}

void Index::erase(Base base, std::uint64_t hash, Ref entry) noexcept {
    Place place;
    if (!locate(base, hash, entry, place)) return;
    place.holder->slots[place.slot].store(0, std::memory_order_relaxed);
    drop_if_empty(base, place);
    removed(*place.first);
    --entries_;
}

void Index::drop_if_empty(Base base, const Place& place) noexcept {
    if (place.before == nullptr) return;
    for (const auto& slot : place.holder->slots) {
        if (slot.load(std::memory_order_relaxed) != 0) return;
    }
    place.before->next.store(place.holder->next.load(std::memory_order_relaxed), std::memory_order_release);
    place.holder->next.store(spare_, std::memory_order_release);
    spare_ = base.ref_of(place.holder);
}

bool Index::add_to_chain(Base base, Allocator& allocator, Bucket* first, std::uint64_t slot_value) noexcept {
    Bucket* last = first;
    for (Bucket* b = first; b != nullptr; b = next(base, *b)) {
        for (auto& slot : b->slots) {
            if (slot.load(std::memory_order_relaxed) == 0) {
                slot.store(slot_value, std::memory_order_release);
                return true;
            }
        }
        last = b;
    }
    Bucket* more = spare_bucket(base, allocator);
    if (more == nullptr) return false;
    more->slots[0].store(slot_value, std::memory_order_relaxed);
    last->next.store(base.ref_of(more), std::memory_order_release);
    return true;
}

/// Zeroed buckets, aligned to cache lines. They are never given back.
Bucket* Index::new_buckets(Base base, Allocator& allocator, std::uint32_t count) noexcept {
    const std::size_t bytes = count * sizeof(Bucket);
    const std::size_t with_room = bytes + alignof(Bucket) - kGranule;
    const Ref block = allocator.allocate(base, with_room);
    if (block == 0) return nullptr;
    // Alignment is of the offset, so that it holds wherever the region is mapped: at a page boundary at least.
    constexpr Ref kAlign = alignof(Bucket) / kGranule;
    auto* buckets = base.at<Bucket>((block + kAlign - 1) / kAlign * kAlign);
    // The memory was somebody's until now, and readers may still be looking at what lay there.
    for (std::uint32_t i = 0; i < count; ++i) {
        buckets[i].version.store(0, std::memory_order_relaxed);
        buckets[i].next.store(0, std::memory_order_relaxed);
        for (auto& slot : buckets[i].slots)
            slot.store(0, std::memory_order_relaxed);
    }
    memory_bytes_ += Allocator::footprint(with_room);
    return buckets;
}

Bucket* Index::spare_bucket(Base base, Allocator& allocator) noexcept {
    if (spare_ == 0) {
        Bucket* fresh = new_buckets(base, allocator, kSpareBuckets);
        if (fresh == nullptr) return nullptr;
        for (std::uint32_t i = 0; i < kSpareBuckets; ++i) {
            fresh[i].next.store(spare_, std::memory_order_relaxed);
            spare_ = base.ref_of(&fresh[i]);
        }
    }
    Bucket* bucket = base.at<Bucket>(spare_);
    spare_ = bucket->next.load(std::memory_order_relaxed);
    bucket->next.store(0, std::memory_order_relaxed);
    return bucket;
}

/// Makes the page with this number, and some of those after it in the same piece of memory: a large index that lay between the entries a page
/// here and a page there would cost a lookup a miss of the processor's address cache before it comes to its entry. False: no memory.
bool Index::add_pages(Base base, Allocator& allocator, std::uint32_t number) noexcept {
    auto* directory = base.at<std::atomic<Ref>>(directory_);
    std::uint32_t count = std::min({std::max(number / kPagesAhead, 1U), kMaxPagesAhead, max_pages_ - number});
    Bucket* pages = new_buckets(base, allocator, count * kPageBuckets);
    if (pages == nullptr && count > 1) {
        count = 1;
        pages = new_buckets(base, allocator, kPageBuckets);
    }
    if (pages == nullptr) return false;
    for (std::uint32_t i = 0; i < count; ++i)
        directory[number + i].store(base.ref_of(pages + i * kPageBuckets), std::memory_order_release);
    return true;
}

/// Splits the next bucket in turn. Without memory the index stays as it is, and its chains grow longer.
void Index::grow(Base base, Allocator& allocator, HashOf hash_of) noexcept {
    const std::uint32_t count = bucket_count();
    const std::uint32_t page_number = count / kPageBuckets;
    auto* directory = base.at<std::atomic<Ref>>(directory_);
    if (count % kPageBuckets == 0) {
        if (page_number >= max_pages_) return;
        if (directory[page_number].load(std::memory_order_relaxed) == 0 &&
            !add_pages(base, allocator, page_number)) {
            starved_ = true;
            return;
        }
    }

    Bucket* target = bucket(base, count);
    Bucket* source = bucket(base, bucket_of(count, count));

    // First everything that moves is linked in its new place, then the new size is public, then the old links go: a reader finds
    // the entry in one place or the other, or notices that the size has changed and looks again.
    bool complete = true;
    for (Bucket* b = source; b != nullptr && complete; b = next(base, *b)) {
        for (auto& slot : b->slots) {
            const std::uint64_t value = slot.load(std::memory_order_relaxed);
            if (value == 0) continue;
            if (bucket_of(hash_of(base, Bucket::slot_ref(value)), count + 1) != count) continue;
            complete = add_to_chain(base, allocator, target, value);
            if (!complete) break;
        }
    }
    if (!complete) {
        for (Bucket* b = target; b != nullptr; b = next(base, *b)) {
            for (auto& slot : b->slots)
                slot.store(0, std::memory_order_relaxed);
        }
        return;
    }
    bucket_count_.store(count + 1, std::memory_order_release);

    Bucket* before = nullptr;
    for (Bucket* b = source; b != nullptr;) {
        for (auto& slot : b->slots) {
            const std::uint64_t value = slot.load(std::memory_order_relaxed);
            if (value != 0 && bucket_of(hash_of(base, Bucket::slot_ref(value)), count + 1) == count) {
                slot.store(0, std::memory_order_relaxed);
            }
        }
        Bucket* after = next(base, *b);
        Place place{source, before, b, 0};
        drop_if_empty(base, place);
        if (before == nullptr || before->next.load(std::memory_order_relaxed) == base.ref_of(b)) before = b;
        b = after;
    }
    removed(*source);
}

}  // namespace cache_ext::core
