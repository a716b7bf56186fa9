// make_cache_key(p_namespace text, p_name text, p_params jsonb): `namespace:name:hash`.

#include "core/patterns.hpp"
#include "pg/guard.hpp"
#include "pg/sha256.hpp"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
}

namespace cache_ext::api {

namespace {

/// Longest key, in bytes.
constexpr int kMaxKeyBytes = static_cast<int>(core::kMaxKeyBytes);

void append_field(StringInfo out, const char* bytes, int length) {
    appendBinaryStringInfo(out, reinterpret_cast<const char*>(&length), sizeof(length));
    appendBinaryStringInfo(out, bytes, length);
}

void append_scalar(StringInfo out, const JsonbValue& value) {
    switch (value.type) {
        case jbvNull:
            appendStringInfoChar(out, 'z');
            break;
        case jbvBool:
            appendStringInfoChar(out, value.val.boolean ? 't' : 'f');
            break;
        case jbvString:
            appendStringInfoChar(out, 's');
            append_field(out, value.val.string.val, value.val.string.len);
            break;
        case jbvNumeric: {
            // Without trailing zeros: 1 and 1.0 are equal jsonb values.
            char* const digits = numeric_normalize(value.val.numeric);
            appendStringInfoChar(out, 'n');
            append_field(out, digits, static_cast<int>(std::strlen(digits)));
            pfree(digits);
            break;
        }
        default:
            elog(ERROR, "unexpected jsonb value of type %d", static_cast<int>(value.type));
    }
}

/// A form that is the same for equal jsonb values and no others: each token is tagged with its kind, each text
/// preceded by its length. Members come sorted and without duplicates from the jsonb itself; the iterator
/// does not recurse.
void append_canonical(StringInfo out, Jsonb* params) {
    JsonbIterator* iterator = JsonbIteratorInit(&params->root);
    JsonbValue value;
    JsonbIteratorToken token;
    while ((token = JsonbIteratorNext(&iterator, &value, false)) != WJB_DONE) {
        switch (token) {
            case WJB_BEGIN_ARRAY:
                // A scalar at the top is kept in an array of its own; it is not that array.
                appendStringInfoChar(out, value.val.array.rawScalar ? '.' : '[');
                break;
            case WJB_END_ARRAY:
                appendStringInfoChar(out, ']');
                break;
            case WJB_BEGIN_OBJECT:
                appendStringInfoChar(out, '{');
                break;
            case WJB_END_OBJECT:
                appendStringInfoChar(out, '}');
                break;
            case WJB_KEY:
                appendStringInfoChar(out, 'k');
                append_field(out, value.val.string.val, value.val.string.len);
                break;
            default:
                append_scalar(out, value);
                break;
        }
    }
}

const text* part(FunctionCallInfo fcinfo, int argument, const char* message) {
    if (PG_ARGISNULL(argument)) {
        pg::raise(ERRCODE_NULL_VALUE_NOT_ALLOWED, message);
    }
    return PG_GETARG_TEXT_PP(argument);
}

void append_part(StringInfo out, const text* value) {
    appendBinaryStringInfo(out, VARDATA_ANY(value), static_cast<int>(VARSIZE_ANY_EXHDR(value)));
    appendStringInfoChar(out, ':');
}

}  // namespace

/// NULL params hash as the empty text, which no jsonb value has for its form; the key has three parts in any case.
/// Only trivial locals: errors of the server pass through.
CACHE_EXT_FUNCTION(make_cache_key) {
    const text* const key_namespace = part(fcinfo, 0, "the namespace of a cache key must not be null");
    const text* const name = part(fcinfo, 1, "the name of a cache key must not be null");

    StringInfoData canonical;
    initStringInfo(&canonical);
    if (!PG_ARGISNULL(2)) {
        append_canonical(&canonical, PG_GETARG_JSONB_P(2));
    }
    const pg::Digest128 hash = pg::sha256_128(canonical.data, static_cast<std::size_t>(canonical.len));

    StringInfoData key;
    initStringInfo(&key);
    append_part(&key, key_namespace);
    append_part(&key, name);
    for (const std::uint8_t byte : hash.bytes) {
        appendStringInfo(&key, "%02x", byte);
    }
    if (key.len > kMaxKeyBytes) {
        ereport(ERROR, errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cache key is too long"),
                errdetail("It has %d bytes; the limit is %d.", key.len, kMaxKeyBytes),
                errhint("Shorten the namespace or the name; what varies belongs in the parameters."));
    }
    PG_RETURN_TEXT_P(cstring_to_text_with_len(key.data, key.len));
}

}  // namespace cache_ext::api
