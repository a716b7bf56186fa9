#pragma once

#include <cstdint>
#include <string_view>

#include "core/entry.hpp"

namespace cache_ext::core {

/// The most bytes that a key may have, and so a pattern over keys.
inline constexpr std::size_t kMaxKeyBytes = 1024;

/// The patterns that were invalidated last. A pattern removes the live entries that match it at once; what is kept here only stops a value
/// that was computed before from being stored after. When a pattern is dropped, whatever was born before it
/// may no longer be stored: a floor.
///
/// Locking: all under the store's lock.
class PatternRing {
public:
    static constexpr std::uint32_t kRing = 32;

    void init(Version start) noexcept;

    /// Remembers an invalidation. `scope` restricts it to one scope; null: all of the space.
    void add(Version version, const Id128& space, const Id128* scope, std::string_view pattern) noexcept;

    /// Whether a value born at `birth` may be stored under this key.
    bool allows(Version birth, const Id128& space, const Id128& scope, std::string_view key) const noexcept;

private:
    struct Slot {
        Version version;
        Id128 space;
        Id128 scope;
        bool any_scope;
        std::uint16_t bytes;
        char text[kMaxKeyBytes];
    };

    Version newest_;
    Version floor_;
    std::uint32_t next_;
    Slot ring_[kRing];
};

}  // namespace cache_ext::core
