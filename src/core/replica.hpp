#pragma once

#include <atomic>
#include <cstdint>

namespace cache_ext::core {

/// What the region knows of the server that it follows, while its own is in recovery; and what it tells those that follow its own.
struct Replica {
    /// Of a server that recovers, or has recovered.
    enum class Recovery : std::uint32_t {
        kNone,    ///< all that was done there has been dealt with
        kOpen,    ///< it is under way, or was while somebody used the region
        kEnding,  ///< it is over, and somebody is dealing with what it leaves
    };
    std::atomic<Recovery> recovery;

    /// Whether all that was logged since the other server last began to make sure that everything is logged has been replayed here.
    std::atomic<bool> begun;

    /// Whether whatever is invalidated where the log comes from stands in the log.
    std::atomic<bool> told;

    /// Whether whoever invalidates here writes it to the log, since others may rely on that.
    std::atomic<bool> logging;
};

}  // namespace cache_ext::core
