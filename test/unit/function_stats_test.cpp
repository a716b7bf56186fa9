#include "core/function_stats.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <thread>
#include <vector>

namespace cache_ext::core {
namespace {

TEST(FunctionStats, HitsAreTheSessionsOwnUntilTheirCellIsNeeded) {
    auto totals = std::make_unique<FunctionTotals>();
    FunctionHits hits{};
    constexpr std::uint64_t kFirst = 5;
    constexpr std::uint64_t kSameCell = 5 + FunctionHits::kCells;
    for (int i = 0; i < 3; ++i)
        hits.add(kFirst, *totals);
    EXPECT_EQ(hits.get(kFirst), 3U);
    EXPECT_EQ(totals->get(kFirst).hits, 0U);
    hits.add(kSameCell, *totals);
    EXPECT_EQ(hits.get(kFirst), 0U);
    EXPECT_EQ(totals->get(kFirst).hits, 3U);
    EXPECT_EQ(hits.get(kSameCell), 1U);
}

TEST(FunctionStats, ComputationsAreCountedWithTheirTime) {
    auto totals = std::make_unique<FunctionTotals>();
    totals->add_computation(7, 100);
    totals->add_computation(7, 50);
    EXPECT_EQ(totals->get(7).computations, 2U);
    EXPECT_EQ(totals->get(7).compute_us, 150U);
    EXPECT_EQ(totals->get(8).computations, 0U);
}

TEST(FunctionStats, WhoFindsNoPlaceIsNotCounted) {
    auto totals = std::make_unique<FunctionTotals>();
    for (std::uint64_t i = 0; i <= FunctionTotals::kProbes; ++i)
        totals->add_computation(1 + i * FunctionTotals::kPlaces, 1);
    EXPECT_EQ(totals->get(1 + (FunctionTotals::kProbes - 1) * FunctionTotals::kPlaces).computations, 1U);
    EXPECT_EQ(totals->get(1 + FunctionTotals::kProbes * FunctionTotals::kPlaces).computations, 0U);
}

TEST(FunctionStats, ManyCountAtOnce) {
    auto totals = std::make_unique<FunctionTotals>();
    constexpr int kThreads = 4;
    constexpr int kRounds = 5000;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
        threads.emplace_back([&] {
            for (int i = 0; i < kRounds; ++i)
                totals->add_computation(1 + static_cast<std::uint64_t>(i % 40), 1);
        });
    }
    for (auto& thread : threads)
        thread.join();
    std::uint64_t sum = 0;
    for (std::uint64_t f = 1; f <= 40; ++f)
        sum += totals->get(f).computations;
    EXPECT_EQ(sum, static_cast<std::uint64_t>(kThreads) * kRounds);
}

}  // namespace
}  // namespace cache_ext::core
