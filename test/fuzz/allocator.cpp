// Drives the allocator with an arbitrary sequence of calls and verifies its invariants after each.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/allocator.hpp"

namespace {

using cache_ext::core::Allocator;
using cache_ext::core::Base;
using cache_ext::core::kGranule;
using cache_ext::core::Ref;

void require(bool condition) {
    if (!condition) std::abort();
}

struct Held {
    Ref ref;
    std::size_t usable;
    unsigned char fill;
};

struct Input {
    const std::uint8_t* p;
    std::size_t left;
    unsigned byte() {
        if (left == 0) return 0;
        --left;
        return *p++;
    }
    unsigned word() {
        const unsigned low = byte();
        return low | byte() << 8;
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input{data, size};
    const std::uint32_t granules = input.word() % 2048;
    const Ref begin = input.byte() % 4;
    auto* memory =
        static_cast<std::byte*>(std::aligned_alloc(kGranule, (std::size_t{begin} + granules + 1) * kGranule));
    require(memory != nullptr);
    const Base base{memory};
    Allocator allocator;
    allocator.init(base, begin, granules);
    std::vector<Held> held;
    unsigned char fill = 0;

    auto hold = [&](Ref ref, std::size_t least) {
        if (ref == 0) return;
        const std::size_t usable = allocator.usable_bytes(base, ref);
        require(usable >= least);
        require(ref > begin &&
                std::size_t{ref} * kGranule + usable <= (std::size_t{begin} + granules) * kGranule);
        held.push_back({ref, usable, ++fill});
        std::memset(Allocator::payload(base, ref), fill, usable);
    };

    while (input.left > 0) {
        const unsigned what = input.byte();
        const std::size_t bytes = input.word();
        switch (what % 6) {
            case 0:
            case 1:
                hold(allocator.allocate(base, bytes), bytes);
                break;
            case 2: {
                const std::size_t least = input.byte();
                hold(allocator.allocate_upto(base, bytes, least), least < bytes ? least : bytes);
                break;
            }
            case 3:
                allocator.fail_after(static_cast<int>(bytes % 8) - 4);
                break;
            default:
                if (held.empty()) break;
                Held& chosen = held[bytes % held.size()];
                const auto* p = static_cast<const unsigned char*>(Allocator::payload(base, chosen.ref));
                for (std::size_t i = 0; i < chosen.usable; ++i)
                    require(p[i] == chosen.fill);
                if (what % 6 == 4) {
                    allocator.free(base, chosen.ref);
                    chosen = held.back();
                    held.pop_back();
                } else {
                    allocator.shrink(base, chosen.ref, bytes / 16);
                    chosen.usable = allocator.usable_bytes(base, chosen.ref);
                }
        }
        std::size_t used = 0;
        for (const Held& h : held)
            used += h.usable + Allocator::kHeaderBytes;
        require(allocator.used_bytes() == used);
        require(allocator.used_bytes() + allocator.free_bytes() == allocator.capacity_bytes());
        require(allocator.check(base));
    }

    for (const Held& h : held)
        allocator.free(base, h.ref);
    require(allocator.check(base));
    require(allocator.used_bytes() == 0);
    if (allocator.capacity_bytes() > 0) {
        require(allocator.largest_free_bytes(base) + Allocator::kHeaderBytes == allocator.capacity_bytes());
    }
    std::free(memory);
    return 0;
}
