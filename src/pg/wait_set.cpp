#include "pg/wait_set.hpp"

#include <algorithm>
#include <utility>

#include "pg/compat.hpp"

extern "C" {
#include "utils/wait_event.h"
}

namespace cache_ext::pg {

WaitSet::~WaitSet() {
    if (set_ != nullptr) FreeWaitEventSet(set_);
}

std::span<const redis::Ready> WaitSet::wait(const redis::Driven& driven, redis::TimePoint until,
                                            redis::milliseconds most, bool& woken) {
    if (set_ == nullptr || driven.generation() != generation_) build(driven);
    const auto left =
        std::chrono::ceil<redis::milliseconds>(until - std::chrono::steady_clock::now()).count();
    const long timeout = static_cast<long>(std::clamp<std::int64_t>(left, 0, most.count()));
    events_.resize(driven.interests().size() + 2);
    const int count = pg_call([&] {
        return WaitEventSetWait(set_, timeout, events_.data(), static_cast<int>(events_.size()),
                                PG_WAIT_EXTENSION);
    });
    ready_.clear();
    for (int i = 0; i < count; ++i) {
        const WaitEvent& event = events_[static_cast<std::size_t>(i)];
        if ((event.events & WL_LATCH_SET) != 0) {
            woken = true;
            continue;
        }
        ready_.push_back(
            {event.fd, (event.events & WL_SOCKET_READABLE) != 0, (event.events & WL_SOCKET_WRITEABLE) != 0});
    }
    return ready_;
}

void WaitSet::build(const redis::Driven& driven) {
    const std::span<const redis::Interest> interests = driven.interests();
    WaitEventSet* const old = std::exchange(set_, nullptr);
    set_ = pg_call([&] {
        if (old != nullptr) FreeWaitEventSet(old);
        WaitEventSet* made = make_wait_set(static_cast<int>(interests.size()) + 2);
        AddWaitEventToSet(made, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, nullptr);
        AddWaitEventToSet(made, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, nullptr, nullptr);
        for (const redis::Interest& each : interests) {
            const int events = (each.read ? WL_SOCKET_READABLE : 0) | (each.write ? WL_SOCKET_WRITEABLE : 0);
            if (events != 0) AddWaitEventToSet(made, static_cast<uint32>(events), each.fd, nullptr, nullptr);
        }
        return made;
    });
    generation_ = driven.generation();
}

}  // namespace cache_ext::pg
