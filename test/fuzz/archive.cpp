// Restores arbitrary bytes into a small region, with and without believing checksums, and checks the region after it.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "core/archive.hpp"

namespace {

using namespace cache_ext::core;

constexpr std::size_t kBytes = 1 << 20;

struct Input {
    std::span<const std::uint8_t> left;
    static std::size_t source(void* self, void* to, std::size_t size) noexcept {
        auto& left = static_cast<Input*>(self)->left;
        size = std::min(size, left.size());
        if (size > 0) std::memcpy(to, left.data(), size);
        left = left.subspan(size);
        return size;
    }
};

Region& region() {
    static Region made = [] {
        void* memory = std::aligned_alloc(4096, kBytes);
        std::memset(memory, 0, kBytes);
        RegionOptions options;
        options.bytes = kBytes;
        options.sessions = 1;
        options.seed = 1;
        return Region::create(memory, options);
    }();
    return made;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    Input input{{data + 1, size - 1}};
    ArchiveReader reader(Input::source, &input, kBytes);
    if (data[0] % 8 != 0) reader.trust_checksums();
    ArchiveOrigin origin;
    if (!reader.begin(origin)) return 0;
    restore(
        region(), reader, {}, [](Encoding) noexcept { return true; }, 1000);
    if (!region().store().check(region().base())) std::abort();
    clear(region());
    if (region().store().usage().entries != 0) std::abort();
    return 0;
}
