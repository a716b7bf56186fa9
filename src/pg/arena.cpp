#include "pg/arena.hpp"

#include <algorithm>

namespace cache_ext::pg {

void Arena::next_piece(std::size_t least) {
    // Pieces that were rewound over are used again if they are large enough, and else make room for one that is.
    while (current_ < pieces_.size() && pieces_[current_].bytes < least)
        pieces_.erase(pieces_.begin() + static_cast<std::ptrdiff_t>(current_));
    if (current_ == pieces_.size()) {
        const std::size_t next = current_ == 0 ? kFirst : std::min(pieces_[current_ - 1].bytes * 2, kLargest);
        const std::size_t bytes = std::max(next, least);
        pieces_.reserve(pieces_.size() + 1);
        pieces_.push_back({std::unique_ptr<std::byte[]>(new std::byte[bytes]), bytes});
    }
    ++current_;
    used_ = 0;
}

void Arena::clear() noexcept {
    std::size_t kept = 0;
    std::size_t bytes = 0;
    while (kept < pieces_.size() && bytes + pieces_[kept].bytes <= kKept)
        bytes += pieces_[kept++].bytes;
    pieces_.erase(pieces_.begin() + static_cast<std::ptrdiff_t>(kept), pieces_.end());
    current_ = 0;
    used_ = 0;
}

}  // namespace cache_ext::pg
