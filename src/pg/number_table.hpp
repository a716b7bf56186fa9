#pragma once

// A hash table from 64-bit hashes that are well mixed to numbers other than 0: open addressing with linear probing, no memory of its own for
// each entry, and next to nothing to clear where it is small.

#include <cstdint>
#include <vector>

namespace cache_ext::pg {

class NumberTable {
public:
    constexpr NumberTable() = default;

    /// The number of a hash; 0: there is none.
    std::uint64_t find(std::uint64_t hash) const noexcept {
        if (used_ == 0) return 0;
        for (std::size_t at = hash & mask(); cells_[at].number != 0; at = (at + 1) & mask()) {
            if (cells_[at].hash == hash) return cells_[at].number;
        }
        return 0;
    }

    /// Makes sure that the next `set` of a hash that is not there needs no memory. Throws std::bad_alloc.
    void reserve_one();

    /// Gives a hash its number. If it is new, `reserve_one` has been called since the last one that was.
    void set(std::uint64_t hash, std::uint64_t number) noexcept;

    void erase(std::uint64_t hash) noexcept;
    void clear() noexcept;

    template <class Visit>
    void for_each(Visit&& visit) const {
        for (const Cell& cell : cells_) {
            if (cell.number != 0) visit(cell.number);
        }
    }

private:
    struct Cell {
        std::uint64_t hash = 0;
        std::uint64_t number = 0;  // 0 = unused
    };
    static constexpr std::size_t kFirst = 16;
    static constexpr std::size_t kKept = 64;  // cells that clear() keeps

    std::size_t mask() const noexcept { return cells_.size() - 1; }

    std::vector<Cell> cells_;  // none, or a power of two
    std::size_t used_ = 0;
};

}  // namespace cache_ext::pg
