#pragma once

#include <atomic>
#include <cstdint>

#include "core/clock.hpp"
#include "core/read_counts.hpp"

namespace cache_ext::core {

/// What sessions tell the background worker, and each other, of the storage usage that is counted in a database: how much there is to fold, whether the worker is
/// wanted, and which transaction's changes nobody could write down. The figures themselves are in tables.
///
/// It is bounded: databases that find no place share the last one, so that they count wrongly in what only costs time.
///
/// Shared, in the region. Locking: none.
class StorageBook {
public:
    static constexpr std::int32_t kDatabases = 64;

    /// So many deltas are worth a worker.
    static constexpr std::uint32_t kFoldAfter = 256;

    /// The place of a database, taken if it has none.
    std::int32_t place(std::uint32_t database) noexcept {
        for (std::int32_t i = 0; i < kDatabases - 1; ++i) {
            std::uint32_t there = places_[i].database.load(std::memory_order_relaxed);
            if (there == database) return i;
            if (there == 0 && places_[i].database.compare_exchange_strong(there, database)) return i;
            if (there == database) return i;
        }
        return kDatabases - 1;
    }

    /// Counts deltas that a transaction is about to commit. Whether they are so many that the worker is wanted, and it was not before.
    bool add_deltas(std::int32_t place, std::uint32_t count) noexcept {
        Place& p = places_[place];
        const std::uint32_t before = p.deltas.fetch_add(count, std::memory_order_relaxed);
        return before + count >= kFoldAfter && !p.wanted.exchange(true, std::memory_order_relaxed);
    }
    std::uint32_t deltas(std::int32_t place) const noexcept {
        return places_[place].deltas.load(std::memory_order_relaxed);
    }

    /// Wants the worker. Whether it was not wanted before.
    bool want(std::int32_t place) noexcept {
        return !places_[place].wanted.exchange(true, std::memory_order_relaxed);
    }
    bool wanted(std::int32_t place) const noexcept {
        return places_[place].wanted.load(std::memory_order_relaxed);
    }
    std::uint32_t database(std::int32_t place) const noexcept {
        return place == kDatabases - 1 ? 0 : places_[place].database.load(std::memory_order_relaxed);
    }

    /// The worker begins: what is told from now on is for the next one.
    void begin_fold(std::int32_t place) noexcept {
        places_[place].wanted.store(false, std::memory_order_relaxed);
        places_[place].deltas.store(0, std::memory_order_relaxed);
    }

    /// A transaction whose changes were not written down, before it can be visible. Its id; of several, the greatest.
    void note_lost(std::int32_t place, FullXid xid) noexcept {
        std::atomic<FullXid>& lost = places_[place].lost;
        FullXid seen = lost.load(std::memory_order_relaxed);
        while (seen < xid && !lost.compare_exchange_weak(seen, xid, std::memory_order_acq_rel)) {
        }
    }
    /// Whoever sees that transaction may believe only what was counted anew under a snapshot to which it was finished; 0: there is none.
    FullXid lost(std::int32_t place) const noexcept {
        return places_[place].lost.load(std::memory_order_acquire);
    }

    /// Reads of users' usage that were answered from the sums.
    ReadCounts& reads() noexcept { return reads_; }

private:
    struct Place {
        std::atomic<std::uint32_t> database;
        std::atomic<std::uint32_t> deltas;
        std::atomic<bool> wanted;
        std::atomic<FullXid> lost;
    };
    Place places_[kDatabases];
    ReadCounts reads_;
};

}  // namespace cache_ext::core
