#pragma once

// Tokens that the storage service takes: JSON Web Tokens signed with HMAC-SHA256 and the project's secret (RFC 7515, RFC 7519).

#include "pg/prelude.hpp"

extern "C" {
#include "lib/stringinfo.h"
}

namespace cache_ext::api {

/// Appends the token of claims, which are a JSON text in the database's encoding. The secret is that of cache_ext.jwt_secret, else one kept in Supabase
/// Vault; an ERROR 55000 where there is neither.
void append_token(StringInfo to, const StringInfoData& claims);

}  // namespace cache_ext::api
