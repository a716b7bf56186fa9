#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string_view>

#include "core/spinlock.hpp"

namespace cache_ext::core {

/// Keys whose values have just been stored and are to be copied elsewhere, until somebody comes for those of his database. It is a
/// courtesy: where there is no room, a key is left out.
///
/// Locking: a spin lock of its own, for a copy of a key or, at most, of all of it; no other lock is taken within.
class Offers {
public:
    static constexpr std::size_t kBytes = 16 * 1024;

    /// Whether there is anything. Takes no lock.
    bool any() const noexcept { return used_.load(std::memory_order_relaxed) != 0; }

    void add(std::uint32_t database, std::string_view key) noexcept {
        std::lock_guard guard(lock_);
        const std::size_t used = used_.load(std::memory_order_relaxed);
        if (used + sizeof(Head) + key.size() > kBytes) return;
        const Head head{database, static_cast<std::uint32_t>(key.size())};
        std::memcpy(bytes_ + used, &head, sizeof head);
        std::memcpy(bytes_ + used + sizeof head, key.data(), key.size());
        used_.store(static_cast<std::uint32_t>(used + sizeof head + key.size()), std::memory_order_relaxed);
    }

    /// Calls `visit(key)` for those of a database, and takes them away. The visitor must be short, and must neither throw nor call the server.
    template <class Visit>
    void take(std::uint32_t database, Visit&& visit) noexcept {
        std::lock_guard guard(lock_);
        const std::size_t used = used_.load(std::memory_order_relaxed);
        std::size_t kept = 0;
        for (std::size_t at = 0; at < used;) {
            Head head;
            std::memcpy(&head, bytes_ + at, sizeof head);
            const std::size_t size = sizeof head + head.key_bytes;
            if (head.database == database) {
                visit(std::string_view(bytes_ + at + sizeof head, head.key_bytes));
            } else {
                std::memmove(bytes_ + kept, bytes_ + at, size);
                kept += size;
            }
            at += size;
        }
        used_.store(static_cast<std::uint32_t>(kept), std::memory_order_relaxed);
    }

private:
    struct Head {
        std::uint32_t database;
        std::uint32_t key_bytes;
    };

    SpinLock lock_;
    std::atomic<std::uint32_t> used_;
    char bytes_[kBytes];
};

}  // namespace cache_ext::core
