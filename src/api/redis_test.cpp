// test_redis_connection: whether Redis answers, from here, at this address.

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "pg/guard.hpp"
#include "pg/redis_settings.hpp"
#include "pg/wait_set.hpp"
#include "redis/client.hpp"
#include "redis/url.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/builtins.h"
}

namespace cache_ext::api {

namespace {

using redis::State;
using redis::TimePoint;
using std::chrono::steady_clock;

constexpr std::string_view kMask = "***";

struct Outcome {
    bool success = false;
    std::string message;
    std::optional<double> latency_ms;
};

std::optional<std::string> text_argument(FunctionCallInfo fcinfo, int number) {
    if (PG_ARGISNULL(number)) return std::nullopt;
    text* const value = pg::pg_call([&] { return PG_GETARG_TEXT_PP(number); });
    return std::string(VARDATA_ANY(value), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(value)));
}

/// Puts the address and the token that are given in place of those in force. A secret in force goes nowhere but where it was meant for.
void apply(pg::RedisSettings& settings, const std::optional<std::string>& url,
           std::optional<std::string> token) {
    if (url) {
        redis::ParsedUrl parsed = redis::parse_url(*url);
        if (!parsed.url)
            throw pg::Error(ERRCODE_INVALID_PARAMETER_VALUE, "invalid address of Redis", parsed.error);
        // As get_redis_settings shows it.
        for (std::string* each : {&parsed.url->password, &parsed.url->sentinel_password}) {
            if (*each == kMask) each->clear();
        }
        const bool is_known = settings.url && redis::same_place(*parsed.url, *settings.url);
        if (is_known && parsed.url->password.empty() &&
            (parsed.url->user.empty() || parsed.url->user == settings.url->user)) {
            parsed.url->user = settings.url->user;
            parsed.url->password = settings.url->password;
        }
        if (is_known && parsed.url->sentinel_password.empty()) {
            parsed.url->sentinel_user = settings.url->sentinel_user;
            parsed.url->sentinel_password = settings.url->sentinel_password;
        }
        if (!is_known) settings.token.clear();
        settings.url = std::move(parsed.url);
    }
    if (token && *token != kMask) settings.token = std::move(*token);
}

redis::Options options_of(const pg::RedisSettings& settings) {
    redis::Options options;
    options.url = settings.url.value();
    options.token = settings.token;
    options.client_name = "cache_ext test";
    options.connect_timeout = options.command_timeout = redis::milliseconds(settings.timeout_ms);
    options.total_timeout = 2 * options.connect_timeout;
    return options;
}

/// One command's answer; nothing: none came in time.
std::optional<redis::Reply> ask(redis::Client& client, redis::Command command, TimePoint until) {
    std::optional<redis::Reply> reply;
    const bool taken = client.submit(
        command, {}, [&reply](const redis::Reply& r) { reply = r; }, steady_clock::now());
    // The handler refers to what is here, so it does not outlive this.
    try {
        if (taken) (void)pg::drive_until(client, until, [&reply] { return reply.has_value(); });
    } catch (...) {
        client.close(steady_clock::now());
        throw;
    }
    if (taken && !reply) {
        client.close(steady_clock::now());
        reply.reset();
    }
    return reply;
}

std::string failure(const redis::Client& client) {
    std::string error = client.status(steady_clock::now()).last_error;
    return error.empty() ? "Redis did not answer in time" : error;
}

Outcome try_out(redis::Client& client, redis::milliseconds timeout) {
    Outcome outcome;
    // What has failed once is not tried again: the answer is known.
    State state = State::kConnecting;
    (void)pg::drive_until(client, steady_clock::now() + timeout, [&] {
        state = client.status(steady_clock::now()).state;
        return state != State::kConnecting;
    });
    if (state != State::kUp) {
        outcome.message = failure(client);
        return outcome;
    }

    const TimePoint begin = steady_clock::now();
    const std::string_view ping[] = {"PING"};
    const std::optional<redis::Reply> pong = ask(client, ping, begin + timeout);
    if (!pong || !pong->ok()) {
        outcome.message = pong && !pong->text.empty() ? pong->text : failure(client);
        return outcome;
    }
    outcome.latency_ms = std::chrono::duration<double, std::milli>(steady_clock::now() - begin).count();

    // Who may not ask for it is not told: that the server answers is what matters.
    const std::string_view ask_role[] = {"ROLE"};
    const std::optional<redis::Reply> role = ask(client, ask_role, steady_clock::now() + timeout);
    if (role && role->kind == redis::Reply::Kind::kArray && !role->elements.empty() &&
        role->elements.front().text == "slave") {
        outcome.message = "the server is a replica, which takes no writes";
        return outcome;
    }
    outcome.success = true;
    return outcome;
}

Datum to_row(FunctionCallInfo fcinfo, Outcome& outcome) {
    // A server may send any bytes, which need not be text here.
    for (char& c : outcome.message) {
        if (c < ' ' || c > '~') c = '?';
    }
    return pg::pg_call([&] {
        TupleDesc row = nullptr;
        if (get_call_result_type(fcinfo, nullptr, &row) != TYPEFUNC_COMPOSITE)
            elog(ERROR, "test_redis_connection returns a row");
        Datum values[3] = {BoolGetDatum(outcome.success), CStringGetTextDatum(outcome.message.c_str()),
                           Float8GetDatum(outcome.latency_ms.value_or(0))};
        bool nulls[3] = {false, false, !outcome.latency_ms};
        return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));
    });
}

}  // namespace

CACHE_EXT_FUNCTION(test_redis_connection) {
    pg::RedisSettings settings = pg::redis_settings();
    apply(settings, text_argument(fcinfo, 0), text_argument(fcinfo, 1));
    Outcome outcome;
    if (!settings.url) {
        outcome.message = settings.url_error;
        return to_row(fcinfo, outcome);
    }
    const std::unique_ptr<redis::Client> client = redis::Client::make(options_of(settings));
    outcome = try_out(*client, redis::milliseconds(settings.timeout_ms));
    if (outcome.success) outcome.message = "connected to " + redis::masked(*settings.url);
    return to_row(fcinfo, outcome);
}

}  // namespace cache_ext::api
