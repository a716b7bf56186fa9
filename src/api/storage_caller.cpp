#include "api/storage_caller.hpp"

#include "pg/identity.hpp"

extern "C" {
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
}

namespace cache_ext::api {

namespace {

[[noreturn]] void raise_nobody() {
    ereport(ERROR,
            (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("it is not known whose storage usage is meant"),
             errdetail("The caller has no claim \"sub\"."),
             errhint("Pass a user's id, or call as a user who has signed in.")));
    pg_unreachable();
}

}  // namespace

std::string_view caller_subject() {
    const char* claims = GetConfigOption("request.jwt.claims", true, false);
    if (claims == nullptr || *claims == '\0') {
        // As servers of some years ago have it.
        const char* alone = GetConfigOption("request.jwt.claim.sub", true, false);
        return alone != nullptr ? std::string_view{pstrdup(alone)} : std::string_view{};
    }
    if (pg::caller().bypass) return {};
    Jsonb* json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(claims)));
    JsonbValue found;
    if (!JB_ROOT_IS_OBJECT(json) || getKeyJsonValueFromContainer(&json->root, "sub", 3, &found) == nullptr ||
        found.type != jbvString)
        return {};
    return {found.val.string.val, static_cast<std::size_t>(found.val.string.len)};
}

std::string_view user_argument(FunctionCallInfo fcinfo, int number) {
    const bool is_shared = pg::caller().is_shared;
    if (PG_ARGISNULL(number)) {
        const std::string_view own = caller_subject();
        if (own.empty() && !is_shared) raise_nobody();
        return own;
    }
    const std::string_view asked = DatumGetCString(DirectFunctionCall1(uuid_out, PG_GETARG_DATUM(number)));
    if (!is_shared && asked != caller_subject()) {
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("permission denied for the storage usage of another user"),
                        errhint("Leave the argument out for one's own.")));
    }
    return asked;
}

pg_uuid_t* parse_uuid(std::string_view text) {
    if (text.size() != 36) return nullptr;
    auto* id = static_cast<pg_uuid_t*>(palloc(sizeof(pg_uuid_t)));
    const auto digit = [](char c) {
        return c >= '0' && c <= '9' ? c - '0' : (c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1);
    };
    std::size_t at = 0;
    for (int i = 0; i < UUID_LEN; ++i) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && text[at++] != '-') return nullptr;
        const int high = digit(text[at]);
        const int low = digit(text[at + 1]);
        if (high < 0 || low < 0) return nullptr;
        id->data[i] = static_cast<unsigned char>(16 * high + low);
        at += 2;
    }
    return id;
}

std::string_view calling_user() {
    const std::string_view own = caller_subject();
    if (own.empty()) raise_nobody();
    return own;
}

}  // namespace cache_ext::api
