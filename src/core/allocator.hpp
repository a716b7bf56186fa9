// The region's own allocator: two-level segregated fit (M. Masmano, I. Ripoll, A. Crespo and J. Real,
// "TLSF: a new dynamic memory allocator for real-time systems", ECRTS 2004).
//
// Every call takes a bounded number of steps, whatever the state of the memory: two bit searches find a
// list of free blocks, and a freed block joins its free neighbours at once.
//
// Locking: none here. Every call, the const ones too, happens under the lock that guards the region's
// contents. Optimistic readers that hold no lock may still be reading a block while it is freed, joined and
// handed out again, so whatever this class writes into the span is stored with relaxed atomic stores.
//
// Layout: a block is a header of 8 bytes and its payload. Headers lie in the last 8 bytes of a granule, so
// that payloads start on one: a Ref names the payload itself, and an object of 64 bytes touches one cache
// line in the best case and two in the worst (with the header first it would always touch two). A free
// block keeps its list links in the first 8 bytes of its payload, so the smallest block is one granule.
//
//   granule r-1              granule r                 granule r+size-1
//   [ ....... | header(r) ]  [ payload ............ ]  [ payload | header(r+size) ]
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/ref.hpp"

namespace cache_ext::core {

class Allocator {
public:
    // Bytes of a block that are not payload.
    static constexpr std::size_t kHeaderBytes = 8;

    // The largest single block in granules; a longer span is several blocks that never join beyond it.
    static constexpr std::uint32_t kMaxBlockGranules = 0x7fffffff;

    // Bytes of the span one allocation of `bytes` takes: header and rounding included.
    [[nodiscard]] static constexpr std::size_t footprint(std::size_t bytes) noexcept {
        return (bytes + kHeaderBytes + kGranule - 1) / kGranule * kGranule;
    }

    // Takes over `granules` granules from `begin` on, all free. Touches only the first and the last of them
    // (and one per 32 GB), so that memory is populated as it is used. One granule is overhead; a span of
    // fewer than two holds nothing, and what lies beyond the reach of a Ref is left out.
    void init(Base base, Ref begin, std::uint32_t granules) noexcept;

    // A block whose payload holds at least `bytes` contiguous bytes, uninitialised; null when there is none.
    // The payload is base.at(ref), aligned to kGranule. As in every allocator of this kind a request may
    // fail although one free block holds it, if that block is less than 1/32 larger and not among the first
    // few of its list. Zero bytes give the smallest block.
    [[nodiscard]] Ref allocate(Base base, std::size_t bytes) noexcept;

    // For values scattered over extents: as allocate(want_bytes) if that can be had; otherwise the whole of
    // about the largest free block (at most 1/32 below it), provided its payload holds min_bytes; else null.
    // usable_bytes tells what it became.
    [[nodiscard]] Ref allocate_upto(Base base, std::size_t want_bytes, std::size_t min_bytes) noexcept;

    // Returns a block. Null is ignored. Freeing a block that is already free is a caller's bug: it changes
    // nothing but makes check() fail from then on.
    void free(Base base, Ref ref) noexcept;

    // Gives back what a block holds beyond `bytes`; never moves it. More than it holds changes nothing.
    void shrink(Base base, Ref ref, std::size_t bytes) noexcept;

    // The payload's size: what was asked for, rounded up to the block's end.
    [[nodiscard]] std::size_t usable_bytes(Base base, Ref ref) const noexcept;

    // The payload's address.
    [[nodiscard]] static void* payload(Base base, Ref ref) noexcept { return base.at<void>(ref); }

    // Accounting in bytes, headers included: used + free = capacity at all times.
    [[nodiscard]] std::size_t free_bytes() const noexcept { return std::size_t{free_} * kGranule; }
    [[nodiscard]] std::size_t used_bytes() const noexcept {
        return std::size_t{capacity_ - free_} * kGranule;
    }
    [[nodiscard]] std::size_t capacity_bytes() const noexcept { return std::size_t{capacity_} * kGranule; }

    // The payload of the largest free block; 0 when there is none. Exact unless more than 64 blocks share
    // its size class; then it may be short by less than 1/32.
    [[nodiscard]] std::size_t largest_free_bytes(Base base) const noexcept;

    // Fault injection: `successes` more allocations are tried as usual, all later ones fail. Negative turns
    // it off, which is the state after init. Freeing and shrinking never fail.
    void fail_after(std::int64_t successes) noexcept { fail_after_ = successes; }

    // Walks every block and every list and verifies every invariant. For tests: takes time in proportion to
    // the number of blocks.
    [[nodiscard]] bool check(Base base) const noexcept;

private:
    // Sizes are counted in granules. Those below kSlots are first-level class 0, one list each; each
    // further first-level class doubles the size and is cut into kSlots lists of equal width.
    static constexpr std::uint32_t kSlotBits = 5;
    static constexpr std::uint32_t kSlots = 1u << kSlotBits;
    static constexpr std::uint32_t kClasses = 31 - kSlotBits + 1;

    struct Header {
        std::uint32_t size_and_free;  // size in granules, header included, times two; plus one when free
        std::uint32_t before;         // size of the physical predecessor in granules; 0 for the first block
    };
    struct Links {
        Ref next;
        Ref previous;
    };
    struct Slot {
        std::uint32_t first;
        std::uint32_t second;
    };

    static Slot slot_of(std::uint32_t size) noexcept;
    static Header* header(Base base, Ref ref) noexcept;
    static std::uint32_t size_of(Base base, Ref ref) noexcept;
    static bool is_free(Base base, Ref ref) noexcept;
    static void set_header(Base base, Ref ref, std::uint32_t size, bool free) noexcept;
    static void set_before(Base base, Ref ref, std::uint32_t size) noexcept;
    static std::uint32_t needed(std::size_t bytes) noexcept;

    [[nodiscard]] bool injected_failure() noexcept;
    [[nodiscard]] Ref find(Base base, std::uint32_t size) const noexcept;
    [[nodiscard]] Ref find_largest(Base base, std::uint32_t probes) const noexcept;
    void list_insert(Base base, Ref ref, std::uint32_t size) noexcept;
    void list_remove(Base base, Ref ref, std::uint32_t size) noexcept;
    void take(Base base, Ref ref, std::uint32_t size) noexcept;
    void release(Base base, Ref ref, std::uint32_t size) noexcept;

    Ref first_ = kNullRef;        // the first block
    Ref end_ = kNullRef;          // the header that ends the span: size 0, never free
    std::uint32_t capacity_ = 0;  // granules in blocks
    std::uint32_t free_ = 0;      // of those, in free blocks
    std::int64_t fail_after_ = -1;
    std::uint32_t misuses_ = 0;  // blocks freed twice
    std::uint32_t first_map_ = 0;
    std::uint32_t second_map_[kClasses] = {};
    Ref lists_[kClasses][kSlots] = {};
};

static_assert(std::is_trivially_copyable_v<Allocator> && std::is_standard_layout_v<Allocator>);

}  // namespace cache_ext::core
