#include "redis/dial.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

namespace cache_ext::redis {

namespace {

std::string text_of(int error) { return std::generic_category().message(error); }

template <class Address>
std::string bytes_of(const Address& address, std::size_t size) {
    return {reinterpret_cast<const char*>(&address), size};
}

}  // namespace

Dial::~Dial() { drop(); }

void Dial::drop() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

int Dial::take() noexcept { return std::exchange(fd_, -1); }

Dial::Step Dial::start(const Endpoint& endpoint) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | AI_NUMERICHOST;
    addrinfo* found = nullptr;
    const std::string port = std::to_string(endpoint.port);
    // As an address first: that asks nobody.
    int error = getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
    if (error == EAI_NONAME) {
        hints.ai_flags = AI_NUMERICSERV;
        error = getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> list(found, freeaddrinfo);
    if (error != 0) {
        error_ = std::string("the host's name cannot be resolved: ") +
                 (error == EAI_SYSTEM ? text_of(errno) : gai_strerror(error));
        return Step::kFailed;
    }
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next)
        addresses_.emplace_back(reinterpret_cast<const char*>(at->ai_addr), at->ai_addrlen);
    return try_next();
}

Dial::Step Dial::start(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) {
        error_ = "the path of the socket is too long";
        return Step::kFailed;
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    addresses_.push_back(bytes_of(address, sizeof address));
    return try_next();
}

Dial::Step Dial::try_next() {
    while (next_ < addresses_.size()) {
        sockaddr_storage address{};
        const std::string& bytes = addresses_[next_++];
        std::memcpy(&address, bytes.data(), std::min(bytes.size(), sizeof address));
        const Step step = try_one(address.ss_family, reinterpret_cast<const sockaddr*>(&address),
                                  static_cast<unsigned>(bytes.size()));
        if (step != Step::kFailed) return step;
        drop();
    }
    if (error_.empty()) error_ = "the host has no address";
    return Step::kFailed;
}

Dial::Step Dial::try_one(int family, const sockaddr* address, unsigned size) {
    fd_ = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) {
        error_ = "no socket can be made: " + text_of(errno);
        return Step::kFailed;
    }
    if (family != AF_UNIX) {
        // Commands are small and many, and are put together before they are written. Keep-alive tells of a host that is gone while nothing is sent.
        const int on = 1;
        (void)setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)setsockopt(fd_, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
        const int seconds = 15;
        (void)setsockopt(fd_, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
        (void)setsockopt(fd_, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
    }
    if (::connect(fd_, address, size) == 0) return Step::kConnected;
    // EAGAIN: a local server's queue is full; it does not tell when that has changed.
    if (errno == EINPROGRESS || errno == EINTR) return Step::kUnderWay;
    error_ = "it cannot be connected to: " + text_of(errno);
    return Step::kFailed;
}

Dial::Step Dial::step() {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error == 0) return Step::kConnected;
    error_ = "it cannot be connected to: " + text_of(error);
    drop();
    return try_next();
}

}  // namespace cache_ext::redis
