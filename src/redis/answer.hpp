#pragma once

#include "redis/client.hpp"
#include "redis/link.hpp"

namespace cache_ext::redis {

/// Ends a command: counts its answer and gives it to its handler.
inline void answer(Tally& tally, const Handler& handler, const Reply& reply) noexcept {
    --tally.in_flight;
    if (reply.verdict == Verdict::kLost) {
        ++tally.lost;
    } else {
        ++tally.replies;
        if (!reply.ok()) ++tally.errors;
    }
    try {
        if (handler) handler(reply);
    } catch (...) {
        // See client.hpp: there is nobody here who could do anything about it.
    }
}

}  // namespace cache_ext::redis
