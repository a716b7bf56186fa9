#pragma once

// What is driven by somebody else's event loop. It owns no loop and no thread, and never waits:
//
//   for (;;) {
//       if (driven.generation() != seen) build the event set anew from driven.interests();
//       wait for any of the sockets, or until driven.next_deadline();
//       driven.service(what has become ready, now);
//   }
//
// All of it belongs to one thread.

#include <cstdint>
#include <span>

#include "redis/time.hpp"

namespace cache_ext::redis {

/// A socket, and what is to be waited for there.
struct Interest {
    int fd = -1;
    bool read = false;
    bool write = false;
    friend bool operator==(const Interest&, const Interest&) = default;
};

/// What a socket is ready for. An error or a hang-up counts as both.
struct Ready {
    int fd = -1;
    bool readable = false;
    bool writable = false;
};

class Driven {
public:
    Driven() = default;
    Driven(const Driven&) = delete;
    Driven& operator=(const Driven&) = delete;
    virtual ~Driven() = default;

    /// The sockets to wait for; valid until the next call that is not const.
    [[nodiscard]] virtual std::span<const Interest> interests() const noexcept = 0;

    /// Differs from what it was before when there are other sockets, or other things to wait for there. A closed socket's number may be
    /// a new one's already, so numbers that look the same say nothing: where this has changed, all of them are to be registered anew.
    [[nodiscard]] virtual std::uint64_t generation() const noexcept = 0;

    /// When `service` is to be called even if no socket is ready. A time that has passed: at once.
    [[nodiscard]] virtual TimePoint next_deadline() const noexcept = 0;

    /// Reads and writes what it can without waiting, looks at the deadlines, calls the handlers. Sockets that are not its own are
    /// passed over, so several of these can be given the same list. Calling it too often is harmless.
    virtual void service(std::span<const Ready> ready, TimePoint now) noexcept = 0;
};

}  // namespace cache_ext::redis
