#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace cache_ext::core {

/// What is counted of one cached function.
struct FunctionCounts {
    std::uint64_t hits = 0;
    std::uint64_t computations = 0;
    std::uint64_t compute_us = 0;  ///< of all computations together
};

/// The counts of all cached functions, but for the hits that sessions still have in their own cells. A function is known by a hash that is not 0. Bounded:
/// a function that finds no place is not counted.
///
/// Shared, in the region. Locking: none; places are taken for ever.
class FunctionTotals {
public:
    static constexpr std::size_t kPlaces = 512;
    static constexpr std::size_t kProbes = 16;

    void add_hits(std::uint64_t function, std::uint64_t n) noexcept {
        if (Place* p = place_for(function)) p->hits.fetch_add(n, std::memory_order_relaxed);
    }
    void add_computation(std::uint64_t function, std::uint64_t micros) noexcept {
        Place* p = place_for(function);
        if (p == nullptr) return;
        p->computations.fetch_add(1, std::memory_order_relaxed);
        p->compute_us.fetch_add(micros, std::memory_order_relaxed);
    }
    FunctionCounts get(std::uint64_t function) const noexcept {
        for (std::size_t i = 0; i < kProbes; ++i) {
            const Place& p = places_[(function + i) % kPlaces];
            if (p.function.load(std::memory_order_acquire) != function) continue;
            return {p.hits.load(std::memory_order_relaxed), p.computations.load(std::memory_order_relaxed),
                    p.compute_us.load(std::memory_order_relaxed)};
        }
        return {};
    }

private:
    struct Place {
        std::atomic<std::uint64_t> function;  // 0 = free
        std::atomic<std::uint64_t> hits;
        std::atomic<std::uint64_t> computations;
        std::atomic<std::uint64_t> compute_us;
    };

    Place* place_for(std::uint64_t function) noexcept {
        for (std::size_t i = 0; i < kProbes; ++i) {
            Place& p = places_[(function + i) % kPlaces];
            std::uint64_t seen = p.function.load(std::memory_order_acquire);
            if (seen == 0 && p.function.compare_exchange_strong(seen, function, std::memory_order_acq_rel))
                return &p;
            if (seen == function) return &p;
        }
        return nullptr;
    }

    Place places_[kPlaces];
};

/// The hits that one session had and has not added to the totals, so that a hit writes no memory that another session's hit writes too.
///
/// Locking: none. Only its session writes; others read, and may count what is just being moved twice or not at all.
class FunctionHits {
public:
    static constexpr std::size_t kCells = 32;

    void add(std::uint64_t function, FunctionTotals& totals) noexcept {
        Cell& cell = cells_[function % kCells];
        if (cell.function.load(std::memory_order_relaxed) != function) [[unlikely]] {
            if (const std::uint64_t old = cell.function.load(std::memory_order_relaxed); old != 0)
                totals.add_hits(old, cell.hits.load(std::memory_order_relaxed));
            cell.hits.store(0, std::memory_order_relaxed);
            cell.function.store(function, std::memory_order_relaxed);
        }
        cell.hits.store(cell.hits.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
    }
    std::uint64_t get(std::uint64_t function) const noexcept {
        const Cell& cell = cells_[function % kCells];
        return cell.function.load(std::memory_order_relaxed) == function
                   ? cell.hits.load(std::memory_order_relaxed)
                   : 0;
    }

private:
    struct Cell {
        std::atomic<std::uint64_t> function;  // 0 = unused
        std::atomic<std::uint64_t> hits;
    };
    Cell cells_[kCells];
};

}  // namespace cache_ext::core
