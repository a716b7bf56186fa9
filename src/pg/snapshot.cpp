#include "pg/snapshot.hpp"

#include "pg/attach.hpp"
#include "pg/replication.hpp"
#include "pg/testing.hpp"

extern "C" {
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

namespace cache_ext::pg {

namespace {

/// The clock of the last snapshot, by what identifies it. The same bounds and counts are the same set of finished transactions: below
/// a fixed xmax it only ever shrinks.
struct Memo {
    TransactionId xmin = InvalidTransactionId;
    TransactionId xmax = InvalidTransactionId;
    std::uint32_t xcnt = 0;
    std::int32_t subxcnt = 0;
    bool same_transaction = false;
    core::Version newest = 0;  // of the clock when this was worked out
    core::Version clock = 0;
};

constinit Memo memo;

/// A recent 64-bit transaction id, from which 32-bit ones get their epoch. Within one transaction no id moves by more than half the space, since its
/// snapshot holds the horizon; between transactions it is read again after a second.
constinit core::FullXid reference = 0;
constinit TimestampTz reference_from = 0;

core::FullXid widen(TransactionId xid) noexcept {
    return reference - static_cast<std::uint64_t>(static_cast<std::int64_t>(
                           static_cast<std::int32_t>(static_cast<TransactionId>(reference) - xid)));
}

void refresh_reference() {
    const TimestampTz now = GetCurrentTransactionStartTimestamp();
    const TimestampTz age = now - reference_from;
    if (reference != 0 && age >= 0 && age < USECS_PER_SEC) return;
    reference = U64FromFullTransactionId(ReadNextFullTransactionId());
    reference_from = now;
}

/// Whether a transaction stands in the snapshot twice: while one is being prepared, the server has it both as its session's and as a prepared one.
bool has_doubles(const SnapshotData& snapshot) {
    if (max_prepared_xacts == 0 || snapshot.xcnt < 2 || snapshot.takenDuringRecovery) return false;
    constexpr std::uint32_t kFew = 32;
    if (snapshot.xcnt <= kFew) {
        for (std::uint32_t i = 1; i < snapshot.xcnt; ++i) {
            if (std::find(snapshot.xip, snapshot.xip + i, snapshot.xip[i]) != snapshot.xip + i) return true;
        }
        return false;
    }
    // As large as a snapshot can be.
    static TransactionId* const sorted = new (std::nothrow) TransactionId[GetMaxSnapshotXidCount()];
    if (sorted == nullptr) return true;
    std::copy_n(snapshot.xip, snapshot.xcnt, sorted);
    std::sort(sorted, sorted + snapshot.xcnt);
    return std::adjacent_find(sorted, sorted + snapshot.xcnt) != sorted + snapshot.xcnt;
}

bool running(const void* context, core::FullXid xid) {
    return XidInMVCCSnapshot(static_cast<TransactionId>(xid),
                             const_cast<Snapshot>(static_cast<const SnapshotData*>(context)));
}

core::SnapshotView view_of(const SnapshotData& snapshot) {
    refresh_reference();
    core::SnapshotView view;
    view.xmin = widen(snapshot.xmin);
    view.xmax = widen(snapshot.xmax);
    // On a standby all ids are among the subtransactions', top-level ones too.
    view.xcnt = snapshot.takenDuringRecovery ? static_cast<std::uint32_t>(snapshot.subxcnt) : snapshot.xcnt;
    if (const TransactionId own = GetTopTransactionIdIfAny(); TransactionIdIsValid(own)) {
        view.own_xid = widen(own);
        if (view.own_xid < view.xmax) ++view.xcnt;
    }
    view.running = running;
    view.context = &snapshot;
    return view;
}

/// The active snapshot, if the cache may be used under it.
const SnapshotData* usable_snapshot() {
    if (!ActiveSnapshotSet()) return nullptr;
    const SnapshotData* snapshot = GetActiveSnapshot();
    return snapshot->snapshot_type == SNAPSHOT_MVCC ? snapshot : nullptr;
}

/// Transactions that ran when the region was made may have invalidated without leaving a mark in it.
bool precedes_region(const core::SnapshotView& view) {
    return view.xmin < region().header().next_xid.load(std::memory_order_relaxed);
}

/// A clock that has been worked out, or 0 where the region did not know of all that it stands for. Asked after the clock was read: who makes the region
/// begin again, or stops being told, shows that first and moves the clock then.
core::Version believed(const core::SnapshotView& view, core::Version clock) {
    std::atomic_thread_fence(std::memory_order_acquire);
    return precedes_region(view) || !is_told() ? 0 : clock;
}

core::Version clock_of(const core::SnapshotView& view) {
    bool truncated = false;
    core::Version clock = region().clock().of(view, &truncated);
    if (truncated && region().clock().floor_lag() > kFloorLag) {
        raise_clock_floor();
        clock = region().clock().of(view);
    }
    return clock;
}

/// The clock's events when the last transaction of this backend ended. Every snapshot held since, but for imported ones, is later.
constinit std::uint64_t ended_by = 0;

/// Stands for the oldest snapshot that this backend may hold (an outer query's, a cursor's). Two things are known of it: none has an older xmin than
/// this, and none was taken before this transaction began. What is unfinished by both may be so for one of them.
core::SnapshotView oldest_view() {
    refresh_reference();
    core::SnapshotView oldest;
    oldest.xmin = oldest.xmax = widen(TransactionXmin);
    oldest.ended_by = ended_by;
    return oldest;
}

/// When this backend last looked for transactions that are over.
constinit TimestampTz reaped_at = 0;

/// Once a statement, so that many misses in one do not cost as many looks.
void reap_now_and_then() {
    if (!region().any_prepared() && !region().any_replicated()) [[likely]]
        return;
    if (const TimestampTz now = GetCurrentStatementStartTimestamp(); now != reaped_at) {
        reaped_at = now;
        reap_orphans();
    }
}

}  // namespace

void end_snapshots() noexcept {
    forget_snapshots();
    reaped_at = 0;
    // A preloaded region is there from the transaction on in which the session itself begins.
    ended_by = region() ? region().clock().events() : 0;
}

void forget_snapshots() noexcept {
    // What was worked out for a transaction without an id is still true of an equal snapshot, as long as nothing is registered since.
    memo.same_transaction = false;
    if (TransactionIdIsValid(GetTopTransactionIdIfAny())) memo.xmin = InvalidTransactionId;
}

core::Version snapshot_clock() {
    const SnapshotData* snapshot = usable_snapshot();
    if (snapshot == nullptr) return 0;
    if (testing::breaks(testing::Break::kNoRing)) return region().clock().now();
    if (snapshot->xmin == memo.xmin && snapshot->xmax == memo.xmax && snapshot->xcnt == memo.xcnt &&
        snapshot->subxcnt == memo.subxcnt && (memo.same_transaction || region().clock().now() == memo.newest))
        [[likely]] {
        return memo.clock;
    }
    const core::Version newest = region().clock().now();
    const core::SnapshotView view = view_of(*snapshot);
    memo.clock = believed(view, clock_of(view));
    memo.xmin = has_doubles(*snapshot) ? InvalidTransactionId : snapshot->xmin;
    memo.xmax = snapshot->xmax;
    memo.xcnt = snapshot->xcnt;
    memo.subxcnt = snapshot->subxcnt;
    memo.newest = newest;
    memo.same_transaction = true;
    return memo.clock;
}

core::Version fill_clock() {
    reap_now_and_then();
    const core::Version active = snapshot_clock();
    if (testing::breaks(testing::Break::kNoRing)) return active;
    if (active == 0 || IsolationUsesXactSnapshot()) return active;  // there is but one snapshot
    const core::SnapshotView oldest = oldest_view();
    return std::min(active, believed(oldest, region().clock().of(oldest)));
}

core::Version settled_newest() {
    const SnapshotData* snapshot = usable_snapshot();
    if (snapshot == nullptr) return 0;
    const core::Version newest = region().clock().now();
    core::SnapshotView view = view_of(*snapshot);
    view.own_finished = true;
    if (believed(view, region().clock().of(view)) < newest) return 0;
    if (IsolationUsesXactSnapshot()) return newest;
    core::SnapshotView oldest = oldest_view();
    oldest.own_xid = view.own_xid;
    oldest.own_finished = true;
    return believed(oldest, region().clock().of(oldest)) < newest ? 0 : newest;
}

namespace {

core::FullXid next_xid() { return U64FromFullTransactionId(ReadNextFullTransactionId()); }

/// Whether a transaction of the server's is over, and visible to every snapshot that is taken from now on, or gone. `next` is an id that is still to come.
bool is_over(core::FullXid xid, core::FullXid next) {
    // One that has begun since is not.
    const core::FullXid age = next > xid ? next - xid : 0;
    // None lasts that long; and 32 bits would show it as one that is still to come.
    if (age > FirstNormalTransactionId + static_cast<std::uint64_t>(INT32_MAX)) return true;
    const auto id = static_cast<TransactionId>(xid);
    if (!AmStartupProcess()) return !TransactionIdIsInProgress(id);
    // Whoever replays the log has no snapshots, without which the server takes half of all ids for finished. What it has replayed the end of is over
    // for all; of the rest, and of what is so old that the commit log may have lost it, sessions find out.
    constexpr core::FullXid kSurelyKept = 1'000'000;
    return age < kSurelyKept && (TransactionIdDidCommit(id) || TransactionIdDidAbort(id));
}

void reap_prepared() {
    if (!region().any_prepared()) return;
    const core::FullXid next = next_xid();
    const std::uint32_t count = region().header().prepared_count;
    for (std::uint32_t i = 0; i < count; ++i) {
        core::Prepared& prepared = region().prepared(i);
        const core::FullXid xid = prepared.mark.xid.load(std::memory_order_acquire);
        if (xid != 0 && is_over(xid, next)) region().release_prepared(prepared, xid);
    }
}

void reap_replicated() {
    if (!region().any_replicated()) return;
    const core::FullXid next = next_xid();
    for (std::uint32_t i = 0; i < region().header().replicated_count; ++i) {
        core::PendingMark& mark = region().replicated(i);
        const core::FullXid xid = mark.xid.load(std::memory_order_acquire);
        if (xid != 0 && is_over(xid, next)) region().release_replicated(mark, xid);
    }
}

}  // namespace

void reap_orphans() {
    reap_prepared();
    reap_replicated();
    // What was worked out before is right, but lower than need be.
    memo.same_transaction = false;
}

void raise_clock_floor() {
    if (!FirstSnapshotSet || IsInParallelMode()) return;
    reap_orphans();
    // The order makes it safe: the newest version, then the marks, then a fresh snapshot, then both together.
    const core::Version bound = region().settled_bound();
    const SnapshotData* fresh = GetLatestSnapshot();
    const core::SnapshotView view = view_of(*fresh);
    // Snapshots are compared by how many were running; counted twice, one would stand for another that still is.
    if (!has_doubles(*fresh)) region().clock().raise_floor(bound, view.xmax, view.xcnt);
}

}  // namespace cache_ext::pg
