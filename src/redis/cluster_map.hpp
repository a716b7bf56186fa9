#pragma once

// What the nodes of a Redis Cluster say of who has which slots. Their word is checked before it is believed.

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "redis/reply.hpp"
#include "redis/url.hpp"

namespace cache_ext::redis {

inline constexpr std::uint16_t kSlots = 16384;

/// A row of CLUSTER SLOTS.
struct SlotRange {
    std::uint16_t first = 0;
    std::uint16_t last = 0;
    Endpoint primary;
};

/// The answer to CLUSTER SLOTS. A node may leave out its own host: that is `asked`'s then. Ranges whose primary is not known
/// are left out. Nothing: the answer is not one.
[[nodiscard]] std::optional<std::vector<SlotRange>> parse_slots(const Reply& reply, const Endpoint& asked);

/// MOVED or ASK.
struct Redirect {
    bool is_ask = false;
    std::uint16_t slot = 0;
    Endpoint to;
};

/// `MOVED 3999 127.0.0.1:6381`. Nothing: it is neither of the two.
[[nodiscard]] std::optional<Redirect> parse_redirect(std::string_view error, const Endpoint& asked);

}  // namespace cache_ext::redis
