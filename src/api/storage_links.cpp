// Links to storage objects: create_signed_storage_url, create_signed_upload_url, get_public_storage_url.
//
// A signed link lets whoever has it do one thing with one object, whatever row security says of him. So none is made for a caller to whom row security would
// not have allowed that thing.

#include "api/args.hpp"
#include "api/storage_caller.hpp"
#include "api/storage_objects.hpp"
#include "api/storage_path.hpp"
#include "api/storage_token.hpp"
#include "pg/guard.hpp"
#include "pg/subtransaction.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// How long a link for an upload can be used, in seconds. The service lets nobody choose either.
constexpr int kUploadLife = 2 * 60 * 60;

Datum text_datum(std::string_view value) {
    return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
}

/// Seconds since 1970, now and not when the transaction began.
std::int64_t unix_time() {
    constexpr std::int64_t kEpochs = std::int64_t{POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE} * SECS_PER_DAY;
    return GetCurrentTimestamp() / USECS_PER_SEC + kEpochs;
}

// --- whether the caller may -----------------------------------------------------------------------------

/// Whether the caller is shown the object.
bool is_visible(const StoragePath& where) {
    Oid types[] = {TEXTOID, TEXTOID};
    Datum values[] = {text_datum(where.bucket), text_datum(where.path)};
    const int level = NewGUCNestLevel();
    set_storage_operation("storage.object.sign");
    SPI_connect();
    const int result = SPI_execute_with_args(
        "SELECT FROM storage.objects o WHERE o.bucket_id OPERATOR(pg_catalog.=) $1 "
        "AND o.name OPERATOR(pg_catalog.=) $2",
        2, types, values, nullptr, true, 1);
    if (result != SPI_OK_SELECT) elog(ERROR, "could not read an object: %s", SPI_result_code_string(result));
    const bool found = SPI_processed > 0;
    SPI_finish();
    AtEOXact_GUC(false, level);
    return found;
}

/// Whether the service would put it into the column `owner`: a UUID of one of the first versions.
bool is_owner_uuid(std::string_view id) noexcept {
    constexpr std::string_view kForm = "hhhhhhhh-hhhh-vhhh-rhhh-hhhhhhhhhhhh";
    const auto fits = [](char c, char form) {
        const char low = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
        const bool is_digit = low >= '0' && low <= '9';
        switch (form) {
            case '-':
                return c == '-';
            case 'v':
                return low >= '0' && low <= '5';
            case 'r':
                return low == '0' || low == '8' || low == '9' || low == 'a' || low == 'b';
            default:
                return is_digit || (low >= 'a' && low <= 'f');
        }
    };
    return std::equal(id.begin(), id.end(), kForm.begin(), kForm.end(), fits);
}

/// What the service would insert to see whether an upload is allowed: a row without size, and without metadata, which nobody knows yet. Older installations lack some of the columns.
struct Attempt {
    StringInfoData columns;
    StringInfoData values;
    StringInfoData updates;
    int count = 0;
    Oid types[6];
    Datum data[6];
    char nulls[6];

    void add(Oid table, const char* column, Oid type, Datum value, bool is_null, bool is_updated) {
        if (get_attnum(table, column) == InvalidAttrNumber) return;
        const char* comma = count > 0 ? ", " : "";
        appendStringInfo(&columns, "%s%s", comma, column);
        appendStringInfo(&values, "%s$%d", comma, count + 1);
        if (is_updated)
            appendStringInfo(&updates, "%s%s = EXCLUDED.%s", updates.len > 0 ? ", " : "", column, column);
        types[count] = type;
        data[count] = value;
        nulls[count] = is_null ? 'n' : ' ';
        ++count;
    }
};

const char* describe_attempt(Attempt& attempt, const StoragePath& where, std::string_view subject,
                             bool may_replace) {
    const Oid table = storage_table("objects");
    const bool has_uuid = is_owner_uuid(subject);
    const char* id = pnstrdup(subject.data(), subject.size());
    initStringInfo(&attempt.columns);
    initStringInfo(&attempt.values);
    initStringInfo(&attempt.updates);
    attempt.add(table, "bucket_id", TEXTOID, text_datum(where.bucket), false, false);
    attempt.add(table, "name", TEXTOID, text_datum(where.path), false, false);
    attempt.add(table, "version", TEXTOID, text_datum("1"), false, true);
    attempt.add(table, "metadata", JSONBOID, Datum{0}, true, true);
    attempt.add(table, "owner", UUIDOID,
                has_uuid ? DirectFunctionCall1(uuid_in, CStringGetDatum(id)) : Datum{0}, !has_uuid, has_uuid);
    attempt.add(table, "owner_id", TEXTOID, text_datum(subject), subject.empty(), !subject.empty());
    const char* insert =
        psprintf("INSERT INTO storage.objects (%s) VALUES (%s)", attempt.columns.data, attempt.values.data);
    // What replaces an object is returned, so that it must be one that the caller may see.
    return may_replace ? psprintf("%s ON CONFLICT (name, bucket_id) DO UPDATE SET %s RETURNING id", insert,
                                  attempt.updates.data)
                       : insert;
}

void run_attempt(Attempt& attempt, const char* query) {
    set_storage_operation("storage.object.sign_upload_url");
    SPI_connect();
    const int result =
        SPI_execute_with_args(query, attempt.count, attempt.types, attempt.data, attempt.nulls, false, 0);
    if (result < 0) elog(ERROR, "could not try an upload: %s", SPI_result_code_string(result));
    SPI_finish();
}

/// Tries the upload and takes it back, with all that triggers have done. An ERROR that it raises is the caller's answer.
void check_upload(const StoragePath& where, std::string_view subject, bool may_replace) {
    Attempt attempt;
    const char* query = describe_attempt(attempt, where, subject, may_replace);
    if (ErrorData* error = pg::try_out([&] { run_attempt(attempt, query); }); error != nullptr)
        ReThrowError(error);
}

// --- links ------------------------------------------------------------------------------------------------

void append_json(StringInfo to, const char* name, const char* value) {
    appendStringInfo(to, "%s\"%s\":", to->len > 1 ? "," : "", name);
    escape_json(to, value);
}

const char* plain(const StoragePath& where) {
    StringInfoData text;
    initStringInfo(&text);
    append_plain(&text, where);
    return text.data;
}

void append_times(StringInfo claims, std::int64_t life) {
    const std::int64_t now = unix_time();
    appendStringInfo(claims, ",\"iat\":" INT64_FORMAT ",\"exp\":" INT64_FORMAT "}", now, now + life);
}

Datum signed_link(const char* begin, const StoragePath& where, const StringInfoData& claims) {
    StringInfoData link;
    initStringInfo(&link);
    appendStringInfoString(&link, begin);
    append_encoded(&link, where);
    appendStringInfoString(&link, "?token=");
    append_token(&link, claims);
    return text_datum({link.data, static_cast<std::size_t>(link.len)});
}

}  // namespace

CACHE_EXT_FUNCTION(create_signed_storage_url) {
    const StoragePath where = storage_path_argument(fcinfo, 0, 1);
    require_argument(fcinfo, 2, "time until a link expires");
    const std::int32_t life = PG_GETARG_INT32(2);
    if (life < 1) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a link must expire after it is made"),
                 errdetail("It was to expire in %d seconds.", life),
                 errhint("Pass a positive number of seconds.")));
    }
    (void)storage_table("objects");
    if (!is_visible(where)) {
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_OBJECT),
                 errmsg("storage object \"%s\" does not exist, or the caller may not see it", plain(where))));
    }
    StringInfoData claims;
    initStringInfo(&claims);
    appendStringInfoChar(&claims, '{');
    append_json(&claims, "url", plain(where));
    append_json(&claims, "scope", "download");
    append_times(&claims, life);
    return signed_link("/object/sign/", where, claims);
}

CACHE_EXT_FUNCTION(create_signed_upload_url) {
    const StoragePath where = storage_path_argument(fcinfo, 0, 1);
    require_argument(fcinfo, 2, "choice whether an upload may replace an object");
    const bool may_replace = PG_GETARG_BOOL(2);
    PreventCommandIfReadOnly("create_signed_upload_url()");
    PreventCommandDuringRecovery("create_signed_upload_url()");
    const std::string_view subject = caller_subject();
    check_upload(where, subject, may_replace);
    StringInfoData claims;
    initStringInfo(&claims);
    appendStringInfoChar(&claims, '{');
    if (!subject.empty()) append_json(&claims, "owner", pnstrdup(subject.data(), subject.size()));
    append_json(&claims, "url", plain(where));
    appendStringInfo(&claims, ",\"upsert\":%s", may_replace ? "true" : "false");
    append_json(&claims, "scope", "upload");
    append_times(&claims, kUploadLife);
    return signed_link("/object/upload/sign/", where, claims);
}

CACHE_EXT_FUNCTION(get_public_storage_url) {
    StringInfoData link;
    initStringInfo(&link);
    appendStringInfoString(&link, "/object/public/");
    append_encoded(&link, storage_path_argument(fcinfo, 0, 1));
    return text_datum({link.data, static_cast<std::size_t>(link.len)});
}

}  // namespace cache_ext::api
