// Positions inside the region.
//
// The region may be mapped at a different address in each process, so nothing stored in it is a pointer.
// A Ref is the distance from the region's base in granules, which lets 32 bits address 64 GB.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cache_ext::core {

// Distance from the region's base in granules of kGranule bytes. 0 is null: the region's own header lies
// there, so no object ever has this position.
using Ref = std::uint32_t;

inline constexpr Ref kNullRef = 0;

// Bytes in a granule: the unit of every Ref and of the allocator.
inline constexpr std::size_t kGranule = 16;

// Where this process has mapped the region. Lives in the process, never in the region.
struct Base {
    std::byte* p = nullptr;

    // The object at `ref`. Neither null nor the region's end is checked: that is for the caller to know.
    template <class T>
    [[nodiscard]] T* at(Ref ref) const noexcept {
        return reinterpret_cast<T*>(p + std::size_t{ref} * kGranule);
    }

    // The position of an address in the region that lies on a granule; null for a null pointer.
    [[nodiscard]] Ref ref_of(const void* address) const noexcept {
        if (address == nullptr) return kNullRef;
        return static_cast<Ref>(static_cast<std::size_t>(static_cast<const std::byte*>(address) - p) /
                                kGranule);
    }
};

// Granules that hold `bytes`, rounded up. `bytes` must be less than 64 GB.
[[nodiscard]] constexpr std::uint32_t granules_of(std::size_t bytes) noexcept {
    return static_cast<std::uint32_t>((bytes + kGranule - 1) / kGranule);
}

}  // namespace cache_ext::core
