#include "pg/environment.hpp"

#include "pg/compat.hpp"

extern "C" {
#include "access/gin.h"
#include "catalog/namespace.h"
#include "parser/parse_expr.h"
#include "parser/parser.h"
#include "pgtime.h"
#include "tsearch/ts_cache.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/rls.h"
#include "utils/xml.h"

// Of utils/pg_locale.h, which needs ICU's headers where the server was built with ICU.
extern PGDLLIMPORT char* locale_monetary;
extern PGDLLIMPORT char* locale_numeric;
extern PGDLLIMPORT char* locale_time;
}

namespace cache_ext::pg {

namespace {

const char* time_zone() noexcept { return pg_get_timezone_name(session_timezone); }

/// What abbreviations such as IST stand for. The server keeps it where no library sees it.
const char* time_zone_abbreviations() noexcept {
    static SettingRef setting{"timezone_abbreviations"};
    return setting.value();
}

/// Those with a text. What a session_timezone is made from is its name.
struct TextSetting {
    const char* name;
    const char* (*value)() noexcept;
};

constexpr TextSetting kTexts[] = {
    {"search_path", []() noexcept -> const char* { return namespace_search_path; }},
    {"timezone", time_zone},
    {"timezone_abbreviations", time_zone_abbreviations},
    {"default_text_search_config", []() noexcept -> const char* { return TSCurrentConfig; }},
    {"lc_monetary", []() noexcept -> const char* { return locale_monetary; }},
    {"lc_numeric", []() noexcept -> const char* { return locale_numeric; }},
    {"lc_time", []() noexcept -> const char* { return locale_time; }},
};
constexpr std::size_t kTextCount = std::size(kTexts);

/// Those that are numbers inside the server. DateStyle is two of them.
struct NumberSetting {
    const char* name;
    int (*value)() noexcept;
};

constexpr NumberSetting kNumbers[] = {
    {"datestyle", []() noexcept { return DateStyle * 16 + DateOrder; }},
    {"intervalstyle", []() noexcept { return IntervalStyle; }},
    {"extra_float_digits", []() noexcept { return extra_float_digits; }},
    {"bytea_output", []() noexcept { return bytea_output; }},
    {"row_security", []() noexcept { return static_cast<int>(row_security); }},
    // Anyone may set these too, and have a shared function give others what he makes of it.
    {"array_nulls", []() noexcept { return static_cast<int>(Array_nulls); }},
    {"backslash_quote", []() noexcept { return backslash_quote; }},
    {"gin_fuzzy_search_limit", []() noexcept { return GinFuzzySearchLimit; }},
    {"quote_all_identifiers", []() noexcept { return static_cast<int>(quote_all_identifiers); }},
    {"standard_conforming_strings", []() noexcept { return static_cast<int>(standard_conforming_strings); }},
    {"transform_null_equals", []() noexcept { return static_cast<int>(Transform_null_equals); }},
    {"xmlbinary", []() noexcept { return xmlbinary; }},
    {"xmloption", []() noexcept { return xmloption; }},
};
constexpr std::size_t kNumberCount = std::size(kNumbers);

/// What was found last. Made once and never freed.
struct Seen {
    std::string texts[kTextCount];
    int numbers[kNumberCount] = {};
    std::uint64_t number = 0;
};

constinit Seen* seen = nullptr;

const char* text_of(const TextSetting& setting) noexcept {
    const char* value = setting.value();
    return value != nullptr ? value : "";
}

bool is_current(const Seen& s) noexcept {
    for (std::size_t i = 0; i < kNumberCount; ++i) {
        if (s.numbers[i] != kNumbers[i].value()) return false;
    }
    for (std::size_t i = 0; i < kTextCount; ++i) {
        if (std::strcmp(s.texts[i].c_str(), text_of(kTexts[i])) != 0) return false;
    }
    return true;
}

}  // namespace

std::uint64_t environment_number() {
    if (seen == nullptr) [[unlikely]]
        seen = new Seen;
    if (seen->number != 0 && is_current(*seen)) [[likely]]
        return seen->number;
    for (std::size_t i = 0; i < kTextCount; ++i)
        seen->texts[i] = text_of(kTexts[i]);
    for (std::size_t i = 0; i < kNumberCount; ++i)
        seen->numbers[i] = kNumbers[i].value();
    return ++seen->number;
}

void append_environment(StringInfo text, std::uint32_t fixed) {
    for (std::size_t i = 0; i < kTextCount; ++i) {
        const std::string& value = seen->texts[i];
        const bool skipped = (fixed >> i & 1U) != 0;
        appendStringInfo(text, "%zu:%s", skipped ? 0 : value.size(), skipped ? "" : value.c_str());
    }
    for (std::size_t i = 0; i < kNumberCount; ++i) {
        const bool skipped = (fixed >> (kTextCount + i) & 1U) != 0;
        appendStringInfo(text, "%d,", skipped ? 0 : seen->numbers[i]);
    }
}

std::uint32_t environment_bit(const char* name) noexcept {
    for (std::size_t i = 0; i < kTextCount; ++i) {
        if (pg_strcasecmp(kTexts[i].name, name) == 0) return 1U << i;
    }
    for (std::size_t i = 0; i < kNumberCount; ++i) {
        if (pg_strcasecmp(kNumbers[i].name, name) == 0) return 1U << (kTextCount + i);
    }
    return 0;
}

void set_locally(const char* name, const char* value) {
    (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

}  // namespace cache_ext::pg
