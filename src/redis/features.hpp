#pragma once

namespace cache_ext::redis {

/// What this was built with, for error messages and views: TLS for rediss:// (hiredis_ssl), the REST interface (libcurl).
[[nodiscard]] bool has_tls() noexcept;
[[nodiscard]] bool has_rest() noexcept;

}  // namespace cache_ext::redis
