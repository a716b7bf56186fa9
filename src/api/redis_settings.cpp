// get_redis_settings, and what update_redis_settings consists of: the settings of Redis that a database has of its own.

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>

#include "pg/guard.hpp"
#include "pg/outbox.hpp"
#include "pg/redis_settings.hpp"
#include "pg/space.hpp"
#include "redis/json_text.hpp"
#include "redis/url.hpp"
#include "worker/pusher.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "funcapi.h"
}

namespace cache_ext::api {

namespace {

enum class Kind : std::uint8_t { kUrl, kSecret, kText, kNamespaces, kFlag, kNumber };

struct Known {
    const char* name;
    Kind kind;
    int least;
    int most;
};

/// What update_redis_settings takes. Those that are named like a setting of the configuration take its place in the database.
constexpr Known kKnown[] = {
    {"redis_url", Kind::kUrl, 0, 0},
    {"redis_token", Kind::kSecret, 0, 0},
    {"redis_enabled", Kind::kFlag, 0, 0},
    {"cache_ttl_data", Kind::kNumber, 1, INT_MAX / 1000},
    {"cache_ttl_count", Kind::kNumber, 1, INT_MAX / 1000},
    {"redis_prefix", Kind::kText, 0, 0},
    {"redis_namespaces", Kind::kNamespaces, 0, 0},
    {"redis_channel", Kind::kText, 0, 0},
    {"redis_stream", Kind::kText, 0, 0},
    {"redis_stream_maxlen", Kind::kNumber, 1, INT_MAX},
    {"redis_queues", Kind::kFlag, 0, 0},
    {"redis_subscribe", Kind::kFlag, 0, 0},
    {"redis_timeout", Kind::kNumber, 1, 600'000},
    {"redis_max_backlog", Kind::kNumber, 1, INT_MAX},
};

std::string text_argument(FunctionCallInfo fcinfo, int number) {
    text* const value = PG_GETARG_TEXT_PP(number);
    return {VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value))};
}

[[noreturn]] void refuse(const Known& known, const char* expected) {
    throw pg::Error(ERRCODE_INVALID_PARAMETER_VALUE,
                    std::string("invalid value for Redis setting \"") + known.name + "\"", expected);
}

void check_number(const Known& known, const std::string& value) {
    int number = 0;
    const auto [end, fault] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (fault != std::errc() || end != value.data() + value.size() || number < known.least ||
        number > known.most)
        refuse(known, ("Expected a whole number from " + std::to_string(known.least) + " to " +
                       std::to_string(known.most) + ".")
                          .c_str());
}

/// Of texts that have no bound of their own in Redis.
constexpr std::size_t kLongestText = 1024;

void check_value(const Known& known, const std::string& value, const std::string& json_type) {
    const bool is_switch_or_number = known.kind == Kind::kFlag || known.kind == Kind::kNumber;
    if (!is_switch_or_number && json_type != "string") refuse(known, "Expected a text.");
    switch (known.kind) {
        case Kind::kUrl: {
            const redis::ParsedUrl parsed = redis::parse_url(value);
            if (!parsed.url) refuse(known, parsed.error.c_str());
            break;
        }
        case Kind::kNumber:
            check_number(known, value);
            break;
        case Kind::kFlag:
            if (bool flag = false; !parse_bool(value.c_str(), &flag))
                refuse(known, "Expected true or false.");
            break;
        case Kind::kNamespaces: {
            const auto prefixes = pg::split_list(value);
            if (!prefixes || prefixes->empty() ||
                std::any_of(prefixes->begin(), prefixes->end(),
                            [](const auto& each) { return each.empty(); }))
                refuse(known, "Expected prefixes with commas in between; an empty one would mean every key.");
            break;
        }
        case Kind::kSecret:
            if (!value.empty() && !redis::is_token(value))
                refuse(known, "It contains a character that no token has.");
            break;
        case Kind::kText:
            if (value.size() > kLongestText)
                refuse(known, ("Expected at most " + std::to_string(kLongestText) + " bytes.").c_str());
            break;
    }
}

/// As it stands in a list.
std::string as_item(const std::string& text) {
    const bool is_plain = std::none_of(text.begin(), text.end(), [](char c) {
        return c == ',' || c == '"' || static_cast<unsigned char>(c) <= ' ';
    });
    if (is_plain) return text;
    std::string item = "\"";
    for (const char c : text)
        item.append(c == '"' ? 2 : 1, c);
    return item + "\"";
}

std::string describe(const pg::RedisSettings& s) {
    std::string json = "{";
    const auto name = [&json](const char* text) {
        if (json.size() > 1) json += ", ";
        redis::append_json_text(json, text);
        json += ": ";
    };
    const auto text = [&](const char* what, const std::string& value) {
        name(what);
        redis::append_json_text(json, value);
    };
    const auto number = [&](const char* what, std::optional<int> value) {
        name(what);
        json += value ? std::to_string(*value) : "null";
    };
    const auto flag = [&](const char* what, bool value) {
        name(what);
        json += value ? "true" : "false";
    };
    if (s.url) {
        text("redis_url", redis::masked(*s.url));
    } else {
        name("redis_url");
        json += "null";
    }
    flag("redis_enabled", s.enabled);
    number("cache_ttl_data", s.data_seconds);
    number("cache_ttl_count", s.count_seconds);
    name("redis_token");
    json += s.token.empty() ? "null" : "\"***\"";
    text("redis_prefix", s.prefix);
    std::string namespaces;
    for (const std::string& each : s.namespaces)
        namespaces += (namespaces.empty() ? "" : ",") + as_item(each);
    text("redis_namespaces", namespaces);
    text("redis_channel", s.channel);
    text("redis_stream", s.stream);
    number("redis_stream_maxlen", s.stream_maxlen);
    flag("redis_queues", s.queues);
    flag("redis_subscribe", s.subscribe);
    number("redis_timeout", s.timeout_ms);
    number("redis_max_backlog", s.max_backlog);
    return json + "}";
}

}  // namespace

CACHE_EXT_FUNCTION(get_redis_settings) {
    std::string json = describe(pg::redis_settings());
    return pg::pg_call([&] { return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.c_str())); });
}

/// Checks one setting and its value, as text and by its kind in JSON. Where the value cannot be told apart from a secret, it is not in the message.
CACHE_EXT_FUNCTION(check_redis_setting) {
    const std::string name = text_argument(fcinfo, 0);
    const auto* known =
        std::find_if(std::begin(kKnown), std::end(kKnown), [&](const Known& k) { return name == k.name; });
    if (known == std::end(kKnown)) {
        std::string names;
        for (const Known& each : kKnown)
            names += std::string(names.empty() ? "" : ", ") + each.name;
        throw pg::Error(ERRCODE_INVALID_PARAMETER_VALUE, "unrecognized Redis setting \"" + name + "\"", {},
                        "There are " + names + ".");
    }
    if (!PG_ARGISNULL(1)) check_value(*known, text_argument(fcinfo, 1), text_argument(fcinfo, 2));
    PG_RETURN_VOID();
}

/// An address without users and passwords, these, and what tells one place from another: see redis::same_place.
CACHE_EXT_FUNCTION(redis_url_parts) {
    redis::ParsedUrl parsed = redis::parse_url(text_argument(fcinfo, 0));
    if (!parsed.url)
        throw pg::Error(ERRCODE_INVALID_PARAMETER_VALUE, "invalid address of Redis", parsed.error);
    std::array<std::string, 6> parts;
    auto& [url, user, password, sentinel_user, sentinel_password, place] = parts;
    user = std::exchange(parsed.url->user, {});
    password = std::exchange(parsed.url->password, {});
    sentinel_user = std::exchange(parsed.url->sentinel_user, {});
    sentinel_password = std::exchange(parsed.url->sentinel_password, {});
    url = redis::masked(*parsed.url);
    place = url.substr(0, url.find(':') + 1) + parsed.url->path;
    for (const redis::Endpoint& each : parsed.url->endpoints)
        place += redis::to_text(each) + " ";
    place += parsed.url->master;
    // What was encoded may be any bytes; these become texts.
    for (const std::string& part : parts) {
        if (!pg::pg_call([&] { return pg_verifymbstr(part.data(), static_cast<int>(part.size()), true); }))
            throw pg::Error(ERRCODE_INVALID_PARAMETER_VALUE, "invalid address of Redis",
                            "a part of it is no text in the encoding of this database");
    }
    return pg::pg_call([&] {
        TupleDesc row = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &row) != TYPEFUNC_COMPOSITE)
            elog(ERROR, "redis_url_parts returns a row");
        Datum values[parts.size()];
        bool nulls[parts.size()] = {};
        for (std::size_t i = 0; i < parts.size(); ++i)
            values[i] =
                PointerGetDatum(cstring_to_text_with_len(parts[i].data(), static_cast<int>(parts[i].size())));
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));
    });
}

/// The settings have changed: Redis is to forget what it has, since nobody knows what was invalidated meanwhile.
CACHE_EXT_FUNCTION(apply_redis_settings) {
    if (!pg::current_space().exists) PG_RETURN_VOID();
    if (PG_GETARG_BOOL(0)) pg::tell_redis_everything();
    worker::want_pusher();
    PG_RETURN_VOID();
}

}  // namespace cache_ext::api
