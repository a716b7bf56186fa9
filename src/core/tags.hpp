#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "core/allocator.hpp"
#include "core/entry.hpp"
#include "core/ref.hpp"
#include "core/spinlock.hpp"

namespace cache_ext::core {

/// The upper bits of a version that is kept for a tag or in a cell: how many quarantines lie on it. Nothing is ever born so late, so that whatever is
/// in quarantine is neither served nor stored by the rule that holds anyway.
inline constexpr unsigned kQuarantineShift = 52;
inline constexpr Version kOneQuarantine = Version{1} << kQuarantineShift;
inline constexpr Version kVersionMask = kOneQuarantine - 1;

/// A tag of one space. `hash` is `TagTable::hash(space, text)`.
struct TagName {
    Id128 space;
    std::string_view text;
    std::uint64_t hash = 0;
};

/// The exact slot of a tag that live entries carry. Its text follows.
struct TagSlot {
    std::atomic<Version> version;  ///< of the newest stamp, and whether it is in quarantine
    std::uint64_t hash;
    Id128 space;
    Ref next;
    std::uint32_t entries;  ///< how many carry it
    std::uint32_t text_bytes;
    std::uint32_t unused;

    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(this + 1), text_bytes}; }
};

/// The newest stamp of every tag: exactly for a tag that some entry carries, and as an upper bound, in cells shared by hash,
/// for all others. So a stamp needs no memory, whatever it names, and a live entry is never lost to a collision.
///
/// Locking: slots are linked and unlinked under the store's lock *and* the lock of their partition; stampers hold only the latter. Within one
/// partition's lock a stamp writes the cell and then the slot, and a new slot takes its version from the cell, so none is ever lost.
/// Versions are only ever raised. Readers take no lock: an entry that is still linked holds its slots. A reader whose entry has gone may look at
/// anything, so that all stores into a slot are relaxed atomic ones.
class TagTable {
public:
    static constexpr std::uint32_t kPartitions = 64;

    /// `cells` is an array of `cell_count` versions and `heads` one of `head_count` Refs, zeroed. Both counts are
    /// powers of two and at least `kPartitions`, and there are at least as many heads as cells: so all that shares a cell shares a partition, and
    /// is found from a few heads.
    void init(Ref cells, std::uint32_t cell_count, Ref heads, std::uint32_t head_count,
              std::uint64_t seed) noexcept;

    std::uint64_t hash(const Id128& space, std::string_view text) const noexcept;

    /// Raises the version of a tag. Takes only the partition's lock.
    void stamp(Base base, const TagName& name, Version version) noexcept;

    /// Raises the cell only: for things that have no slot (keys, whole spaces).
    void stamp_cell(Base base, std::uint64_t hash, Version version) noexcept;

    /// Puts a tag in quarantine, which ends with `lift` of its cell. False: there are too many quarantines of that cell. Takes only the partition's lock.
    bool quarantine(Base base, const TagName& name) noexcept;

    /// The same for things that have no slot.
    bool quarantine_cell(Base base, std::uint64_t hash) noexcept;

    /// Ends one quarantine of a cell, after everything that was in it has got this version. What is in the cell stays in quarantine until its last one ends.
    void lift(Base base, std::uint32_t cell, Version version) noexcept;

    /// Which cell remembers what has this hash.
    std::uint32_t cell_number(std::uint64_t hash) const noexcept {
        return static_cast<std::uint32_t>(hash & (cell_count_ - 1));
    }

    /// An upper bound of the newest stamp of whatever has this hash.
    Version cell(Base base, std::uint64_t hash) const noexcept {
        return cell_of(base, hash).load(std::memory_order_acquire);
    }

    /// The newest stamp of a tag: exact where it has a slot, else the bound.
    Version version(Base base, const TagName& name) noexcept;

    /// The tag's slot, made if there is none, with one more entry counted; 0: no memory. Under the store's lock.
    Ref acquire(Base base, Allocator& allocator, const TagName& name) noexcept;

    /// One entry fewer; the last one takes the slot with it. Under the store's lock.
    void release(Base base, Allocator& allocator, Ref slot) noexcept;

    /// The tag's slot, or 0. Under the store's lock.
    Ref find(Base base, const TagName& name) const noexcept;

    std::uint32_t slot_count() const noexcept { return slots_; }

private:
    struct alignas(64) Partition {
        SpinLock lock;
    };

    Partition& partition(std::uint64_t hash) noexcept { return partitions_[hash % kPartitions]; }
    std::atomic<Version>& cell_of(Base base, std::uint64_t hash) const noexcept {
        return base.at<std::atomic<Version>>(cells_)[cell_number(hash)];
    }
    Ref& head_of(Base base, std::uint64_t hash) const noexcept {
        return base.at<Ref>(heads_)[hash & (head_count_ - 1)];
    }
    TagSlot* lookup(Base base, const TagName& name) const noexcept;

    Ref cells_;
    std::uint32_t cell_count_;
    Ref heads_;
    std::uint32_t head_count_;
    std::uint64_t seed_;
    std::uint32_t slots_;
    Partition partitions_[kPartitions];
};

/// Raises an atomic to at least `version`, and leaves its quarantines.
inline void raise(std::atomic<Version>& at, Version version) noexcept {
    Version seen = at.load(std::memory_order_relaxed);
    while ((seen & kVersionMask) < version &&
           !at.compare_exchange_weak(seen, (seen & ~kVersionMask) | version, std::memory_order_acq_rel)) {
    }
}

}  // namespace cache_ext::core
