// Watches: what is promised when watching begins, in order and from many threads at once.

#include "core/watches.hpp"

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace cache_ext::core {
namespace {

TEST(Watches, RecordsTheIdOnceAndRipens) {
    const auto watches = std::make_unique<Watches>();
    EXPECT_FALSE(watches->any());
    EXPECT_FALSE(watches->watched(7));
    EXPECT_EQ(watches->watch(7,
                             [&] {
                                 EXPECT_TRUE(watches->watched(7)) << "the mark comes before the id is read";
                                 return FullXid{100};
                             }),
              100U);
    EXPECT_TRUE(watches->any());
    EXPECT_EQ(watches->watch(7, [] { return FullXid{200}; }), 100U);
    EXPECT_FALSE(watches->watched(8));
    EXPECT_TRUE(watches->watched(7 + Watches::kCells)) << "one cell";
    watches->ripen(7);
    EXPECT_TRUE(watches->watched(7));
    EXPECT_EQ(watches->watch(7, [] { return FullXid{300}; }), 0U);
}

// Whoever does not see the mark has an id below each one that is recorded.
TEST(Watches, SilentWritersAreOlder) {
    for (int round = 0; round < 200; ++round) {
        const auto watches = std::make_unique<Watches>();
        std::mutex ids;  // stands for the server's lock
        FullXid next = 10;
        std::atomic<FullXid> silent{0};
        std::atomic<FullXid> recorded{UINT64_MAX};
        const auto write = [&] {
            for (int i = 0; i < 20; ++i) {
                FullXid mine;
                {
                    std::lock_guard guard(ids);
                    mine = next++;
                }
                if (watches->watched(3)) continue;
                FullXid seen = silent.load();
                while (seen < mine && !silent.compare_exchange_weak(seen, mine)) {
                }
            }
        };
        const auto watch = [&] {
            const FullXid since = watches->watch(3, [&] {
                std::lock_guard guard(ids);
                return next;
            });
            FullXid seen = recorded.load();
            while (since < seen && !recorded.compare_exchange_weak(seen, since)) {
            }
        };
        std::vector<std::thread> threads;
        for (int i = 0; i < 2; ++i) {
            threads.emplace_back(write);
            threads.emplace_back(watch);
        }
        for (std::thread& t : threads)
            t.join();
        EXPECT_LT(silent.load(), recorded.load());
    }
}

TEST(Watches, DatabasesThatHaveJoinedAreKnownUntilThereAreTooMany) {
    const auto watches = std::make_unique<Watches>();
    std::vector<std::uint32_t> known;
    const auto visit = [&](std::uint32_t d) { known.push_back(d); };
    EXPECT_TRUE(watches->visit_databases(visit));
    for (const std::uint32_t d : {5U, 7U, 5U})
        watches->join(d);
    EXPECT_TRUE(watches->visit_databases(visit));
    EXPECT_EQ(known, (std::vector<std::uint32_t>{5, 7}));
    for (std::uint32_t d = 100; d < 200; ++d)
        watches->join(d);
    EXPECT_FALSE(watches->visit_databases(visit));
}

}  // namespace
}  // namespace cache_ext::core
