#include "core/read_counts.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace cache_ext::core {
namespace {

/// As in the region: all of it zero.
std::unique_ptr<ReadCounts> make() { return std::make_unique<ReadCounts>(); }

std::uint64_t in_set(std::uint32_t set, std::uint32_t tag) {
    return std::uint64_t{tag} << 33 | 1ULL << 32 | set;
}

TEST(ReadCounts, counts_each_for_itself) {
    const auto counts = make();
    EXPECT_EQ(counts->get(in_set(7, 1)), 0U);
    for (int i = 0; i < 5; ++i)
        counts->count(in_set(7, 1));
    counts->count(in_set(7, 2));
    counts->count(in_set(8, 1));
    EXPECT_EQ(counts->get(in_set(7, 1)), 5U);
    EXPECT_EQ(counts->get(in_set(7, 2)), 1U);
    EXPECT_EQ(counts->get(in_set(8, 1)), 1U);
}

TEST(ReadCounts, what_is_read_least_gives_way) {
    const auto counts = make();
    for (std::uint32_t tag = 1; tag <= ReadCounts::kWays; ++tag) {
        for (std::uint32_t i = 0; i < 10 + tag; ++i)
            counts->count(in_set(3, tag));
    }
    counts->count(in_set(3, 100));
    EXPECT_EQ(counts->get(in_set(3, 100)), 1U);
    EXPECT_EQ(counts->get(in_set(3, 1)), 0U);
    EXPECT_EQ(counts->get(in_set(3, 2)), 12U);
    // The newcomer is the one that is read least now.
    counts->count(in_set(3, 101));
    EXPECT_EQ(counts->get(in_set(3, 100)), 0U);
    EXPECT_EQ(counts->get(in_set(3, 2)), 12U);
}

}  // namespace
}  // namespace cache_ext::core
