#include "pg/number_table.hpp"

#include <algorithm>
#include <utility>

namespace cache_ext::pg {

void NumberTable::reserve_one() {
    if ((used_ + 1) * 2 <= cells_.size()) return;
    std::vector<Cell> old(cells_.empty() ? kFirst : cells_.size() * 2);
    old.swap(cells_);
    used_ = 0;
    for (const Cell& cell : old) {
        if (cell.number != 0) set(cell.hash, cell.number);
    }
}

void NumberTable::set(std::uint64_t hash, std::uint64_t number) noexcept {
    std::size_t at = hash & mask();
    while (cells_[at].number != 0 && cells_[at].hash != hash)
        at = (at + 1) & mask();
    if (cells_[at].number == 0) ++used_;
    cells_[at] = {hash, number};
}

void NumberTable::erase(std::uint64_t hash) noexcept {
    if (find(hash) == 0) return;
    std::size_t hole = hash & mask();
    while (cells_[hole].hash != hash || cells_[hole].number == 0)
        hole = (hole + 1) & mask();
    // What follows without a gap moves up, unless its own place lies behind the hole.
    for (std::size_t at = (hole + 1) & mask(); cells_[at].number != 0; at = (at + 1) & mask()) {
        const std::size_t home = cells_[at].hash & mask();
        if (((at - home) & mask()) >= ((at - hole) & mask())) {
            cells_[hole] = cells_[at];
            hole = at;
        }
    }
    cells_[hole] = {};
    --used_;
}

void NumberTable::clear() noexcept {
    if (used_ == 0) return;
    used_ = 0;
    if (cells_.size() > kKept) {
        std::vector<Cell>().swap(cells_);
    } else {
        std::fill(cells_.begin(), cells_.end(), Cell{});
    }
}

}  // namespace cache_ext::pg
