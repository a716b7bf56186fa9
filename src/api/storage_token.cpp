#include "api/storage_token.hpp"

#include "pg/environment.hpp"
#include "pg/guard.hpp"
#include "pg/settings.hpp"
#include "pg/sha256.hpp"
#include "pg/space.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
}

namespace cache_ext::api {

namespace {

/// The header {"alg":"HS256"}, encoded.
constexpr char kHeader[] = "eyJhbGciOiJIUzI1NiJ9";

/// The name of the secret in Vault.
constexpr char kVaultName[] = "cache_ext_jwt_secret";

// --- the secret ---------------------------------------------------------------------------------------

/// Whose the view is that shows Vault's secrets; InvalidOid: there is none. What is not the work of somebody who could do without us must not run with our
/// owner's rights.
Oid owner_of_vault() {
    const Oid schema = get_namespace_oid("vault", true);
    const Oid view = OidIsValid(schema) ? get_relname_relid("decrypted_secrets", schema) : InvalidOid;
    HeapTuple tuple = OidIsValid(view) ? SearchSysCache1(RELOID, ObjectIdGetDatum(view)) : nullptr;
    if (!HeapTupleIsValid(tuple)) return InvalidOid;
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    return owner;
}

/// The secret that Vault has under our name, in the caller's memory; null: none.
const char* read_vault() {
    const char* secret = nullptr;
    MemoryContext outer = CurrentMemoryContext;
    SPI_connect();
    const char* query = psprintf(
        "SELECT decrypted_secret FROM vault.decrypted_secrets WHERE name OPERATOR(pg_catalog.=) "
        "'%s'::pg_catalog.text",
        kVaultName);
    if (const int result = SPI_execute(query, true, 1); result != SPI_OK_SELECT)
        elog(ERROR, "could not read a secret from Vault: %s", SPI_result_code_string(result));
    if (SPI_processed > 0) {
        const char* value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
        if (value != nullptr) secret = MemoryContextStrdup(outer, value);
    }
    SPI_finish();
    return secret;
}

/// The same with the rights of the extension's owner.
const char* read_vault_as(Oid reader) {
    Oid role = InvalidOid;
    int security = 0;
    GetUserIdAndSecContext(&role, &security);
    const int level = NewGUCNestLevel();
    SetUserIdAndSecContext(reader, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    pg::set_locally("search_path", "pg_catalog");
    const char* secret = read_vault();
    AtEOXact_GUC(false, level);
    SetUserIdAndSecContext(role, security);
    return secret;
}

/// The bytes to sign with.
std::string_view find_secret() {
    if (pg::settings::jwt_secret != nullptr && pg::settings::jwt_secret[0] != '\0')
        return pg::settings::jwt_secret;
    const Oid reader = pg::current_space().extension_owner;
    const Oid owner = owner_of_vault();
    const bool is_trusted = OidIsValid(owner) && (owner == reader || superuser_arg(owner));
    const char* secret = is_trusted ? read_vault_as(reader) : nullptr;
    if (secret == nullptr || secret[0] == '\0') {
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("there is no secret to sign links to storage objects with"),
                 OidIsValid(owner) && !is_trusted
                     ? errdetail("vault.decrypted_secrets belongs to neither a superuser nor the owner of "
                                 "the extension, and was not read.")
                     : 0,
                 errhint("Set cache_ext.jwt_secret to the project's JWT secret, or store it in Supabase "
                         "Vault under the name %s.",
                         kVaultName)));
    }
    char* encoded = pg_server_to_any(secret, static_cast<int>(std::strlen(secret)), PG_UTF8);
    return encoded;
}

// --- the token ----------------------------------------------------------------------------------------

/// Base64 for URLs, without padding (RFC 4648, section 5).
void append_base64url(StringInfo to, std::string_view bytes) {
    static constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const auto byte = [bytes](std::size_t i) -> std::uint32_t {
        return i < bytes.size() ? static_cast<std::uint8_t>(bytes[i]) : 0;
    };
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::uint32_t group = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
        const std::size_t digits = std::min<std::size_t>(bytes.size() - i, 3) + 1;
        for (std::size_t d = 0; d < digits; ++d)
            appendStringInfoCharMacro(to, kDigits[group >> (18 - 6 * d) & 63]);
    }
}

}  // namespace

void append_token(StringInfo to, const StringInfoData& claims) {
    const std::string_view secret = find_secret();
    const int begin = to->len;
    appendStringInfoString(to, kHeader);
    appendStringInfoChar(to, '.');
    append_base64url(to, pg_server_to_any(claims.data, claims.len, PG_UTF8));
    const auto signature =
        pg::hmac_sha256(secret, {to->data + begin, static_cast<std::size_t>(to->len - begin)});
    appendStringInfoChar(to, '.');
    append_base64url(to, {reinterpret_cast<const char*>(signature.data()), signature.size()});
}

}  // namespace cache_ext::api
