// Hashing of keys: blocks of 16 bytes are folded into the state by a multiplication of 64 by 64 bits whose
// two halves are combined, the construction known from wyhash and its relatives.
//
// A hash is meant for tables in memory, seeded per region. It is no defence against someone who knows the
// seed and chooses keys, and it is the same on every machine of one byte order only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace cache_ext::core {

namespace detail {

// Odd, half of the bits set, and unrelated: the fractional digits of e, the square root of 7 and the cube
// root of 11, adjusted in the last two bytes to have 32 bits set.
inline constexpr std::uint64_t kHashSeed = 0xb7e151628aed2a69;
inline constexpr std::uint64_t kHashLow = 0xa54ff53a5f1d3001;
inline constexpr std::uint64_t kHashHigh = 0x3956c25bf348b531;

inline std::uint64_t load_8(const char* p) noexcept {
    std::uint64_t word;
    std::memcpy(&word, p, sizeof word);
    return word;
}

inline std::uint64_t load_4(const char* p) noexcept {
    std::uint32_t word;
    std::memcpy(&word, p, sizeof word);
    return word;
}

// Both halves of the product, folded into one. Zero when an operand is zero, so operands are never bare
// input: each is input combined with a constant or with the state.
inline std::uint64_t fold(std::uint64_t a, std::uint64_t b) noexcept {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace detail

// One well mixed value of two: to combine hashes or to hash a number with a seed.
[[nodiscard]] inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
    const std::uint64_t once = detail::fold(a ^ detail::kHashLow, b ^ detail::kHashHigh);
    return detail::fold(once ^ a ^ detail::kHashSeed, detail::kHashLow ^ b);
}

// The hash of a byte string. All 64 bits are usable, each half on its own too.
[[nodiscard]] inline std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed) noexcept {
    using namespace detail;
    const char* p = bytes.data();
    const std::size_t size = bytes.size();
    std::uint64_t state = seed ^ fold(seed ^ kHashSeed, kHashLow);
    std::uint64_t a = 0;
    std::uint64_t b = 0;

    if (size > 16) [[likely]] {
        std::size_t left = size;
        if (left > 64) {
            // Two chains side by side, so that the second multiplication need not wait for the first.
            std::uint64_t other = state ^ kHashHigh;
            do {
                state = fold(load_8(p) ^ kHashLow, load_8(p + 8) ^ state);
                other = fold(load_8(p + 16) ^ kHashHigh, load_8(p + 24) ^ other);
                p += 32;
                left -= 32;
            } while (left > 64);
            state ^= other;
        }
        while (left > 16) {
            state = fold(load_8(p) ^ kHashHigh, load_8(p + 8) ^ state);
            p += 16;
            left -= 16;
        }
        // The last 16 bytes, which overlap with what has been folded in already: no case for each remainder.
        a = load_8(p + left - 16);
        b = load_8(p + left - 8);
    } else if (size >= 8) {
        a = load_8(p);
        b = load_8(p + size - 8);
    } else if (size >= 4) {
        a = load_4(p);
        b = load_4(p + size - 4);
    } else if (size > 0) {
        const auto at = [p](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(p[i])}; };
        a = at(0) << 16 | at(size / 2) << 8 | at(size - 1);
    }

    // The length tells apart inputs whose overlapping reads agree.
    const std::uint64_t last = fold(a ^ kHashLow ^ size, b ^ state);
    return fold(last ^ kHashSeed, state ^ kHashHigh ^ size);
}

}  // namespace cache_ext::core
