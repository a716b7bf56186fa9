#pragma once

// One HTTP request at a time, to one place, without waiting, through libcurl's multi interface. Only where that is (CACHE_EXT_REDIS_REST).

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "redis/driven.hpp"

namespace cache_ext::redis {

struct HttpOptions {
    std::string url;
    std::string token;         ///< sent as a bearer's; holds no control character
    bool is_loopback = false;  ///< no proxy, and no TLS
    milliseconds connect_timeout{1000};
    milliseconds timeout{2000};  ///< of a request, connecting included
};

struct HttpResponse {
    int code = 0;       ///< 0: there was none
    std::string body;   ///< at most kLargestReply
    std::string error;  ///< where there was none: why
};

class Http {
public:
    /// Throws std::bad_alloc.
    explicit Http(const HttpOptions& options);
    Http(const Http&) = delete;
    Http& operator=(const Http&) = delete;
    ~Http();

    /// Begins a POST of JSON. There is none under way. False: it cannot be.
    [[nodiscard]] bool post(std::string body) noexcept;

    /// Goes on. A response, once there is one.
    [[nodiscard]] std::optional<HttpResponse> service(std::span<const Ready> ready, TimePoint now) noexcept;

    /// Gives the request up.
    void cancel() noexcept;

    [[nodiscard]] bool is_under_way() const noexcept;
    [[nodiscard]] std::span<const Interest> interests() const noexcept;
    [[nodiscard]] std::uint64_t generation() const noexcept;
    [[nodiscard]] TimePoint next_deadline() const noexcept;

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cache_ext::redis
