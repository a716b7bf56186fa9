#pragma once

// The sockets of some links, as the event loop wants to know them.

#include <cstdint>
#include <span>
#include <vector>

#include "redis/link.hpp"

namespace cache_ext::redis {

class InterestList {
public:
    /// Looks at the links again: `each` calls the function it is given with each of them.
    template <class Each>
    void update(Each&& each) noexcept {
        scratch_.clear();
        serials_scratch_.clear();
        try {
            each([this](const Link& link) {
                const std::optional<Interest> interest = link.interest();
                if (!interest) return;
                serials_scratch_.push_back(link.socket_serial());
                scratch_.push_back(*interest);
            });
        } catch (...) {
            // Without memory nothing is waited for; the deadlines come all the same.
            scratch_.clear();
            serials_scratch_.clear();
        }
        if (scratch_ == interests_ && serials_scratch_ == serials_) return;
        scratch_.swap(interests_);
        serials_scratch_.swap(serials_);
        ++generation_;
    }

    [[nodiscard]] std::span<const Interest> get() const noexcept { return interests_; }
    [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }

private:
    std::vector<Interest> interests_;
    std::vector<Interest> scratch_;
    std::vector<std::uint64_t> serials_;  ///< of their sockets: a number alone may be another one's by now
    std::vector<std::uint64_t> serials_scratch_;
    std::uint64_t generation_ = 0;
};

/// What a link's socket is ready for.
[[nodiscard]] inline Ready ready_for(const Link& link, std::span<const Ready> ready) noexcept {
    Ready result;
    const std::optional<Interest> interest = link.interest();
    if (!interest) return result;
    for (const Ready& one : ready) {
        if (one.fd != interest->fd) continue;
        result.readable = result.readable || one.readable;
        result.writable = result.writable || one.writable;
    }
    return result;
}

}  // namespace cache_ext::redis
