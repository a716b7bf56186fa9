#pragma once

// How a connection to Redis is doing, for a view.

#include <cstdint>
#include <string>

#include "redis/breaker.hpp"
#include "redis/time.hpp"

namespace cache_ext::redis {

enum class State : std::uint8_t {
    kConnecting,  ///< an attempt is under way, or about to be made
    kUp,          ///< commands are taken
    kWaiting,     ///< the last attempt failed; there will be another soon
    kOpen,  ///< so many failed that nothing is tried for a while, or commands are refused one after the other
    kMisconfigured,  ///< the settings are wrong (the password, say, or no TLS in the library): it is tried again, but somebody should look
    kClosed,
};

/// A name for views: "up".
[[nodiscard]] const char* to_text(State state) noexcept;

/// No text in here holds a password or a token.
struct Status {
    State state = State::kConnecting;
    Breaker::State breaker = Breaker::State::kClosed;
    TimePoint up_since{};    ///< where state is kUp
    std::string last_error;  ///< empty: there was none
    TimePoint
        last_error_at{};  ///< of the last failure of a connection or of an error that it is not the command's fault to get
    std::uint64_t commands = 0;        ///< taken
    std::uint64_t replies = 0;         ///< delivered, errors included, lost ones not
    std::uint64_t errors = 0;          ///< of these, errors
    std::uint64_t lost = 0;            ///< commands answered with kLost
    std::uint64_t connections = 0;     ///< that were made, to all nodes
    std::uint64_t redirects = 0;       ///< MOVED and ASK followed
    std::uint64_t in_flight = 0;       ///< commands not answered yet
    std::uint64_t buffered_bytes = 0;  ///< of commands that the socket has not taken yet
    std::chrono::microseconds round_trip{
        0};         ///< from submission to reply, smoothed over about the last eight
    int nodes = 0;  ///< known: one, a cluster's primaries otherwise
    int nodes_up = 0;
};

}  // namespace cache_ext::redis
