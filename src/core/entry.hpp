#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/clock.hpp"
#include "core/racy_copy.hpp"
#include "core/ref.hpp"

namespace cache_ext::core {

/// Microseconds since 2000-01-01 UTC, as the server counts them.
using Timestamp = std::int64_t;

/// 128 bits that name a scope, a space or a quota owner. Equal ids are taken for the same thing: they are cut from
/// SHA-256 or are random.
struct Id128 {
    std::uint64_t hi = 0;
    std::uint64_t lo = 0;
    friend bool operator==(const Id128&, const Id128&) = default;
};

/// How the stored bytes of a value are to be read: how they are compressed, and whether they are a JSON value or, with the bit `kBinary`, the result of a function
/// as the server itself keeps one.
enum class Encoding : std::uint8_t {
    kPlain = 0,
    kPglz = 1,
    kLz4 = 2,
    kCompressionMask = 0x03,
    kBinary = 0x40
};

constexpr Encoding operator|(Encoding a, Encoding b) noexcept {
    return static_cast<Encoding>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
}
constexpr Encoding compression_of(Encoding encoding) noexcept {
    return static_cast<Encoding>(static_cast<unsigned>(encoding) &
                                 static_cast<unsigned>(Encoding::kCompressionMask));
}
constexpr bool is_binary(Encoding encoding) noexcept {
    return (static_cast<unsigned>(encoding) & static_cast<unsigned>(Encoding::kBinary)) != 0;
}

/// The head of an entry. It lies in the first block of the entry and is followed there by the owner links (private entries
/// only), what is to be known of its times (where anything is), the tags (a Ref each), the key, and as much of the value as the block holds; the rest is in extents.
///
/// Locking: all of it is written under the store's lock, and everything but the atomics only before the entry is linked. Optimistic
/// readers look at it with no lock and believe nothing of what they saw until the version of its bucket is found unchanged.
struct Entry {
    std::atomic<Ref> extents;  ///< the first extent; 0 = the whole value is in the head block
    Ref newer;                 ///< the eviction queue
    Ref older;
    Ref scope;
    Version birth;  ///< clock of the snapshot under which the value was computed
    std::atomic<Timestamp> expires_at;
    Timestamp created_at;
    std::uint32_t value_bytes;  ///< as stored
    std::atomic<std::uint32_t> hits;
    std::atomic<std::uint32_t> used_at;  ///< seconds since 2000-01-01 UTC
    std::uint16_t key_bytes;
    std::uint8_t tag_count;
    std::atomic<std::uint8_t> flags;

    static constexpr std::uint8_t kEncodingMask = 0x43;
    static constexpr std::uint8_t kVisited = 0x04;  ///< read since the eviction hand last passed
    static constexpr std::uint8_t kPrivate = 0x08;  ///< has owner links
    static constexpr std::uint8_t kTimed = 0x10;    ///< has EntryTimes
};
static_assert(sizeof(Entry) == 56);

/// A private entry's place among those of its quota owner, oldest last.
struct OwnerLinks {
    Ref newer;
    Ref older;
};

/// What only some entries have to remember of times; each 0 where it is not so.
struct EntryTimes {
    std::uint32_t compute_us;  ///< how long computing the value took, in microseconds
    std::uint32_t grace_ms;    ///< how long after its end it may be served, marked as stale, in milliseconds
};

/// So many milliseconds later.
constexpr Timestamp after(Timestamp time, std::uint32_t ms) noexcept {
    constexpr Timestamp kMicros = 1000;
    return time > INT64_MAX - ms * kMicros ? INT64_MAX : time + ms * kMicros;
}

/// A further piece of a value. Its bytes follow.
struct Extent {
    Ref next;
    std::uint32_t bytes;
};

/// Where the parts of an entry's head block lie, as offsets from its start. A part that is not there has the offset of the next.
struct EntryLayout {
    std::uint32_t times;
    std::uint32_t tags;
    std::uint32_t key;
    std::uint32_t value;

    static constexpr EntryLayout of(std::uint8_t flags, std::uint32_t tag_count,
                                    std::uint32_t key_bytes) noexcept {
        const std::uint32_t timed =
            sizeof(Entry) +
            ((flags & Entry::kPrivate) != 0 ? static_cast<std::uint32_t>(sizeof(OwnerLinks)) : 0U);
        const std::uint32_t tags =
            timed + ((flags & Entry::kTimed) != 0 ? static_cast<std::uint32_t>(sizeof(EntryTimes)) : 0U);
        const std::uint32_t key = tags + tag_count * static_cast<std::uint32_t>(sizeof(Ref));
        return {timed, tags, key, key + key_bytes};
    }
};

// What lies in an entry's head block, by its flags.

inline EntryTimes& times_of(Base base, Ref head, const EntryLayout& layout) noexcept {
    return *reinterpret_cast<EntryTimes*>(base.at<std::byte>(head) + layout.times);
}

inline std::uint32_t compute_us(Base base, Ref head, std::uint8_t flags, const EntryLayout& layout) noexcept {
    return (flags & Entry::kTimed) == 0 ? 0 : load_relaxed(times_of(base, head, layout).compute_us);
}

inline std::uint32_t grace_ms(Base base, Ref head, std::uint8_t flags, const EntryLayout& layout) noexcept {
    return (flags & Entry::kTimed) == 0 ? 0 : load_relaxed(times_of(base, head, layout).grace_ms);
}

inline Ref* tag_refs(Base base, Ref head, std::uint8_t flags) noexcept {
    return reinterpret_cast<Ref*>(base.at<std::byte>(head) + EntryLayout::of(flags, 0, 0).tags);
}

}  // namespace cache_ext::core
