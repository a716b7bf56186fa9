#pragma once

// Connects a socket without waiting, to each address of a host in turn until one answers.
//
// A name is looked up by getaddrinfo, which blocks. An address is not looked up.

#include <cstdint>
#include <string>
#include <vector>

#include "redis/url.hpp"

struct sockaddr;

namespace cache_ext::redis {

class Dial {
public:
    enum class Step : std::uint8_t { kConnected, kUnderWay, kFailed };

    Dial() = default;
    Dial(const Dial&) = delete;
    Dial& operator=(const Dial&) = delete;
    ~Dial();

    /// Begins with a host and a port, or with a path. Throws std::bad_alloc.
    Step start(const Endpoint& endpoint);
    Step start(const std::string& path);

    /// To be called when the socket has become writable: looks what came of it. kUnderWay: another address is tried, perhaps with
    /// another socket.
    Step step();

    /// The socket, until it is taken. -1: none.
    [[nodiscard]] int fd() const noexcept { return fd_; }

    /// How many sockets were made so far.
    [[nodiscard]] std::size_t sockets() const noexcept { return next_; }

    /// Hands over the connected socket.
    [[nodiscard]] int take() noexcept;

    /// Why it failed.
    [[nodiscard]] const std::string& error() const noexcept { return error_; }

private:
    Step try_next();
    Step try_one(int family, const sockaddr* address, unsigned size);
    void drop() noexcept;

    std::vector<std::string> addresses_;  ///< what is left to try: the bytes of a sockaddr each
    std::size_t next_ = 0;
    int fd_ = -1;
    std::string error_;
};

}  // namespace cache_ext::redis
