#pragma once

// SHA-256 by the server's own implementation (OpenSSL's where the server is built with it).

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace cache_ext::pg {

/// The first 128 bits of a SHA-256, in the order of the digest's bytes.
struct Digest128 {
    std::array<std::uint8_t, 16> bytes;

    /// Copies the digest into two words, in the machine's byte order.
    void to_words(std::uint64_t (&words)[2]) const noexcept {
        std::memcpy(words, bytes.data(), sizeof(words));
    }
};

/// Hashes `length` bytes. ERROR XX000 or 53200 when the server's hash fails, so only trivial locals may be
/// alive, or the call goes through pg_call. Needs a transaction (a resource owner).
[[nodiscard]] Digest128 sha256_128(const void* data, std::size_t length);

/// HMAC with SHA-256 (RFC 2104): the whole 256 bits. The same errors.
[[nodiscard]] std::array<std::uint8_t, 32> hmac_sha256(std::string_view key, std::string_view data);

}  // namespace cache_ext::pg
