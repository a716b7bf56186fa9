#include "core/hash.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace cache_ext::core {
namespace {

constexpr std::uint64_t kSeed = 0x1234;

TEST(Hash, equal_bytes_at_any_alignment_hash_alike) {
    std::array<char, 256 + 8> buffer;
    for (std::size_t size = 0; size <= 256; ++size) {
        std::string text(size, '\0');
        for (std::size_t i = 0; i < size; ++i)
            text[i] = static_cast<char>(i * 37 + size);
        const std::uint64_t expected = hash_bytes(text, kSeed);
        for (std::size_t shift = 0; shift < 8; ++shift) {
            std::memcpy(buffer.data() + shift, text.data(), size);
            EXPECT_EQ(hash_bytes({buffer.data() + shift, size}, kSeed), expected);
        }
    }
}

TEST(Hash, reads_nothing_beyond_its_input) {
    for (std::size_t size = 0; size <= 200; ++size) {
        const std::unique_ptr<char[]> exact(new char[size]);
        std::memset(exact.get(), 'x', size);
        EXPECT_EQ(hash_bytes({exact.get(), size}, kSeed), hash_bytes(std::string(size, 'x'), kSeed));
    }
    EXPECT_EQ(hash_bytes({}, kSeed), hash_bytes("", kSeed));
}

TEST(Hash, depends_on_every_byte_and_on_the_length) {
    std::vector<std::uint64_t> seen;
    for (std::size_t size = 0; size <= 200; ++size) {
        std::string text(size, '\0');
        seen.push_back(hash_bytes(text, kSeed));
        for (std::size_t i = 0; i < size; ++i) {
            text[i] = 1;
            seen.push_back(hash_bytes(text, kSeed));
            text[i] = 0;
        }
    }
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

TEST(Hash, depends_on_the_order_of_blocks) {
    std::string text(128, '\0');
    for (std::size_t i = 0; i < text.size(); ++i)
        text[i] = static_cast<char>(i);
    std::vector<std::uint64_t> seen{hash_bytes(text, kSeed)};
    for (std::size_t a = 0; a < 16; ++a) {
        for (std::size_t b = 0; b < a; ++b) {
            std::string swapped = text;
            std::swap_ranges(swapped.begin() + static_cast<long>(a * 8),
                             swapped.begin() + static_cast<long>(a * 8 + 8),
                             swapped.begin() + static_cast<long>(b * 8));
            seen.push_back(hash_bytes(swapped, kSeed));
        }
    }
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

TEST(Hash, seeds_give_unrelated_hashes) {
    for (const char* text : {"", "a", "user:42", "a key of more than sixteen bytes"}) {
        int bits = 0;
        for (std::uint64_t seed = 0; seed < 1000; ++seed) {
            bits += std::popcount(hash_bytes(text, seed) ^ hash_bytes(text, seed + 1));
        }
        EXPECT_NEAR(bits / 1000.0, 32, 0.7) << text;
    }
}

// Flipping one bit of the input flips each bit of the output with probability one half.
TEST(Hash, has_avalanche_at_every_length) {
    std::mt19937_64 random(5);
    for (std::size_t size : {1u, 3u, 4u, 7u, 8u, 12u, 16u, 17u, 24u, 32u, 33u, 48u, 64u, 65u, 100u, 130u}) {
        constexpr int kRounds = 400;
        std::vector<std::array<int, 64>> flips(size * 8);
        for (int round = 0; round < kRounds; ++round) {
            std::string text(size, '\0');
            for (char& c : text)
                c = static_cast<char>(random());
            const std::uint64_t seed = random();
            const std::uint64_t whole = hash_bytes(text, seed);
            for (std::size_t bit = 0; bit < size * 8; ++bit) {
                text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
                const std::uint64_t changed = whole ^ hash_bytes(text, seed);
                text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
                for (std::size_t out = 0; out < 64; ++out)
                    flips[bit][out] += static_cast<int>(changed >> out & 1);
            }
        }
        // 6 standard deviations of a fair coin, for up to 66,560 coins.
        const double allowed = 6 * std::sqrt(kRounds) / 2;
        double worst = 0;
        for (const auto& row : flips) {
            for (const int count : row)
                worst = std::max(worst, std::fabs(count - kRounds / 2.0));
        }
        EXPECT_LT(worst, allowed) << "size " << size;
    }
}

std::vector<std::uint64_t> sequential(const std::string& prefix, bool binary, std::uint32_t count) {
    std::vector<std::uint64_t> hashes;
    hashes.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        std::string key = prefix;
        if (binary) {
            key.append(reinterpret_cast<const char*>(&i), sizeof i);
        } else {
            key += std::to_string(i);
        }
        hashes.push_back(hash_bytes(key, kSeed));
    }
    return hashes;
}

TEST(Hash, a_million_sequential_keys_do_not_collide) {
    for (const char* prefix : {"", "user:", "api:v1:session:profile:"}) {
        for (bool binary : {false, true}) {
            std::vector<std::uint64_t> hashes = sequential(prefix, binary, 1'000'000);
            std::sort(hashes.begin(), hashes.end());
            EXPECT_EQ(std::adjacent_find(hashes.begin(), hashes.end()), hashes.end()) << prefix;
        }
    }
}

// Chi-square over 65,536 buckets taken from each end of each half of the hash.
TEST(Hash, both_halves_are_uniform_at_both_ends) {
    for (const char* prefix : {"", "user:", "api:v1:session:profile:"}) {
        for (bool binary : {false, true}) {
            const std::vector<std::uint64_t> hashes = sequential(prefix, binary, 1'000'000);
            for (int shift : {0, 16, 32, 48}) {
                std::vector<std::uint32_t> buckets(65536);
                for (const std::uint64_t hash : hashes)
                    ++buckets[hash >> shift & 0xffff];
                const double expected = static_cast<double>(hashes.size()) / 65536;
                double chi_square = 0;
                for (const std::uint32_t n : buckets)
                    chi_square += (n - expected) * (n - expected) / expected;
                EXPECT_NEAR(chi_square, 65535, 6 * std::sqrt(2 * 65535.0)) << prefix << " shift " << shift;
            }
        }
    }
}

TEST(Hash, mix_depends_on_both_and_on_their_order) {
    std::vector<std::uint64_t> seen;
    for (std::uint64_t a = 0; a < 500; ++a) {
        for (std::uint64_t b = 0; b < 500; ++b)
            seen.push_back(mix(a, b));
    }
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

TEST(Hash, mix_has_avalanche) {
    std::mt19937_64 random(6);
    constexpr int kRounds = 2000;
    std::vector<std::array<int, 64>> flips(128);
    for (int round = 0; round < kRounds; ++round) {
        const std::uint64_t a = random();
        const std::uint64_t b = random();
        for (std::size_t bit = 0; bit < 64; ++bit) {
            const std::uint64_t flip = std::uint64_t{1} << bit;
            const std::uint64_t first = mix(a, b) ^ mix(a ^ flip, b);
            const std::uint64_t second = mix(a, b) ^ mix(a, b ^ flip);
            for (std::size_t out = 0; out < 64; ++out) {
                flips[bit][out] += static_cast<int>(first >> out & 1);
                flips[bit + 64][out] += static_cast<int>(second >> out & 1);
            }
        }
    }
    for (const auto& row : flips) {
        for (const int count : row)
            EXPECT_NEAR(count, kRounds / 2.0, 6 * std::sqrt(kRounds) / 2);
    }
}

}  // namespace
}  // namespace cache_ext::core
