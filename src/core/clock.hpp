#pragma once

#include <atomic>
#include <cstdint>

#include "core/spinlock.hpp"

namespace cache_ext::core {

/// A point of the invalidation clock. Version 0 is "before any invalidation".
using Version = std::uint64_t;

/// A 64-bit (epoch-extended) transaction id; 0 is none.
using FullXid = std::uint64_t;

/// What the clock needs to know of a snapshot. The border fills it from the server's snapshot; tests make their own.
struct SnapshotView {
    FullXid xmin = 0;  ///< every xid below it had finished
    FullXid xmax = 0;  ///< no xid at or above it had finished
    std::uint32_t xcnt =
        0;  ///< xids running between the two, the caller's own counted in where it lies below xmax
    FullXid own_xid = 0;  ///< the caller's own top-level xid: never in a snapshot's list, and not finished
    bool own_finished =
        false;  ///< treat own_xid as finished: what the snapshot will mean once the caller has committed
    bool (*running)(const void* context,
                    FullXid xid) = nullptr;  ///< asked only for xmin <= xid < xmax, xid != own_xid
    const void* context = nullptr;
    std::uint64_t ended_by =
        0;  ///< `Clock::events` as it was before this snapshot was taken: who had ended by then is finished for it

    bool finished(FullXid xid) const noexcept {
        if (xid == 0) return true;  // registered by nobody who could still roll back
        if (xid == own_xid) return own_finished;
        if (xid < xmin) return true;
        if (xid >= xmax) return false;
        return !running(context, xid);
    }
};

/// The mark of one session (or of one prepared transaction) that has stamped and is not yet visible.
struct PendingMark {
    std::atomic<Version> version;  ///< its oldest stamp; 0 = none
    std::atomic<FullXid> xid;      ///< only for prepared transactions, whose end nobody here is told of
};

/// The invalidation clock.
///
/// Every transaction that invalidates takes the next version *before* it can become visible, and registers
/// (version, xid) here. The clock of a snapshot is the largest version such that all registrations up to it
/// belong to transactions that had finished for that snapshot; any lower bound of it may stand in for it.
///
/// Shared, in the region. Locking: `stamp` and the floor are under the clock's own spin lock; readers take no lock.
/// Lifetime: that of the region. A registration is never undone: an abort after the stamp leaves a version that nobody
/// needs, which costs a miss and nothing else.
class Clock {
public:
    /// Registrations that are remembered one by one. Older ones are covered by the floor.
    static constexpr std::uint32_t kRing = 1024;

    void init(Version start) noexcept;

    Version now() const noexcept { return now_.load(std::memory_order_acquire); }

    /// Registers the transaction `xid` and shows it as pending in `mark`, both before the new version can be seen by anyone.
    /// The caller then writes the version to everything that it invalidates, and clears the mark once its
    /// transaction is visible or gone.
    Version stamp(PendingMark& mark, FullXid xid) noexcept;

    /// Tells that the transaction, whose stamps lie between the two versions, is over: visible to every snapshot from now on, or gone.
    void end(Version first, Version last, FullXid xid) noexcept;

    /// Counts the ends that were told, and the floors: an order of time between them and the moments when snapshots are taken. What had ended
    /// when this was read is finished for every snapshot that is taken later.
    std::uint64_t events() const noexcept { return events_.load(std::memory_order_acquire); }

    /// clock(S). The snapshot must have been taken before the call: that order is what makes it safe.
    /// `truncated`, if given, is set where the answer is only the floor's because the ring was overrun.
    Version of(const SnapshotView& snapshot, bool* truncated = nullptr) const noexcept;

    /// How far the ring has run since the floor was last raised, in registrations.
    Version floor_lag() const noexcept { return now() - floor_version_.load(std::memory_order_relaxed); }

    /// First half of raising the floor: the largest version below every pending mark. `marks` is an array of `count` marks that
    /// lie `stride` bytes apart. A fresh snapshot must be taken *after* this and given to `raise_floor`.
    Version settled_bound(const PendingMark* marks, std::uint32_t count, std::size_t stride,
                          Version bound) const noexcept;

    /// Second half: every registration up to `version` has finished for any snapshot that is not older than (xmax, xcnt).
    void raise_floor(Version version, FullXid xmax, std::uint32_t xcnt) noexcept;

private:
    struct Slot {
        std::atomic<Version> version;
        std::atomic<FullXid> xid;
        std::atomic<FullXid> max_xid;      // the largest xid registered at this or any earlier version
        std::atomic<std::uint64_t> ended;  // at which event; 0 = nobody has told
    };

    Version floor_for(const SnapshotView& snapshot) const noexcept;

    alignas(64) std::atomic<Version> now_;
    alignas(64) mutable SpinLock lock_;
    FullXid max_xid_;
    std::atomic<Version> floor_version_;
    FullXid floor_xmax_;
    std::uint32_t floor_xcnt_;
    std::uint64_t floor_event_;
    std::atomic<std::uint64_t> events_;
    Version start_;  // nothing is registered at or below it
    alignas(64) Slot ring_[kRing];
};

}  // namespace cache_ext::core
