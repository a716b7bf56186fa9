#pragma once

#include <atomic>
#include <cstdint>

namespace cache_ext::core {

/// How often something was read, by a hash of what it is, for as much as there is room for: what is read least gives way.
///
/// Two things of the same 32 bits within a set are counted together. Counts that meet in the same moment may lose one. Shared, in the region. Locking: none.
class ReadCounts {
public:
    static constexpr std::uint32_t kSets = 512;
    static constexpr std::uint32_t kWays = 4;

    void count(std::uint64_t hash) noexcept {
        Cell* least = nullptr;
        for (Cell& cell : set(hash)) {
            const std::uint64_t seen = cell.load(std::memory_order_relaxed);
            if (tag_of(seen) == tag(hash)) {
                if (count_of(seen) != UINT32_MAX) cell.fetch_add(1, std::memory_order_relaxed);
                return;
            }
            if (least == nullptr || count_of(seen) < count_of(least->load(std::memory_order_relaxed)))
                least = &cell;
        }
        least->store(std::uint64_t{tag(hash)} << 32 | 1, std::memory_order_relaxed);
    }

    /// 0: never, or not that anyone remembers.
    std::uint32_t get(std::uint64_t hash) noexcept {
        for (const Cell& cell : set(hash)) {
            const std::uint64_t seen = cell.load(std::memory_order_relaxed);
            if (tag_of(seen) == tag(hash)) return count_of(seen);
        }
        return 0;
    }

private:
    using Cell = std::atomic<std::uint64_t>;  // tag, count; 0 = unused
    using Set = Cell[kWays];

    static std::uint32_t tag(std::uint64_t hash) noexcept {
        return static_cast<std::uint32_t>(hash >> 32) | 1;
    }
    static std::uint32_t tag_of(std::uint64_t cell) noexcept {
        return static_cast<std::uint32_t>(cell >> 32);
    }
    static std::uint32_t count_of(std::uint64_t cell) noexcept { return static_cast<std::uint32_t>(cell); }
    Set& set(std::uint64_t hash) noexcept { return sets_[hash % kSets]; }

    Set sets_[kSets];
};

}  // namespace cache_ext::core
