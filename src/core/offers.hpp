#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <string_view>

#include "core/spinlock.hpp"

namespace cache_ext::core {

/// Keys whose values have just been stored and are to be copied elsewhere, until somebody comes for those of his database. It is a
/// courtesy: where there is no room, the older half is forgotten.
///
/// Locking: a spin lock of its own, for a copy of a key or, at most, of all of it; no other lock is taken within.
class Offers {
public:
    static constexpr std::size_t kBytes = 16 * 1024;

    /// Whether there is anything. Takes no lock.
    bool any() const noexcept { return used_.load(std::memory_order_relaxed) != 0; }

    /// Whether there is anything of this database.
    bool any_of(std::uint32_t database) noexcept {
        if (!any()) return false;
        std::lock_guard guard(lock_);
        const std::size_t used = used_.load(std::memory_order_relaxed);
        for (std::size_t at = 0; at < used; at += size_at(at)) {
            if (head_at(at).database == database) return true;
        }
        return false;
    }

    void add(std::uint32_t database, std::string_view key) noexcept {
        if (sizeof(Head) + key.size() > kBytes / 2) return;
        std::lock_guard guard(lock_);
        std::size_t used = used_.load(std::memory_order_relaxed);
        if (used + sizeof(Head) + key.size() > kBytes) used = forget_older_half(used);
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
            const Head head = head_at(at);
            const std::size_t size = size_at(at);
            if (head.database == database) {
                visit(std::string_view(bytes_ + at + sizeof(Head), head.key_bytes));
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

    Head head_at(std::size_t at) const noexcept {
        Head head;
        std::memcpy(&head, bytes_ + at, sizeof head);
        return head;
    }
    std::size_t size_at(std::size_t at) const noexcept { return sizeof(Head) + head_at(at).key_bytes; }

    /// What is used then.
    std::size_t forget_older_half(std::size_t used) noexcept {
        std::size_t from = 0;
        while (used - from > kBytes / 2)
            from += size_at(from);
        std::memmove(bytes_, bytes_ + from, used - from);
        return used - from;
    }

    SpinLock lock_;
    std::atomic<std::uint32_t> used_;
    char bytes_[kBytes];
};

}  // namespace cache_ext::core
