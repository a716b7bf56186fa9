#include "redis/taking.hpp"

#include <charconv>
#include <utility>

namespace cache_ext::redis {

namespace {

// A server without memory takes nothing in, but from a script that has written something already. So each begins with a deletion of nothing, for that is where queues have to be
// emptied.

/// KEYS: what was noted. ARGV: the queue.
constexpr std::string_view kNote =
    "redis.call('ZREM', KEYS[1], ARGV[1]) "
    "redis.call('ZADD', KEYS[1], redis.call('TIME')[1], ARGV[1]) "
    "return 1";

/// KEYS: what was noted. ARGV: how many seconds ago at least, then queues.
constexpr std::string_view kForget =
    "local before = redis.call('TIME')[1] - ARGV[1] "
    "for i = 2, #ARGV do local at = redis.call('ZSCORE', KEYS[1], ARGV[i]) "
    "if at and tonumber(at) < before then redis.call('ZREM', KEYS[1], ARGV[i]) end end "
    "return 1";

/// KEYS of what follows: the list, the hash. What may be refused comes first.
#define CACHE_EXT_GIVE_BACK                                                           \
    "redis.call('HDEL', KEYS[2], '') "                                                \
    "local function give_back(first) "                                                \
    "local items = {} "                                                               \
    "for i = first, #ARGV do "                                                        \
    "local v = redis.call('HGET', KEYS[2], ARGV[i]) "                                 \
    "local n, text = string.match(v or '', '^(%d+) (.*)$') "                          \
    "if n then items[#items + 1] = {tonumber(n), text, ARGV[i]} end end "             \
    "table.sort(items, function(a, b) return a[1] > b[1] end) "                       \
    "for _, item in ipairs(items) do "                                                \
    "redis.call('RPUSH', KEYS[1], item[2]) redis.call('HDEL', KEYS[2], item[3]) end " \
    "if redis.call('HLEN', KEYS[2]) == 1 then redis.call('HDEL', KEYS[2], 'n') end end "

/// ARGV: the token, then those that are put back. Who asks again, or on whose behalf that is done by what lies between, is given the same again.
constexpr std::string_view kTake = CACHE_EXT_GIVE_BACK
    "give_back(2) "
    "local had = ARGV[1] ~= '' and redis.call('HGET', KEYS[2], ARGV[1]) "
    "if had then return string.match(had, '^%d+ (.*)$') end "
    "local v = redis.call('LINDEX', KEYS[1], -1) "
    "if not v then return 0 end "
    "if ARGV[1] == '' then return 1 end "
    "local n = (tonumber(redis.call('HGET', KEYS[2], 'n')) or 0) + 1 "
    "redis.call('HSET', KEYS[2], 'n', n, ARGV[1], n .. ' ' .. v) "
    "local r = redis.pcall('RPOP', KEYS[1]) "
    "if type(r) == 'table' then redis.call('HDEL', KEYS[2], ARGV[1]) return r end "
    "return v";

/// ARGV: how many are dropped, these, then those that are put back.
constexpr std::string_view kSettle = CACHE_EXT_GIVE_BACK
    "local last = ARGV[1] + 1 "
    "for i = 2, last do redis.call('HDEL', KEYS[2], ARGV[i]) end "
    "give_back(last + 1) "
    "return 1";

#undef CACHE_EXT_GIVE_BACK

/// The fields of the hash; where they are very many, some of them, others each time. ARGV: how many at most, a number by chance.
constexpr std::string_view kTokens =
    "local all = redis.call('HKEYS', KEYS[1]) local most = tonumber(ARGV[1]) "
    "if #all <= most then return all end "
    "local some, from = {}, tonumber(ARGV[2]) "
    "for i = 1, most do some[i] = all[(from + i) % #all + 1] end "
    "return some";
constexpr std::string_view kMostTokens = "10000";

/// Nothing that was noted so long ago can still be relied on, however slow its servers' clocks and requests are.
constexpr std::string_view kForgetAfterSeconds = "3600";
static_assert(kNotedFor <= std::chrono::minutes(60) / 6);

}  // namespace

std::string Token::text() const {
    std::string text = std::to_string(transaction) + ":" + std::to_string(number);
    if (timeline != 0) text += ":" + std::to_string(timeline) + ":" + std::to_string(position);
    return text;
}

std::optional<Token> parse_token(std::string_view text) noexcept {
    Token token;
    const char* at = text.data();
    const char* const end = at + text.size();
    // Whether there is a number next, after a colon unless it is the first.
    const auto read = [&](auto& number, bool is_first) {
        if (!is_first && (at == end || *at++ != ':')) return false;
        const auto [rest, bad] = std::from_chars(at, end, number);
        at = rest;
        return bad == std::errc();
    };
    if (!read(token.transaction, true) || !read(token.number, false)) return std::nullopt;
    if (at != end && (!read(token.timeline, false) || !read(token.position, false))) return std::nullopt;
    if (at != end) return std::nullopt;
    return token;
}

bool Takings::note(const std::string& queue, Handler handler, TimePoint now) const {
    const std::string key = layout.takings_key(taker);
    const std::string_view words[] = {"EVAL", kNote, "1", key, queue};
    return client.submit(words, key, std::move(handler), now);
}

bool Takings::list(Handler handler, TimePoint now) const {
    const std::string key = layout.takings_key(taker);
    const std::string_view words[] = {"ZRANGE", key, "0", "-1"};
    return client.submit(words, key, std::move(handler), now);
}

bool Takings::forget(const std::vector<std::string>& queues, Handler handler, TimePoint now) const {
    const std::string key = layout.takings_key(taker);
    std::vector<std::string_view> words{"EVAL", kForget, "1", key, kForgetAfterSeconds};
    words.insert(words.end(), queues.begin(), queues.end());
    return client.submit(words, key, std::move(handler), now);
}

bool Takings::take(const std::string& queue, std::string_view token, const std::vector<std::string>& back,
                   Handler handler, TimePoint now) const {
    const std::string list = layout.queue_key(queue);
    const std::string taken = layout.taken_key(queue, taker);
    std::vector<std::string_view> words{"EVAL", kTake, "2", list, taken, token};
    words.insert(words.end(), back.begin(), back.end());
    return client.submit(words, list, std::move(handler), now);
}

bool Takings::tokens(const std::string& queue, Handler handler, TimePoint now) const {
    const std::string taken = layout.taken_key(queue, taker);
    const std::string chance = std::to_string(now.time_since_epoch().count() % 1'000'000'007);
    const std::string_view words[] = {"EVAL", kTokens, "1", taken, kMostTokens, chance};
    return client.submit(words, taken, std::move(handler), now);
}

bool Takings::settle(const std::string& queue, const std::vector<std::string>& dropped,
                     const std::vector<std::string>& back, Handler handler, TimePoint now) const {
    const std::string list = layout.queue_key(queue);
    const std::string taken = layout.taken_key(queue, taker);
    const std::string count = std::to_string(dropped.size());
    std::vector<std::string_view> words{"EVAL", kSettle, "2", list, taken, count};
    words.insert(words.end(), dropped.begin(), dropped.end());
    words.insert(words.end(), back.begin(), back.end());
    return client.submit(words, list, std::move(handler), now);
}

}  // namespace cache_ext::redis
