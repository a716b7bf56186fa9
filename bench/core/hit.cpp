// Finding an entry and copying its value out, and counting the hit: over random keys, among few and many entries.

#include <benchmark/benchmark.h>

#include <cstring>

#include "fixture.hpp"

namespace cache_ext::bench {
namespace {

void hit(benchmark::State& state) {
    const auto entries = static_cast<std::uint32_t>(state.range(0));
    Filled filled(entries);
    const auto keys = random_keys(entries, 1 << 16);
    char copy[kValueBytes];
    std::size_t at = 0;
    for (auto _ : state) {
        const core::Key key = filled.key(keys[at++ % keys.size()]);
        core::Lookup found;
        if (filled.store().find(filled.base(), key, UINT64_MAX, kNow, found) != core::Found::kHit)
            state.SkipWithError("a miss");
        benchmark::DoNotOptimize(filled.store().copy(filled.base(), found, copy));
        filled.store().count_hit(filled.base(), filled.region().session(0), found, kNow);
        benchmark::ClobberMemory();
    }
}
BENCHMARK(hit)->Arg(1'000)->Arg(10'000)->Arg(1'000'000);

/// What the memory alone takes: `steps` - 1 random cache lines, each of which has to be there before the next one's address is known, and then a copy
/// of 1 kB from a random place among as many. An index cannot do with fewer than two steps, a bucket and the entry. As in a statement, where
/// more lies between two hits than a processor looks ahead, one copy waits for the one before.
void random_reads(benchmark::State& state) {
    const auto places = static_cast<std::size_t>(state.range(0));
    const auto steps = state.range(1);
    constexpr std::size_t kStride = kValueBytes + 128;  // what an entry takes
    std::vector<char> memory(places * kStride, 0);
    std::mt19937 random(7);
    std::vector<std::size_t> order(1 << 16);
    for (auto& place : order)
        place = random() % places * kStride;
    benchmark::DoNotOptimize(memory.data());
    char copy[kValueBytes] = {};
    std::size_t at = 0;
    for (auto _ : state) {
        std::size_t place = order[(at + static_cast<std::size_t>(copy[kValueBytes - 1])) % order.size()];
        for (auto step = steps; step > 1; --step)
            place = order[(at + 1 + static_cast<std::size_t>(memory[place])) % order.size()];
        std::memcpy(copy, memory.data() + place, kValueBytes);
        benchmark::DoNotOptimize(&copy[0]);
        benchmark::ClobberMemory();
        at += static_cast<std::size_t>(steps);
    }
}
BENCHMARK(random_reads)->ArgsProduct({{1'000, 1'000'000}, {1, 2}});

void miss(benchmark::State& state) {
    Filled filled(10'000);
    std::size_t at = 0;
    const auto keys = random_keys(1U << 30, 1 << 16);
    for (auto _ : state) {
        core::Lookup found;
        benchmark::DoNotOptimize(filled.store().find(filled.base(), filled.key(keys[at++ % keys.size()]),
                                                     UINT64_MAX, kNow, found));
    }
}
BENCHMARK(miss);

}  // namespace
}  // namespace cache_ext::bench
