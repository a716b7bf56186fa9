#pragma once

// Memory for texts and values that live until the transaction ends, or until the savepoint that made them is rolled back: taken in large
// pieces, one after the other, and given back in the opposite order.

#include <cstddef>
#include <memory>
#include <vector>

namespace cache_ext::pg {

class Arena {
public:
    /// What clear() keeps for the next transaction, in bytes.
    static constexpr std::size_t kKept = 256 * 1024;

    /// A point to which it can be rewound.
    struct Mark {
        std::size_t pieces = 0;
        std::size_t used = 0;
    };

    constexpr Arena() = default;

    Mark mark() const noexcept { return {current_, used_}; }

    /// Uninitialised memory, aligned for any fundamental type. Throws std::bad_alloc.
    std::byte* allocate(std::size_t bytes) {
        const std::size_t rounded = (bytes + kAlign - 1) / kAlign * kAlign;
        if (current_ == 0 || pieces_[current_ - 1].bytes - used_ < rounded) [[unlikely]]
            next_piece(rounded);
        std::byte* const at = pieces_[current_ - 1].memory.get() + used_;
        used_ += rounded;
        return at;
    }

    /// Gives back what was allocated since the mark was taken.
    void rewind(Mark mark) noexcept {
        current_ = mark.pieces;
        used_ = mark.used;
    }

    /// Gives back everything.
    void clear() noexcept;

private:
    static constexpr std::size_t kAlign = alignof(std::max_align_t);
    static constexpr std::size_t kFirst = 16 * 1024;
    static constexpr std::size_t kLargest = 4 * 1024 * 1024;

    struct Piece {
        std::unique_ptr<std::byte[]> memory;
        std::size_t bytes;
    };

    void next_piece(std::size_t least);

    std::vector<Piece> pieces_;
    std::size_t current_ = 0;  // the number of pieces in use; the last of them is allocated from
    std::size_t used_ = 0;     // of that one, in bytes
};

}  // namespace cache_ext::pg
