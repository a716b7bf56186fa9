#pragma once

// Waits for the sockets of what is driven (redis/driven.hpp) and for this process's latch, in the server's way: whoever is to end, or has lost the
// postmaster, does not stay.

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <span>
#include <vector>

#include "pg/guard.hpp"
#include "redis/driven.hpp"

extern "C" {
#include "storage/latch.h"
}

namespace cache_ext::pg {

class WaitSet {
public:
    WaitSet() = default;
    WaitSet(const WaitSet&) = delete;
    WaitSet& operator=(const WaitSet&) = delete;
    ~WaitSet();

    /// Waits until something is ready, but no longer than until then and no longer than `most`; what is ready, valid until the next call. `woken`: somebody has
    /// set the latch, which stays set. Throws PgError.
    std::span<const redis::Ready> wait(const std::vector<const redis::Driven*>& all, redis::TimePoint until,
                                       redis::milliseconds most, bool& woken);

    /// The same for the sockets alone, to the microsecond: the latch wakes nobody, and who sets it meanwhile has no signal to send. So it is for a moment only.
    std::span<const redis::Ready> wait_for_sockets(const std::vector<const redis::Driven*>& all,
                                                   redis::TimePoint until);

private:
    void build(const std::vector<const redis::Driven*>& all);

    WaitEventSet* set_ = nullptr;
    std::vector<std::uint64_t> generations_;
    std::vector<std::uint64_t> generations_seen_;
    std::vector<WaitEvent> events_;
    std::vector<pollfd> polled_;
    std::vector<redis::Ready> ready_;
};

/// Services `driven`, and waits in between, until `done()` or that moment; what `done` said last. Attends to interrupts: throws PgError.
template <class Done>
bool drive_until(redis::Driven& driven, redis::TimePoint until, Done&& done) {
    constexpr redis::milliseconds kLook{1000};
    WaitSet set;
    std::span<const redis::Ready> ready;
    for (;;) {
        const redis::TimePoint now = std::chrono::steady_clock::now();
        driven.service(ready, now);
        if (done()) return true;
        if (now >= until) return false;
        bool woken = false;
        ready = set.wait({&driven}, std::min(until, driven.next_deadline()), kLook, woken);
        if (woken) ResetLatch(MyLatch);
        if (InterruptPending) pg_call([] { CHECK_FOR_INTERRUPTS(); });
    }
}

}  // namespace cache_ext::pg
