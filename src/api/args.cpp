#include "api/args.hpp"

#include "core/glob.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// Beyond this a duration is "for ever" for any purpose, and adding it to a time cannot overflow.
constexpr double kMaxDuration = 100.0 * 365.25 * 86400.0 * 1e6;

std::string_view view_of(text* value) {
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

std::string_view checked_text(text* value, const char* what, std::size_t limit) {
    const std::string_view text = view_of(value);
    if (text.empty()) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must not be empty", what)));
    }
    if (text.size() > limit) {
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("%s is too long", what),
                        errdetail("It has %zu bytes; the limit is %zu.", text.size(), limit)));
    }
    return text;
}

[[noreturn]] void raise_null(const char* what) {
    ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", what)));
    pg_unreachable();
}

/// The elements of a text array; raises on a null one.
Texts elements_of(ArrayType* array, const char* what) {
    Datum* values = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &count);
    Texts texts;
    texts.begin_ = static_cast<std::string_view*>(
        palloc(sizeof(std::string_view) * static_cast<std::size_t>(Max(count, 1))));
    for (int i = 0; i < count; ++i) {
        if (nulls[i]) raise_null(what);
        texts.begin_[texts.count++] = view_of(DatumGetTextPP(values[i]));
    }
    return texts;
}

}  // namespace

void require_argument(FunctionCallInfo fcinfo, int number, const char* name) {
    if (PG_ARGISNULL(number)) raise_null(name);
}

std::string_view checked_key(text* value, const char* what) {
    return checked_text(value, what, core::kMaxKeyBytes);
}

std::string_view key_argument(FunctionCallInfo fcinfo, int number) {
    if (PG_ARGISNULL(number)) raise_null("cache key");
    return checked_key(PG_GETARG_TEXT_PP(number), "cache key");
}

std::string_view pattern_argument(FunctionCallInfo fcinfo, int number) {
    if (PG_ARGISNULL(number)) raise_null("cache key pattern");
    const std::string_view pattern = checked_key(PG_GETARG_TEXT_PP(number), "cache key pattern");
    const core::GlobCheck check = core::glob_check(pattern);
    if (check.error != core::GlobError::kNone) {
        const char* reason = check.error == core::GlobError::kUnclosedSet
                                 ? "The set that begins at byte %zu is not closed."
                             : check.error == core::GlobError::kTrailingBackslash
                                 ? "Nothing follows the backslash at byte %zu."
                                 : "The range at byte %zu ends before it begins.";
        char detail[96];
        pg_snprintf(detail, sizeof detail, reason, check.position + 1);
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cache key pattern is not valid"),
                        errdetail_internal("%s", detail),
                        errhint("A pattern may contain *, ?, [a-z] and [!a-z]; \\ takes the meaning from the "
                                "character that follows.")));
    }
    return pattern;
}

void check_tag(std::string_view tag) {
    if (tag.empty())
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cache tag must not be empty")));
    if (tag.size() > core::kMaxTagBytes) {
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cache tag is too long"),
                        errdetail("It has %zu bytes; the limit is %zu.", tag.size(), core::kMaxTagBytes)));
    }
}

Texts tags_argument(FunctionCallInfo fcinfo, int number, int limit) {
    if (PG_ARGISNULL(number)) return {};
    Texts tags = elements_of(PG_GETARG_ARRAYTYPE_P(number), "cache tag");
    for (const std::string_view tag : tags)
        check_tag(tag);
    std::sort(tags.begin_, tags.begin_ + tags.count);
    tags.count = static_cast<int>(std::unique(tags.begin_, tags.begin_ + tags.count) - tags.begin_);
    if (tags.count > limit) {
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("too many cache tags"),
                        errdetail("There are %d; the limit is %d.", tags.count, limit)));
    }
    return tags;
}

Texts texts_argument(FunctionCallInfo fcinfo, int number, const char* what) {
    if (PG_ARGISNULL(number)) raise_null(what);
    return elements_of(PG_GETARG_ARRAYTYPE_P(number), what);
}

std::int64_t checked_duration(const void* interval, const char* what) {
    const auto* i = static_cast<const Interval*>(interval);
    const double micros =
        static_cast<double>(i->time) +
        (static_cast<double>(i->month) * DAYS_PER_MONTH + i->day) * static_cast<double>(USECS_PER_DAY);
    // An infinite interval has the extreme months, days and time, and so is beyond the limit.
    if (!(micros >= 1.0) || micros > kMaxDuration) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("%s must be positive and at most 100 years", what)));
    }
    return static_cast<std::int64_t>(micros);
}

std::int64_t duration_argument(FunctionCallInfo fcinfo, int number) {
    return PG_ARGISNULL(number) ? 0 : checked_duration(PG_GETARG_INTERVAL_P(number), "cache duration");
}

}  // namespace cache_ext::api
