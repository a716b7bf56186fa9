#pragma once

namespace cache_ext::redis {

/// What this was built with, for error messages and views: TLS for rediss:// (hiredis_ssl), the REST interface (libcurl).
[[nodiscard]] bool has_tls() noexcept;
[[nodiscard]] bool has_rest() noexcept;

/// What is said of rediss:// where has_tls() is not.
inline constexpr const char* kNoTls =
    "rediss:// needs TLS, which the hiredis library that this was built with does not have";

}  // namespace cache_ext::redis
