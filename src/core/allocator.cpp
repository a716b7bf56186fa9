#include "core/allocator.hpp"

#include <bit>
#include <initializer_list>
#include <limits>

#include "core/racy_copy.hpp"

namespace cache_ext::core {

namespace {

// Blocks looked at in one list before settling for what has been seen: what keeps the calls bounded.
constexpr std::uint32_t kAllocateProbes = 8;
constexpr std::uint32_t kReportProbes = 64;

}  // namespace

Allocator::Slot Allocator::slot_of(std::uint32_t size) noexcept {
    if (size < kSlots) return {0, size};
    const std::uint32_t top = 31 - static_cast<std::uint32_t>(std::countl_zero(size));
    return {top - kSlotBits + 1, (size >> (top - kSlotBits)) - kSlots};
}

Allocator::Header* Allocator::header(Base base, Ref ref) noexcept {
    return reinterpret_cast<Header*>(base.at<std::byte>(ref) - kHeaderBytes);
}

std::uint32_t Allocator::size_of(Base base, Ref ref) noexcept {
    return header(base, ref)->size_and_free >> 1;
}

bool Allocator::is_free(Base base, Ref ref) noexcept { return (header(base, ref)->size_and_free & 1) != 0; }

void Allocator::set_header(Base base, Ref ref, std::uint32_t size, bool free) noexcept {
    store_relaxed(header(base, ref)->size_and_free, size << 1 | (free ? 1u : 0u));
}

void Allocator::set_before(Base base, Ref ref, std::uint32_t size) noexcept {
    store_relaxed(header(base, ref)->before, size);
}

// Granules a request takes; 0 when no block can be that large.
std::uint32_t Allocator::needed(std::size_t bytes) noexcept {
    if (bytes > std::size_t{kMaxBlockGranules} * kGranule - kHeaderBytes) return 0;
    return granules_of(bytes + kHeaderBytes);
}

void Allocator::init(Base base, Ref begin, std::uint32_t granules) noexcept {
    *this = Allocator{};
    const std::uint32_t reach = std::numeric_limits<Ref>::max() - begin;
    if (granules > reach) granules = reach;
    if (granules < 2) return;

    first_ = begin + 1;
    end_ = begin + granules;
    capacity_ = granules - 1;

    std::uint32_t before = 0;
    for (Ref ref = first_; ref != end_;) {
        const std::uint32_t left = end_ - ref;
        const std::uint32_t size = left < kMaxBlockGranules ? left : kMaxBlockGranules;
        set_header(base, ref, size, true);
        set_before(base, ref, before);
        list_insert(base, ref, size);
        free_ += size;
        before = size;
        ref += size;
    }
    set_header(base, end_, 0, false);
    set_before(base, end_, before);
}

bool Allocator::injected_failure() noexcept {
    if (fail_after_ < 0) [[likely]]
        return false;
    if (fail_after_ == 0) return true;
    --fail_after_;
    return false;
}

// A free block of at least `size` granules, or null.
Ref Allocator::find(Base base, std::uint32_t size) const noexcept {
    const Slot own = slot_of(size);

    // Lists of the request's own class may hold blocks both too small and large enough. Its first block is
    // the one freed last: in a cache that replaces values by values of the same size it is a perfect fit.
    const Ref head = lists_[own.first][own.second];
    if (head != kNullRef && size_of(base, head) >= size) return head;

    // From the next class on every block fits.
    Slot slot = {own.first, own.second + 1};
    std::uint32_t map = slot.second < kSlots ? second_map_[slot.first] & (~0u << slot.second) : 0;
    if (map == 0) {
        const std::uint32_t classes = first_map_ & (~0u << (slot.first + 1));
        if (classes != 0) {
            slot.first = static_cast<std::uint32_t>(std::countr_zero(classes));
            map = second_map_[slot.first];
        }
    }
    if (map != 0) return lists_[slot.first][std::countr_zero(map)];

    Ref ref = head;
    for (std::uint32_t i = 0; ref != kNullRef && i < kAllocateProbes; ++i) {
        if (size_of(base, ref) >= size) return ref;
        ref = base.at<Links>(ref)->next;
    }
    return kNullRef;
}

// The largest of the first `probes` blocks in the highest list that is not empty; null when all are.
Ref Allocator::find_largest(Base base, std::uint32_t probes) const noexcept {
    if (first_map_ == 0) return kNullRef;
    const int first = 31 - std::countl_zero(first_map_);
    const int second = 31 - std::countl_zero(second_map_[first]);
    Ref best = lists_[first][second];
    if (first <= 1) return best;  // one size a list
    std::uint32_t best_size = size_of(base, best);
    Ref ref = base.at<Links>(best)->next;
    for (std::uint32_t i = 1; ref != kNullRef && i < probes; ++i) {
        const std::uint32_t size = size_of(base, ref);
        if (size > best_size) {
            best = ref;
            best_size = size;
        }
        ref = base.at<Links>(ref)->next;
    }
    return best;
}

void Allocator::list_insert(Base base, Ref ref, std::uint32_t size) noexcept {
    const Slot slot = slot_of(size);
    Ref& head = lists_[slot.first][slot.second];
    Links* links = base.at<Links>(ref);
    store_relaxed(links->next, head);
    store_relaxed(links->previous, kNullRef);
    if (head != kNullRef) store_relaxed(base.at<Links>(head)->previous, ref);
    head = ref;
    second_map_[slot.first] |= 1u << slot.second;
    first_map_ |= 1u << slot.first;
}

void Allocator::list_remove(Base base, Ref ref, std::uint32_t size) noexcept {
    const Links links = *base.at<Links>(ref);
    if (links.next != kNullRef) store_relaxed(base.at<Links>(links.next)->previous, links.previous);
    if (links.previous != kNullRef) {
        store_relaxed(base.at<Links>(links.previous)->next, links.next);
        return;
    }
    const Slot slot = slot_of(size);
    lists_[slot.first][slot.second] = links.next;
    if (links.next == kNullRef) {
        second_map_[slot.first] &= ~(1u << slot.second);
        if (second_map_[slot.first] == 0) first_map_ &= ~(1u << slot.first);
    }
}

// Takes `size` granules of a free block out of the lists and leaves the rest free.
void Allocator::take(Base base, Ref ref, std::uint32_t size) noexcept {
    const std::uint32_t whole = size_of(base, ref);
    list_remove(base, ref, whole);
    free_ -= whole;
    set_header(base, ref, size, false);
    if (whole == size) return;
    const Ref rest = ref + size;
    set_before(base, rest, size);
    release(base, rest, whole - size);
}

// Makes `size` granules at `ref` a free block, joined with its free neighbours. They belong to no list and
// are not counted as free; `before` of `ref` is right, that of the block behind need not be.
void Allocator::release(Base base, Ref ref, std::uint32_t size) noexcept {
    free_ += size;
    const Ref behind = ref + size;
    if (is_free(base, behind)) {
        const std::uint32_t other = size_of(base, behind);
        if (other <= kMaxBlockGranules - size) {
            list_remove(base, behind, other);
            size += other;
        }
    }
    const std::uint32_t before = header(base, ref)->before;
    if (before != 0 && before <= kMaxBlockGranules - size && is_free(base, ref - before)) {
        set_header(base, ref, 0, true);  // ends here as a block; lets a second free() of it be noticed
        ref -= before;
        list_remove(base, ref, before);
        size += before;
    }
    set_header(base, ref, size, true);
    set_before(base, ref + size, size);
    list_insert(base, ref, size);
}

Ref Allocator::allocate(Base base, std::size_t bytes) noexcept {
    if (injected_failure()) [[unlikely]]
        return kNullRef;
    const std::uint32_t size = needed(bytes);
    if (size == 0) return kNullRef;
    const Ref ref = find(base, size);
    if (ref != kNullRef) take(base, ref, size);
    return ref;
}

Ref Allocator::allocate_upto(Base base, std::size_t want_bytes, std::size_t min_bytes) noexcept {
    if (injected_failure()) [[unlikely]]
        return kNullRef;
    const std::uint32_t want = needed(want_bytes);
    if (want != 0) {
        const Ref ref = find(base, want);
        if (ref != kNullRef) {
            take(base, ref, want);
            return ref;
        }
    }
    const std::uint32_t least = needed(min_bytes);
    if (least == 0) return kNullRef;
    const Ref ref = find_largest(base, kAllocateProbes);
    if (ref == kNullRef) return kNullRef;
    const std::uint32_t size = size_of(base, ref);
    if (size < least) return kNullRef;
    take(base, ref, want != 0 && size > want ? want : size);
    return ref;
}

void Allocator::free(Base base, Ref ref) noexcept {
    if (ref == kNullRef) return;
    if (is_free(base, ref)) [[unlikely]] {
        ++misuses_;
        return;
    }
    release(base, ref, size_of(base, ref));
}

void Allocator::shrink(Base base, Ref ref, std::size_t bytes) noexcept {
    const std::uint32_t size = needed(bytes);
    const std::uint32_t whole = size_of(base, ref);
    if (size == 0 || size >= whole) return;
    set_header(base, ref, size, false);
    set_before(base, ref + size, size);
    release(base, ref + size, whole - size);
}

std::size_t Allocator::usable_bytes(Base base, Ref ref) const noexcept {
    return std::size_t{size_of(base, ref)} * kGranule - kHeaderBytes;
}

std::size_t Allocator::largest_free_bytes(Base base) const noexcept {
    const Ref ref = find_largest(base, kReportProbes);
    return ref == kNullRef ? 0 : usable_bytes(base, ref);
}

bool Allocator::check(Base base) const noexcept {
    if (misuses_ != 0) return false;
    if (capacity_ == 0) return free_ == 0 && first_map_ == 0;

    // The blocks in the order of their addresses: they fill the span, and each free one hangs in its list.
    std::uint32_t before = 0;
    bool before_free = false;
    std::uint64_t free_granules = 0;
    std::uint64_t free_blocks = 0;
    Ref ref = first_;
    while (ref != end_) {
        const std::uint32_t size = size_of(base, ref);
        if (size == 0 || size > end_ - ref || header(base, ref)->before != before) return false;
        const bool free = is_free(base, ref);
        if (free) {
            if (before_free && size <= kMaxBlockGranules - before) return false;
            const Links links = *base.at<Links>(ref);
            for (const Ref neighbour : {links.next, links.previous}) {
                if (neighbour != kNullRef && (neighbour < first_ || neighbour >= end_)) return false;
            }
            const Slot slot = slot_of(size);
            if (links.next != kNullRef && base.at<Links>(links.next)->previous != ref) return false;
            const Ref from = links.previous == kNullRef ? lists_[slot.first][slot.second]
                                                        : base.at<Links>(links.previous)->next;
            if (from != ref) return false;
            free_granules += size;
            ++free_blocks;
        }
        before = size;
        before_free = free;
        ref += size;
    }
    if (header(base, end_)->before != before || header(base, end_)->size_and_free != 0) return false;
    if (free_granules != free_) return false;

    // The lists: each holds free blocks of its own size, the bit maps tell which are empty, and together
    // they hold as many blocks as the walk has seen.
    std::uint64_t listed = 0;
    for (std::uint32_t first = 0; first < kClasses; ++first) {
        if (((first_map_ >> first & 1) != 0) != (second_map_[first] != 0)) return false;
        for (std::uint32_t second = 0; second < kSlots; ++second) {
            Ref in_list = lists_[first][second];
            if (((second_map_[first] >> second & 1) != 0) != (in_list != kNullRef)) return false;
            for (; in_list != kNullRef; in_list = base.at<Links>(in_list)->next) {
                if (in_list < first_ || in_list >= end_ || ++listed > free_blocks) return false;
                if (!is_free(base, in_list)) return false;
                const Slot slot = slot_of(size_of(base, in_list));
                if (slot.first != first || slot.second != second) return false;
            }
        }
    }
    return listed == free_blocks && first_map_ >> kClasses == 0;
}

}  // namespace cache_ext::core
