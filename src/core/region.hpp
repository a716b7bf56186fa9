#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "core/clock.hpp"
#include "core/duties.hpp"
#include "core/function_stats.hpp"
#include "core/flights.hpp"
#include "core/offers.hpp"
#include "core/prepared.hpp"
#include "core/pushers.hpp"
#include "core/replica.hpp"
#include "core/session.hpp"
#include "core/storage_book.hpp"
#include "core/store.hpp"
#include "core/watches.hpp"

namespace cache_ext::core {

/// What a region is made with. All of it is fixed for its life.
struct RegionOptions {
    std::size_t bytes = 0;       ///< of memory, all of it zero
    std::uint32_t sessions = 0;  ///< how many sessions the server may have at once
    std::uint32_t prepared = 0;  ///< how many prepared transactions
    std::uint32_t replicated =
        0;  ///< how many transactions of another server, of which the log tells, may be under way at once
    std::uint64_t seed = 0;  ///< random: keys are hashed with it
    Id128 instance;          ///< random: tells this region from all others, for leases
    FullXid next_xid = 0;    ///< the server's next transaction id at this moment
};

/// The head of the region. Everything else in it is found from here by Refs. Its large parts begin cache lines of their own.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): so its order is that of what belongs together
struct RegionHeader {
    static constexpr std::uint64_t kMagic = 0x7478655f65686361ULL;
    static constexpr std::uint32_t kLayoutVersion = 10;

    std::uint64_t magic;
    std::uint32_t layout_version;
    std::uint32_t session_count;
    std::uint32_t prepared_count;
    std::uint32_t replicated_count;
    Ref sessions;
    Ref prepared;
    Ref replicated;
    std::uint64_t bytes;
    Id128 instance;
    std::atomic<FullXid>
        next_xid;  ///< snapshots with an older xmin neither read nor fill: what they wait for may have left no mark here
    std::atomic<std::uint32_t> prepared_claimed;    ///< how many of `prepared` are somebody's
    std::atomic<std::uint32_t> replicated_claimed;  ///< how many of `replicated`
    Replica replica;
    Duties duties;
    Pushers pushers;
    Offers offers;
    StorageBook storage;
    std::atomic<std::uint64_t> counted_before[static_cast<std::size_t>(
        Counter::kCount)];                 ///< totals when statistics were last reset
    std::atomic<Timestamp> counted_since;  ///< when that was; 0 = never
    Clock clock;
    Watches watches;
    FunctionTotals functions;
    Flights flights;
    Store store;
};

/// A process's view of the region: where it is mapped, and the calls that need both the clock and the store.
///
/// Lifetime: the region lives until the server stops or crashes; a view may be copied freely and costs one pointer.
class Region {
public:
    Region() = default;

    /// The smallest region that can be made with these options, in bytes.
    static std::size_t smallest(const RegionOptions& options) noexcept;

    /// Makes a region in zeroed memory, at least page-aligned. An empty view: the memory is too small.
    static Region create(void* memory, const RegionOptions& options) noexcept;

    /// A view of a region that another process made. An empty view: it is none of this version.
    static Region open(void* memory) noexcept;

    explicit operator bool() const noexcept { return base_.p != nullptr; }
    Base base() const noexcept { return base_; }
    RegionHeader& header() const noexcept { return *reinterpret_cast<RegionHeader*>(base_.p); }
    Clock& clock() const noexcept { return header().clock; }
    Duties& duties() const noexcept { return header().duties; }
    StorageBook& storage() const noexcept { return header().storage; }
    Flights& flights() const noexcept { return header().flights; }
    Pushers& pushers() const noexcept { return header().pushers; }
    Offers& offers() const noexcept { return header().offers; }
    Store& store() const noexcept { return header().store; }
    Watches& watches() const noexcept { return header().watches; }

    SessionSlot& session(std::uint32_t index) const noexcept {
        return base_.at<SessionSlot>(header().sessions)[index];
    }
    Prepared& prepared(std::uint32_t index) const noexcept {
        return base_.at<Prepared>(header().prepared)[index];
    }

    /// Clock::stamp, and a note of who did it and when.
    Version take_version(PendingMark& mark, FullXid xid) const noexcept;

    /// For a transaction that is about to be prepared; what it has already, if it has. Null: none is free.
    Prepared* claim_prepared(FullXid xid) const noexcept;
    bool any_prepared() const noexcept {
        return header().prepared_claimed.load(std::memory_order_relaxed) != 0;
    }

    /// Ends its quarantines and gives it back, if it is still this transaction's: by whoever finds that it is over.
    void release_prepared(Prepared& prepared, FullXid xid) const noexcept;

    /// A mark for a transaction of another server that invalidates, by the process that replays its log; the one that it has already, if it has one.
    /// Null: none is free.
    PendingMark* claim_replicated(FullXid xid) const noexcept;
    PendingMark& replicated(std::uint32_t index) const noexcept {
        return base_.at<PendingMark>(header().replicated)[index];
    }
    bool any_replicated() const noexcept {
        return header().replicated_claimed.load(std::memory_order_relaxed) != 0;
    }

    /// Gives it back, if it is still this transaction's: by whoever finds that it is over.
    void release_replicated(PendingMark& mark, FullXid xid) const noexcept;

    /// Makes a miss of everything that is in there or is being computed.
    void forget_everything() const noexcept;

    /// From now on snapshots for which a transaction below this id may be unfinished neither read nor fill.
    void bypass_before(FullXid xid) const noexcept {
        FullXid seen = header().next_xid.load(std::memory_order_relaxed);
        while (seen < xid && !header().next_xid.compare_exchange_weak(seen, xid, std::memory_order_acq_rel)) {
        }
    }

    /// The largest version below all pending marks, of sessions and of transactions that outlive or have none. See Clock::settled_bound.
    Version settled_bound() const noexcept;

    std::uint64_t total(Counter counter) const noexcept;

    /// What was counted since the statistics were last reset. The counters themselves only ever grow.
    std::uint64_t counted(Counter counter) const noexcept;
    /// What was counted of a cached function since the region was made.
    FunctionCounts counted_of(std::uint64_t function) const noexcept;
    void reset_counted(Timestamp now) const noexcept;

private:
    bool take_away(PendingMark& mark, FullXid xid) const noexcept;
    void end_stamps(PendingMark& mark, FullXid xid) const noexcept;
    explicit Region(void* memory) noexcept : base_{static_cast<std::byte*>(memory)} {}

    Base base_;
};

}  // namespace cache_ext::core
