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
    "if v then local n, text = string.match(v, '^(%d+) (.*)$') "                      \
    "items[#items + 1] = {tonumber(n), text, ARGV[i]} end end "                       \
    "table.sort(items, function(a, b) return a[1] > b[1] end) "                       \
    "for _, item in ipairs(items) do "                                                \
    "redis.call('RPUSH', KEYS[1], item[2]) redis.call('HDEL', KEYS[2], item[3]) end " \
    "if redis.call('HLEN', KEYS[2]) == 1 then redis.call('HDEL', KEYS[2], 'n') end end "

/// ARGV: the token, then those that are put back.
constexpr std::string_view kTake = CACHE_EXT_GIVE_BACK
    "give_back(2) "
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

/// Nothing that was noted so long ago can still be relied on, however slow its servers' clocks and requests are.
constexpr std::string_view kForgetAfterSeconds = "3600";
static_assert(kNotedFor <= std::chrono::minutes(60) / 6);

}  // namespace

std::string Token::text() const { return std::to_string(transaction) + ":" + std::to_string(number); }

std::optional<Token> parse_token(std::string_view text) noexcept {
    Token token;
    const char* const end = text.data() + text.size();
    const auto [colon, bad] = std::from_chars(text.data(), end, token.transaction);
    if (bad != std::errc() || colon == end || *colon != ':') return std::nullopt;
    const auto [rest, worse] = std::from_chars(colon + 1, end, token.number);
    if (worse != std::errc() || rest != end) return std::nullopt;
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
    const std::string_view words[] = {"HKEYS", taken};
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
