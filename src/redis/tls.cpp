#include "redis/tls.hpp"

#include "redis/features.hpp"

#ifdef CACHE_EXT_REDIS_TLS

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <array>
#include <filesystem>

namespace cache_ext::redis {

namespace {

/// The oldest of OpenSSL's errors; the others are forgotten.
std::string openssl_error(const char* otherwise) {
    std::array<char, 256> text{};
    const unsigned long code = ERR_get_error();
    ERR_clear_error();
    if (code == 0) return otherwise;
    ERR_error_string_n(code, text.data(), text.size());
    return text.data();
}

/// What is wrong with a handshake that failed.
std::string why_not(const ssl_st* ssl, const char* otherwise) {
    const long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK)
        return std::string("the server's certificate is not trusted: ") +
               X509_verify_cert_error_string(verdict);
    return std::string("the TLS handshake failed: ") + otherwise;
}

bool is_address(const std::string& host) noexcept {
    std::array<unsigned char, 16> address{};
    return inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
           inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

}  // namespace

bool has_tls() noexcept { return true; }

std::unique_ptr<Tls> Tls::over(redisContext* context, const std::string& host, const std::string& ca_file,
                               std::string& error) {
    ERR_clear_error();
    std::unique_ptr<Tls> tls(new Tls);
    tls->settings_ = SSL_CTX_new(TLS_client_method());
    if (tls->settings_ == nullptr) {
        error = openssl_error("TLS cannot be set up");
        return nullptr;
    }
    SSL_CTX_set_min_proto_version(tls->settings_, TLS1_2_VERSION);
    SSL_CTX_set_verify(tls->settings_, SSL_VERIFY_PEER, nullptr);
    // A pipe would be waited for, and a device may have no end.
    std::error_code unknown;
    if (!ca_file.empty() && !std::filesystem::is_regular_file(ca_file, unknown)) {
        error = "the certificates to trust cannot be read: there is no such file";
        return nullptr;
    }
    const int loaded = ca_file.empty()
                           ? SSL_CTX_set_default_verify_paths(tls->settings_)
                           : SSL_CTX_load_verify_locations(tls->settings_, ca_file.c_str(), nullptr);
    if (loaded != 1) {
        error = "the certificates to trust cannot be read: " + openssl_error("unknown error");
        return nullptr;
    }
    ssl_st* ssl = SSL_new(tls->settings_);
    if (ssl == nullptr) {
        error = openssl_error("TLS cannot be set up");
        return nullptr;
    }
    const bool is_named =
        is_address(host)
            ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1
            : SSL_set1_host(ssl, host.c_str()) == 1 && SSL_set_tlsext_host_name(ssl, host.c_str()) == 1;
    if (!is_named) {
        SSL_free(ssl);
        error = "the host's name cannot be checked: " + openssl_error("unknown error");
        return nullptr;
    }
    // Takes over `ssl`, if it succeeds, and begins the handshake.
    if (redisInitiateSSL(context, ssl) != REDIS_OK) {
        error = why_not(ssl, context->errstr);
        SSL_free(ssl);
        return nullptr;
    }
    tls->ssl_ = ssl;
    return tls;
}

Tls::~Tls() { SSL_CTX_free(settings_); }

Tls::Step Tls::step(std::string& error) {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_);
    if (result == 1) return Step::kDone;
    switch (SSL_get_error(ssl_, result)) {
        case SSL_ERROR_WANT_READ:
            return Step::kWantsRead;
        case SSL_ERROR_WANT_WRITE:
            return Step::kWantsWrite;
        default:
            break;
    }
    error = why_not(ssl_, openssl_error("the connection was closed").c_str());
    ERR_clear_error();
    return Step::kFailed;
}

}  // namespace cache_ext::redis

#else

namespace cache_ext::redis {

bool has_tls() noexcept { return false; }

std::unique_ptr<Tls> Tls::over(redisContext* /*context*/, const std::string& /*host*/,
                               const std::string& /*ca_file*/, std::string& error) {
    error = kNoTls;
    return nullptr;
}

Tls::~Tls() = default;

Tls::Step Tls::step(std::string& /*error*/) { return Step::kFailed; }

}  // namespace cache_ext::redis

#endif
