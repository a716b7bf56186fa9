#include "redis/list_feeder.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace cache_ext::redis {

namespace {

constexpr milliseconds kRetry{20};
/// Where nobody waits for it.
constexpr milliseconds kRetryForgetting{1000};

/// What one script is given at most; a single item may be larger.
constexpr std::size_t kItems = 500;
constexpr std::size_t kBytes = 512 * 1024;

/// KEYS: the list, the set of what was added, the fence. ARGV: the generation, how many tokens are to be forgotten, these, then a token and a text for each item. 0, or the
/// higher generation because of which nothing was done. An item is noted after it was added: an error in between ends the script.
constexpr std::string_view kScript =
    "local fence = tonumber(redis.call('GET', KEYS[3]) or '0') "
    "if fence > tonumber(ARGV[1]) then return fence end "
    "local n = tonumber(ARGV[2]) "
    "for i = 3, n + 2 do redis.call('SREM', KEYS[2], ARGV[i]) end "
    "if fence < tonumber(ARGV[1]) then redis.call('SET', KEYS[3], ARGV[1], 'EX', 3600) end "
    "for i = n + 3, #ARGV, 2 do "
    "if redis.call('SISMEMBER', KEYS[2], ARGV[i]) == 0 then "
    "redis.call('LPUSH', KEYS[1], ARGV[i + 1]) redis.call('SADD', KEYS[2], ARGV[i]) end end "
    "return 0";

/// Whether a script has done what it was to do.
bool has_done_it(const Reply& reply) noexcept {
    return reply.ok() && reply.kind == Reply::Kind::kInteger && reply.integer == 0;
}

}  // namespace

void ListFeeder::start(std::vector<ListItem> items) {
    is_resting_ = false;
    retry_at_ = kNever;
    for (ListItem& item : items) {
        std::vector<ListItem>& queue = queues_[item.queue].items;
        queue.push_back(std::move(item));
    }
}

void ListFeeder::finish(const std::vector<ListItem>& forgotten) {
    for (const ListItem& item : forgotten)
        forgotten_[item.queue].push_back(item.token);
    added_.clear();
    refused_.clear();
}

void ListFeeder::forget_later(const std::string& name, const std::vector<std::string>& tokens) {
    if (tokens.empty()) return;
    std::vector<std::string>& all = forgotten_[name];
    all.insert(all.end(), tokens.begin(), tokens.end());
}

/// A script for a queue: what it is to forget, and items. False: it was not taken.
bool ListFeeder::send(const std::string& name, std::span<const ListItem> items, Handler handler,
                      TimePoint now) {
    const std::string list = layout_.queue_key(name);
    const std::string sent = layout_.sent_key(name);
    const std::string fence = layout_.queue_fence_key(name);
    const std::string generation = std::to_string(generation_);
    std::vector<std::string> forgotten;
    if (auto found = forgotten_.extract(name)) forgotten = std::move(found.mapped());
    const std::string count = std::to_string(forgotten.size());
    std::vector<std::string_view> words{"EVAL", kScript, "3", list, sent, fence, generation, count};
    words.insert(words.end(), forgotten.begin(), forgotten.end());
    for (const ListItem& item : items)
        words.insert(words.end(), {item.token, item.text});
    const auto note = [this, name, forgotten, handler = std::move(handler)](const Reply& reply) {
        note_generation(reply);
        if (!has_done_it(reply)) forget_later(name, forgotten);
        handler(reply);
    };
    if (client_.submit(words, list, note, now)) return true;
    forget_later(name, forgotten);
    return false;
}

/// What an answer says of the generation: the next script is above one that was lost, and above what others have.
void ListFeeder::note_generation(const Reply& reply) noexcept {
    if (reply.verdict == Verdict::kLost) ++generation_;
    if (reply.ok() && reply.integer > 0)
        generation_ = std::max(generation_, static_cast<std::uint64_t>(reply.integer) + 1);
}

bool ListFeeder::submit(const std::string& name, Queue& queue, TimePoint now) {
    std::size_t items = 0;
    for (std::size_t bytes = 0; items < queue.items.size() && items < kItems && bytes < kBytes; ++items)
        bytes += queue.items[items].text.size();
    const std::span<const ListItem> next(queue.items.data(), items);
    if (!send(
            name, next, [this, name](const Reply& reply) { take(name, reply); }, now))
        return false;
    queue.sent = items;
    return true;
}

void ListFeeder::take(const std::string& name, const Reply& reply) {
    const auto found = queues_.find(name);
    if (found == queues_.end()) return;
    Queue& queue = found->second;
    const std::size_t sent = std::exchange(queue.sent, 0);
    if (!has_done_it(reply)) {
        queue.failed = true;
        last_error_ = reply.text;
        // The list is something else, say. What was sent before the one that is refused is known there.
        queue.refuses = reply.verdict == Verdict::kPermanent;
        return;
    }
    const auto end = queue.items.begin() + static_cast<std::ptrdiff_t>(sent);
    added_.insert(added_.end(), std::make_move_iterator(queue.items.begin()), std::make_move_iterator(end));
    queue.items.erase(queue.items.begin(), end);
}

/// Has all that is left forgotten. What cannot be there is not tried again.
void ListFeeder::forget(TimePoint now) {
    while (!forgotten_.empty()) {
        const std::string name = forgotten_.begin()->first;
        const auto note = [this, name](const Reply& reply) {
            if (has_done_it(reply)) return;
            if (reply.verdict == Verdict::kPermanent || reply.verdict == Verdict::kConfiguration)
                forgotten_.erase(name);
            else
                has_not_forgotten_ = true;
        };
        if (client_.can_take(now) && send(name, {}, note, now)) continue;
        retry_at_ = now + kRetryForgetting;
        return;
    }
}

void ListFeeder::step(TimePoint now) {
    if (retry_at_ != kNever) {
        if (now < retry_at_) return;
        retry_at_ = kNever;
    }
    for (auto at = queues_.begin(); at != queues_.end();) {
        auto& [name, queue] = *at;
        if (queue.refuses) refused_.insert(name);
        if (queue.refuses || queue.items.empty()) {
            at = queues_.erase(at);
            continue;
        }
        // One at a time, so that the order is kept whatever is lost.
        if (queue.sent == 0) {
            const bool is_patient = std::exchange(queue.failed, false);
            if (is_patient || !client_.can_take(now) || !submit(name, queue, now)) retry_at_ = now + kRetry;
        }
        ++at;
    }
    if (!is_resting_ || !queues_.empty()) return;
    if (std::exchange(has_not_forgotten_, false)) {
        retry_at_ = now + kRetryForgetting;
    } else {
        forget(now);
    }
}

}  // namespace cache_ext::redis
