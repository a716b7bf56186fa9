// Finding an entry and copying its value out, and counting the hit: over random keys, among few and many entries.

#include <benchmark/benchmark.h>

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
