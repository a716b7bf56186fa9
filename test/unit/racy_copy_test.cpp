#include "core/racy_copy.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

namespace cache_ext::core {
namespace {

TEST(RacyCopy, copies_any_length_between_any_alignments) {
    alignas(8) std::array<unsigned char, 128> source;
    alignas(8) std::array<unsigned char, 128> target;
    for (std::size_t i = 0; i < source.size(); ++i)
        source[i] = static_cast<unsigned char>(i + 1);
    for (std::size_t from = 0; from < 9; ++from) {
        for (std::size_t to = 0; to < 9; ++to) {
            for (std::size_t n = 0; n <= 70; ++n) {
                for (const bool loading : {true, false}) {
                    target.fill(0xee);
                    if (loading) {
                        racy_copy(target.data() + to, source.data() + from, n);
                    } else {
                        racy_store(target.data() + to, source.data() + from, n);
                    }
                    ASSERT_EQ(std::memcmp(target.data() + to, source.data() + from, n), 0);
                    for (std::size_t i = 0; i < to; ++i)
                        ASSERT_EQ(target[i], 0xee);
                    for (std::size_t i = to + n; i < target.size(); ++i)
                        ASSERT_EQ(target[i], 0xee);
                }
            }
        }
    }
}

TEST(RacyCopy, nothing_may_come_from_nowhere) {
    racy_copy(nullptr, nullptr, 0);
    racy_store(nullptr, nullptr, 0);
}

TEST(RacyCopy, fields_of_every_size_can_be_loaded_and_stored) {
    enum class Kind : std::uint8_t { kA, kB };
    Kind kind = Kind::kA;
    std::uint16_t two = 0;
    std::uint32_t four = 0;
    std::int64_t eight = 0;
    store_relaxed(kind, Kind::kB);
    store_relaxed(two, 0xabcd);
    store_relaxed(four, 0xabcdef01u);
    store_relaxed(eight, -5);
    EXPECT_EQ(load_relaxed(kind), Kind::kB);
    EXPECT_EQ(load_relaxed(two), 0xabcd);
    EXPECT_EQ(load_relaxed(four), 0xabcdef01u);
    EXPECT_EQ(load_relaxed(eight), -5);
}

// The protocol these copies are for: the version is odd while the writer stores; a reader that finds the
// same even version before and after its copy has seen one write whole. Under ThreadSanitizer this also
// shows that the race is declared.
TEST(RacyCopy, a_validated_copy_is_never_a_mixture) {
    struct {
        std::atomic<std::uint64_t> version = 0;
        std::array<unsigned char, 100> bytes = {};
    } shared;
    std::atomic<bool> done = false;
    std::atomic<int> readers = 0;

    std::vector<std::thread> threads;
    std::atomic<long> mixtures = 0;
    std::atomic<long> valid = 0;
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back([&] {
            ++readers;
            std::array<unsigned char, 100> copy;
            while (!done) {
                const std::uint64_t before = shared.version.load(std::memory_order_acquire);
                racy_copy(copy.data(), shared.bytes.data(), copy.size());
                acquire_fence();
                const std::uint64_t after = shared.version.load(std::memory_order_relaxed);
                if (before % 2 == 1 || before != after) continue;
                ++valid;
                for (const unsigned char c : copy) {
                    if (c != copy[0]) {
                        ++mixtures;
                        break;
                    }
                }
            }
        });
    }
    while (readers < 2)
        std::this_thread::yield();
    std::uint64_t round = 0;
    while (round < 20000 || valid < 100) {
        ++round;
        std::array<unsigned char, 100> next;
        next.fill(static_cast<unsigned char>(round));
        const std::uint64_t version = shared.version.load(std::memory_order_relaxed);
        shared.version.store(version + 1, std::memory_order_relaxed);
        release_fence();
        racy_store(shared.bytes.data(), next.data(), next.size());
        shared.version.store(version + 2, std::memory_order_release);
        if (round % 64 == 0) std::this_thread::yield();
    }
    done = true;
    for (auto& thread : threads)
        thread.join();
    EXPECT_EQ(mixtures, 0);
}

}  // namespace
}  // namespace cache_ext::core
