#include "core/clock.hpp"

#include <algorithm>
#include <cstddef>
#include <mutex>

namespace cache_ext::core {

void Clock::init(Version start) noexcept {
    now_.store(start, std::memory_order_relaxed);
    max_xid_ = 0;
    floor_version_.store(start, std::memory_order_relaxed);
    floor_xmax_ = 0;  // below any snapshot's: valid for all, since nothing is registered yet
    floor_xcnt_ = 0;
    floor_event_ = 0;
    events_.store(0, std::memory_order_relaxed);
    start_ = start;
    for (Slot& slot : ring_) {
        slot.version.store(0, std::memory_order_relaxed);
        slot.xid.store(0, std::memory_order_relaxed);
        slot.max_xid.store(0, std::memory_order_relaxed);
        slot.ended.store(0, std::memory_order_relaxed);
    }
}

Version Clock::stamp(PendingMark& mark, FullXid xid) noexcept {
    std::lock_guard guard(lock_);
    const Version version = now_.load(std::memory_order_relaxed) + 1;
    max_xid_ = std::max(max_xid_, xid);

    // A reader that meets the slot half written sees version 0, and takes it for overwritten: unfinished, which is safe.
    Slot& slot = ring_[version % kRing];
    slot.version.store(0, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    slot.xid.store(xid, std::memory_order_relaxed);
    slot.max_xid.store(max_xid_, std::memory_order_relaxed);
    slot.ended.store(0, std::memory_order_relaxed);
    slot.version.store(version, std::memory_order_release);

    // Within the lock and before the version is public: whoever raises the floor reads the clock first and the marks after
    // it, so it cannot pass over a version whose mark it does not find.
    if (mark.version.load(std::memory_order_relaxed) == 0)
        mark.version.store(version, std::memory_order_relaxed);
    now_.store(version, std::memory_order_release);
    return version;
}

void Clock::end(Version first, Version last, FullXid xid) noexcept {
    // Under the lock, so that a slot is not given to another registration between the look and the mark.
    std::lock_guard guard(lock_);
    const std::uint64_t event = events_.load(std::memory_order_relaxed) + 1;
    for (Version version = std::max(first, last < kRing ? Version{1} : last - kRing + 1); version <= last;
         ++version) {
        Slot& slot = ring_[version % kRing];
        if (slot.version.load(std::memory_order_relaxed) == version &&
            slot.xid.load(std::memory_order_relaxed) == xid) {
            slot.ended.store(event, std::memory_order_relaxed);
        }
    }
    events_.store(event, std::memory_order_release);
}

Version Clock::of(const SnapshotView& snapshot, bool* truncated) const noexcept {
    const Version newest = now();
    Version settled = newest;
    for (Version version = newest; version > start_; --version) {
        const Slot& slot = ring_[version % kRing];
        if (slot.version.load(std::memory_order_acquire) == version) {
            const FullXid xid = slot.xid.load(std::memory_order_relaxed);
            const FullXid max_xid = slot.max_xid.load(std::memory_order_relaxed);
            const std::uint64_t ended = slot.ended.load(std::memory_order_relaxed);
            std::atomic_thread_fence(std::memory_order_acquire);
            if (slot.version.load(std::memory_order_relaxed) == version) {
                if (max_xid < snapshot.xmin) return settled;  // the own xid is never below the own xmin
                const bool had_ended = ended != 0 && ended <= snapshot.ended_by;
                if (!had_ended && !snapshot.finished(xid)) settled = version - 1;
                continue;
            }
        }
        // Overwritten: of this registration and all before it only the floor knows anything.
        if (truncated) *truncated = true;
        const Version floor = floor_for(snapshot);
        return floor >= version ? settled : std::min(settled, floor);
    }
    return settled;
}

Version Clock::settled_bound(const PendingMark* marks, std::uint32_t count, std::size_t stride,
                             Version bound) const noexcept {
    const auto* bytes = reinterpret_cast<const std::byte*>(marks);
    for (std::uint32_t i = 0; i < count; ++i, bytes += stride) {
        const Version pending =
            reinterpret_cast<const PendingMark*>(bytes)->version.load(std::memory_order_acquire);
        if (pending != 0) bound = std::min(bound, pending - 1);
    }
    return bound;
}

void Clock::raise_floor(Version version, FullXid xmax, std::uint32_t xcnt) noexcept {
    std::lock_guard guard(lock_);
    if (version <= floor_version_.load(std::memory_order_relaxed)) return;
    floor_version_.store(version, std::memory_order_relaxed);
    floor_xmax_ = xmax;
    floor_xcnt_ = xcnt;
    floor_event_ = events_.load(std::memory_order_relaxed) + 1;
    events_.store(floor_event_, std::memory_order_release);
}

Version Clock::floor_for(const SnapshotView& snapshot) const noexcept {
    std::lock_guard guard(lock_);
    const bool later = (floor_event_ != 0 && floor_event_ <= snapshot.ended_by) ||
                       snapshot.xmax > floor_xmax_ ||
                       (snapshot.xmax == floor_xmax_ && snapshot.xcnt <= floor_xcnt_);
    return later ? floor_version_.load(std::memory_order_relaxed) : start_;
}

}  // namespace cache_ext::core
