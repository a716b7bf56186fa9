#pragma once

#include <atomic>
#include <cstdint>

#include "core/clock.hpp"
#include "core/function_stats.hpp"
#include "core/ref.hpp"

namespace cache_ext::core {

/// What is counted. Each session counts for itself; a total is the sum over all.
enum class Counter : std::uint8_t {
    kHits,
    kMisses,
    kStaleHits,
    kSets,
    kRefusedSets,
    kEvictions,
    kInvalidations,
    kExpired,  ///< entries removed because their time was over
    kComputations,
    kComputeMicros,
    kSavedMicros,  ///< computing time of the entries that were hit
    kTimedHits,    ///< hits whose duration was measured
    kHitNanos,     ///< their duration together
    kCount
};

class Counters {
public:
    /// Only by the session that owns them: a plain increment, no locked instruction.
    void add(Counter counter, std::uint64_t n = 1) noexcept {
        auto& value = values_[static_cast<std::size_t>(counter)];
        value.store(value.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    }
    std::uint64_t get(Counter counter) const noexcept {
        return values_[static_cast<std::size_t>(counter)].load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> values_[static_cast<std::size_t>(Counter::kCount)];
};

/// Hits that this session had and nobody has been told of yet, so that a hit writes no memory that another session's hit
/// writes too.
///
/// Locking: the owner adds and counts without a lock; it and others take counts away, and the owner reuses cells, under the store's lock. A
/// cell's entry changes only by the owner.
class HitBuffer {
public:
    static constexpr std::uint32_t kCells = 32;
    static constexpr std::uint32_t kProbes = 4;

    struct Cell {
        std::atomic<Ref> entry;  // 0 = unused
        std::atomic<std::uint32_t> hash_low;
        std::atomic<std::uint32_t> count;  // by the owner, ever growing while the entry is the same
        std::atomic<std::uint32_t> taken;  // of those, already added to the entry
    };

    /// False: no cell is left for this entry; flush, then add again.
    bool add(Ref entry, std::uint32_t hash_low) noexcept {
        const std::uint32_t home = (entry * 0x9e3779b9U) >> 27;
        for (std::uint32_t i = 0; i < kProbes; ++i) {
            Cell& cell = cells_[(home + i) % kCells];
            const Ref at = cell.entry.load(std::memory_order_relaxed);
            if (at == entry && cell.hash_low.load(std::memory_order_relaxed) == hash_low) {
                cell.count.store(cell.count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
                return true;
            }
            if (at == 0) {
                cell.hash_low.store(hash_low, std::memory_order_relaxed);
                cell.count.store(1, std::memory_order_relaxed);
                cell.taken.store(0, std::memory_order_relaxed);
                cell.entry.store(entry, std::memory_order_release);
                used_.store(true, std::memory_order_release);
                return true;
            }
        }
        return false;
    }

    bool used() const noexcept { return used_.load(std::memory_order_acquire); }
    void emptied() noexcept { used_.store(false, std::memory_order_relaxed); }  // by the owner

    Cell* begin() noexcept { return cells_; }
    Cell* end() noexcept { return cells_ + kCells; }

private:
    Cell cells_[kCells];
    std::atomic<bool> used_;
};

/// What the region keeps for one session, by the server's own number for it. Counters outlive the session.
struct alignas(64) SessionSlot {
    PendingMark mark;
    Counters counters;
    HitBuffer hits;
    FunctionHits function_hits;
};

}  // namespace cache_ext::core
