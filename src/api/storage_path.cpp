#include "api/storage_path.hpp"

#include "api/args.hpp"

extern "C" {
#include "utils/builtins.h"
}

namespace cache_ext::api {

namespace {

/// The most characters of a bucket's name.
constexpr std::size_t kMaxBucketBytes = 100;

/// What the service takes beside letters and digits of ASCII, and the slash of a path.
constexpr std::string_view kMarks = "_!.*'() &$=@;:+,?-";

bool is_taken(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           kMarks.find(c) != std::string_view::npos;
}

constexpr char kTaken[] =
    "The storage service takes the letters a to z and A to Z, digits, spaces and _!.*'()&$=@;:+,?-";

[[noreturn]] void raise_invalid(const char* what, const char* detail, const char* hint = nullptr) {
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid %s", what),
                    errdetail_internal("%s", detail), hint != nullptr ? errhint("%s", hint) : 0));
}

/// A name that can be said in a URL: browsers and libraries resolve these segments away before they send it.
void check_segments(std::string_view name, const char* what) {
    for (std::size_t begin = 0; begin <= name.size();) {
        const std::size_t end = std::min(name.find('/', begin), name.size());
        const std::string_view segment = name.substr(begin, end - begin);
        if (segment == "." || segment == "..")
            raise_invalid(what, "A segment is \".\" or \"..\", which no URL can name.");
        begin = end + 1;
    }
}

void check_name(std::string_view name, const char* what, bool has_folders) {
    if (name.empty()) raise_invalid(what, "It is empty.");
    const auto* bad = std::find_if(name.begin(), name.end(),
                                   [=](char c) { return !is_taken(c) && !(has_folders && c == '/'); });
    if (bad != name.end()) {
        const auto at = static_cast<int>(bad - name.begin()) + 1;
        const char* detail = *bad > ' ' && *bad < 0x7f
                                 ? psprintf("The character %c at byte %d is not taken.", *bad, at)
                                 : psprintf("The character at byte %d is not taken.", at);
        raise_invalid(
            what, detail,
            has_folders ? psprintf("%s, with / between folders.", kTaken) : psprintf("%s.", kTaken));
    }
    check_segments(name, what);
}

std::string_view text_argument(FunctionCallInfo fcinfo, int number, const char* name) {
    require_argument(fcinfo, number, name);
    const text* value = PG_GETARG_TEXT_PP(number);
    return {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

void append_encoded(StringInfo to, std::string_view name) {
    for (const char c : name) {
        // All else that is taken may stand in a path as it is.
        if (c == ' ') {
            appendStringInfoString(to, "%20");
        } else if (c == '?') {
            appendStringInfoString(to, "%3F");
        } else {
            appendStringInfoCharMacro(to, c);
        }
    }
}

}  // namespace

StoragePath storage_path_argument(FunctionCallInfo fcinfo, int bucket, int path) {
    StoragePath where{text_argument(fcinfo, bucket, "bucket"), text_argument(fcinfo, path, "path")};
    where.path.remove_prefix(std::min(where.path.find_first_not_of('/'), where.path.size()));
    if (where.bucket.size() > kMaxBucketBytes)
        raise_invalid("name of a storage bucket", "It has more than 100 characters.");
    check_name(where.bucket, "name of a storage bucket", false);
    check_name(where.path, "path of a storage object", true);
    return where;
}

void append_plain(StringInfo to, const StoragePath& where) {
    appendBinaryStringInfo(to, where.bucket.data(), static_cast<int>(where.bucket.size()));
    appendStringInfoChar(to, '/');
    appendBinaryStringInfo(to, where.path.data(), static_cast<int>(where.path.size()));
}

void append_encoded(StringInfo to, const StoragePath& where) {
    append_encoded(to, where.bucket);
    appendStringInfoChar(to, '/');
    append_encoded(to, where.path);
}

}  // namespace cache_ext::api
