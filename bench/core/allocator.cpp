// The region's allocator under a churn of blocks of mixed sizes.

#include "core/allocator.hpp"

#include <benchmark/benchmark.h>

#include <memory>
#include <random>
#include <vector>

namespace cache_ext::bench {
namespace {

void churn(benchmark::State& state) {
    constexpr std::size_t kBytes = std::size_t{256} * 1024 * 1024;
    const std::unique_ptr<std::byte[]> memory(new std::byte[kBytes]);
    const core::Base base{memory.get()};
    core::Allocator allocator;
    allocator.init(base, 1, static_cast<std::uint32_t>(kBytes / core::kGranule - 1));
    const auto largest = static_cast<std::size_t>(state.range(0));
    std::mt19937 random(7);
    std::vector<core::Ref> blocks(kBytes / largest);
    for (auto& block : blocks)
        block = allocator.allocate(base, 1 + random() % largest);
    for (auto _ : state) {
        core::Ref& block = blocks[random() % blocks.size()];
        allocator.free(base, block);
        block = allocator.allocate(base, 1 + random() % largest);
    }
}
BENCHMARK(churn)->Arg(256)->Arg(4096)->Arg(65536);

}  // namespace
}  // namespace cache_ext::bench
