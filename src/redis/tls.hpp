#pragma once

// TLS over a connection, through hiredis' own layer for it where the library has one (hiredis_ssl, since 1.0). The server's certificate has to be
// trusted and to be made out to the host of the URL; hiredis itself looks at the first only.

#include <cstdint>
#include <memory>
#include <string>

struct redisContext;
struct ssl_ctx_st;
struct ssl_st;

namespace cache_ext::redis {

class Tls {
public:
    enum class Step : std::uint8_t { kDone, kWantsRead, kWantsWrite, kFailed };

    /// Puts TLS over a context whose socket is connected. Null: it cannot be, and `error` says why.
    [[nodiscard]] static std::unique_ptr<Tls> over(redisContext* context, const std::string& host,
                                                   const std::string& ca_file, std::string& error);
    Tls(const Tls&) = delete;
    Tls& operator=(const Tls&) = delete;
    ~Tls();  // NOLINT(performance-trivially-destructible): it is not, where there is TLS

    /// Goes on with the handshake. kFailed: `error` says why.
    [[nodiscard]] Step step(std::string& error);

private:
    Tls() = default;

    [[maybe_unused]] ssl_ctx_st* settings_ = nullptr;
    [[maybe_unused]] ssl_st* ssl_ = nullptr;  ///< the context's
};

}  // namespace cache_ext::redis
