#pragma once

// Tells Redis' subscribers, and the stream for those who were away, what was invalidated.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>

#include "redis/client.hpp"
#include "redis/layout.hpp"

namespace cache_ext::redis {

/// Numbers messages and sends them in that order, pipelined. A message is published and added to the stream in one step, which Redis refuses for a number that is
/// not above the last one of this origin and database: so one that has to be sent again arrives once.
///
/// Belongs to the client's thread. Once it has sent something, it must outlive the client's `close`.
class Publisher {
public:
    /// `last` is the number of the last message that is known to have been sent.
    Publisher(Client& client, const Layout& layout, std::uint64_t last)
        : client_(client), layout_(layout), last_(last), acknowledged_(last) {}
    Publisher(const Publisher&) = delete;
    Publisher& operator=(const Publisher&) = delete;

    /// Takes a message; its number. Sends nothing yet.
    std::uint64_t add(const Notice& notice, std::string_view time);

    /// Numbers up to this one were given by somebody else: those to come are above it.
    void skip_to(std::uint64_t last) noexcept { last_ = std::max(last_, last); }

    /// Sends what it can: after `add`, after the client's `service`, and at `next_deadline`.
    void step(TimePoint now);

    /// All messages up to this one have arrived.
    [[nodiscard]] std::uint64_t acknowledged() const noexcept { return acknowledged_; }
    [[nodiscard]] std::uint64_t last() const noexcept { return last_; }
    [[nodiscard]] TimePoint next_deadline() const noexcept { return retry_at_; }
    /// The last error that a message got, and because of which it may not have arrived everywhere; empty: none.
    [[nodiscard]] const std::string& last_error() const noexcept { return last_error_; }

private:
    struct Message {
        std::uint64_t number;
        std::string json;
    };

    bool submit(const Message& message, TimePoint now);
    void take(std::uint64_t number, const Reply& reply);

    Client& client_;
    const Layout& layout_;
    std::uint64_t last_;
    std::uint64_t acknowledged_;
    std::deque<Message> messages_;  ///< not acknowledged yet, the oldest first
    std::size_t sent_ = 0;          ///< of these
    std::size_t under_way_ = 0;
    bool failed_ = false;
    bool is_unable_ = false;  ///< because the server knows no such command
    TimePoint retry_at_ = kNever;
    std::string last_error_;
};

}  // namespace cache_ext::redis
