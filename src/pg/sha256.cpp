#include "pg/sha256.hpp"

#include "pg/prelude.hpp"

extern "C" {
#include "common/cryptohash.h"
#include "common/hmac.h"
#include "common/sha2.h"
}

namespace cache_ext::pg {

Digest128 sha256_128(const void* data, std::size_t length) {
    std::uint8_t digest[PG_SHA256_DIGEST_LENGTH];
    pg_cryptohash_ctx* context = pg_cryptohash_create(PG_SHA256);
    if (context == nullptr) {
        ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
    }
    if (pg_cryptohash_init(context) < 0 ||
        pg_cryptohash_update(context, static_cast<const std::uint8_t*>(data), length) < 0 ||
        pg_cryptohash_final(context, digest, sizeof(digest)) < 0) {
        // The message may live in the context: report first, and leave the context to its resource owner.
        ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR),
                errmsg("could not compute a SHA-256 hash: %s", pg_cryptohash_error(context)));
    }
    pg_cryptohash_free(context);

    Digest128 result;
    std::memcpy(result.bytes.data(), digest, result.bytes.size());
    return result;
}

std::array<std::uint8_t, 32> hmac_sha256(std::string_view key, std::string_view data) {
    const auto bytes = [](std::string_view text) {
        return reinterpret_cast<const std::uint8_t*>(text.data());
    };
    std::array<std::uint8_t, PG_SHA256_DIGEST_LENGTH> result{};
    pg_hmac_ctx* context = pg_hmac_create(PG_SHA256);
    if (context == nullptr) {
        ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
    }
    if (pg_hmac_init(context, bytes(key), key.size()) < 0 ||
        pg_hmac_update(context, bytes(data), data.size()) < 0 ||
        pg_hmac_final(context, result.data(), result.size()) < 0) {
        ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR),
                errmsg("could not compute an HMAC: %s", pg_hmac_error(context)));
    }
    pg_hmac_free(context);
    return result;
}

}  // namespace cache_ext::pg
