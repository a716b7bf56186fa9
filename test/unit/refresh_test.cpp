#include "core/refresh.hpp"

#include <gtest/gtest.h>

#include <random>

namespace cache_ext::core {
namespace {

TEST(Refresh, early_by_chance) {
    std::mt19937_64 random(7);
    std::uniform_real_distribution<double> drawn(0.0, 1.0);
    // So many computing times before the end: one in e to that power.
    for (const double times : {0.5, 1.0, 2.0, 4.0}) {
        constexpr int kReaders = 200'000;
        int early = 0;
        for (int i = 0; i < kReaders; ++i)
            early += refreshes_early(static_cast<Timestamp>(times * 1000), 1000, drawn(random)) ? 1 : 0;
        EXPECT_NEAR(static_cast<double>(early) / kReaders, std::exp(-times), 0.005) << times;
    }
}

TEST(Refresh, always_at_the_end_and_never_long_before) {
    EXPECT_TRUE(refreshes_early(0, 1, 0.0));
    EXPECT_TRUE(refreshes_early(-5, 1000, 0.0));
    EXPECT_FALSE(refreshes_early(1, 1000, 0.0));
    EXPECT_TRUE(may_refresh_early(19'999, 1000));
    EXPECT_FALSE(may_refresh_early(20'000, 1000));
    EXPECT_FALSE(may_refresh_early(1, 0)) << "nothing is known of its computing time";
    EXPECT_TRUE(may_refresh_early(3600LL * 1'000'000, UINT32_MAX));
}

}  // namespace
}  // namespace cache_ext::core
