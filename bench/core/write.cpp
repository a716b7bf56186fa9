// Storing an entry with two tags, in place of one and where something has to be evicted for it; stamping a tag.

#include <benchmark/benchmark.h>

#include "fixture.hpp"

namespace cache_ext::bench {
namespace {

void replace(benchmark::State& state) {
    const auto entries = static_cast<std::uint32_t>(state.range(0));
    Filled filled(entries);
    std::mt19937 random(7);
    for (auto _ : state)
        benchmark::DoNotOptimize(filled.put(random() % entries, "group:1"));
}
BENCHMARK(replace)->Arg(10'000)->Arg(1'000'000);

void insert_and_evict(benchmark::State& state) {
    Filled filled(10'000);
    std::uint32_t n = 0;
    for (; n < 100'000; ++n)
        filled.put(n, "group:1");
    for (auto _ : state)
        benchmark::DoNotOptimize(filled.put(n++ % 10'000'000, "group:1"));
}
BENCHMARK(insert_and_evict);

/// The tag that all of the entries carry.
void stamp(benchmark::State& state) {
    Filled filled(static_cast<std::uint32_t>(state.range(0)));
    core::PendingMark& mark = filled.region().session(0).mark;
    core::FullXid xid = 1000;
    for (auto _ : state) {
        const core::Version version = filled.region().clock().stamp(mark, ++xid);
        filled.store().stamp_tag(filled.base(), filled.tag("all"), version);
        mark.version.store(0, std::memory_order_release);
    }
}
BENCHMARK(stamp)->Arg(1)->Arg(1'000'000);

void clock_of_a_snapshot(benchmark::State& state) {
    Filled filled(1);
    core::PendingMark& mark = filled.region().session(0).mark;
    for (core::FullXid xid = 1; xid <= 1000; ++xid)
        filled.region().clock().stamp(mark, xid);
    core::SnapshotView view;
    view.xmin = static_cast<core::FullXid>(1001 - state.range(0));
    view.xmax = 1001;
    view.running = [](const void*, core::FullXid) { return false; };
    for (auto _ : state)
        benchmark::DoNotOptimize(filled.region().clock().of(view));
}
BENCHMARK(clock_of_a_snapshot)->Arg(0)->Arg(10)->Arg(1000);

}  // namespace
}  // namespace cache_ext::bench
