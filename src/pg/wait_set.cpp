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

std::span<const redis::Ready> WaitSet::wait(const std::vector<const redis::Driven*>& all,
                                            redis::TimePoint until, redis::milliseconds most, bool& woken) {
    generations_seen_.clear();
    for (const redis::Driven* each : all)
        generations_seen_.push_back(each->generation());
    if (set_ == nullptr || generations_seen_ != generations_) build(all);
    const redis::milliseconds left = redis::time_left(until, std::chrono::steady_clock::now());
    const long timeout = static_cast<long>(std::min(left, most).count());
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

std::span<const redis::Ready> WaitSet::wait_for_sockets(const std::vector<const redis::Driven*>& all,
                                                        redis::TimePoint until) {
    using std::chrono::nanoseconds;
    polled_.clear();
    for (const redis::Driven* each : all) {
        for (const redis::Interest& i : each->interests())
            polled_.push_back({i.fd, static_cast<short>((i.read ? POLLIN : 0) | (i.write ? POLLOUT : 0)), 0});
    }
    const auto left = std::max(
        std::chrono::duration_cast<nanoseconds>(until - std::chrono::steady_clock::now()), nanoseconds(0));
    constexpr std::int64_t kSecond = 1'000'000'000;
    const timespec timeout{left.count() / kSecond, left.count() % kSecond};
    ready_.clear();
    if (ppoll(polled_.data(), polled_.size(), &timeout, nullptr) <= 0) return ready_;
    constexpr int kBoth = POLLERR | POLLHUP;
    for (const pollfd& each : polled_) {
        if (each.revents != 0)
            ready_.push_back(
                {each.fd, (each.revents & (POLLIN | kBoth)) != 0, (each.revents & (POLLOUT | kBoth)) != 0});
    }
    return ready_;
}

void WaitSet::build(const std::vector<const redis::Driven*>& all) {
    std::vector<redis::Interest> interests;
    for (const redis::Driven* each : all)
        interests.insert(interests.end(), each->interests().begin(), each->interests().end());
    events_.resize(interests.size() + 2);
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
    generations_ = generations_seen_;
}

}  // namespace cache_ext::pg
