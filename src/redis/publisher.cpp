#include "redis/publisher.hpp"

#include <array>
#include <utility>

namespace cache_ext::redis {

namespace {

constexpr milliseconds kRetry{20};
constexpr milliseconds kUnableRetry{2000};

/// KEYS: where the last number is, the stream. ARGV: the number, the channel, the message, about how many the stream keeps; no channel or no stream: an empty text,
/// or one key. Without both the number is still kept: it tells what Redis has. It is written first, so that where there is no memory for it nothing is done
/// yet, and nobody is told again and again. A stream that is none keeps nobody from being told; its error is then the answer, as a text.
constexpr std::string_view kScript =
    "if tonumber(ARGV[1]) <= tonumber(redis.call('GET', KEYS[1]) or '0') then return 0 end "
    "redis.call('SET', KEYS[1], ARGV[1]) "
    "local kept = KEYS[2] and redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'message', ARGV[3]) "
    "if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[3]) end "
    "if type(kept) == 'table' and kept.err then return kept.err end "
    "return 1";

}  // namespace

std::uint64_t Publisher::add(const Notice& notice, std::string_view time) {
    ++last_;
    messages_.push_back({last_, to_json(notice, layout_, last_, time)});
    return last_;
}

bool Publisher::submit(const Message& message, TimePoint now) {
    const std::string sequence_key = layout_.sequence_key();
    const std::string stream_key = layout_.stream_key();
    const std::string number = std::to_string(message.number);
    const std::string most = std::to_string(layout_.stream_maxlen);
    const bool has_stream = !layout_.stream.empty();
    std::vector<std::string_view> words{"EVAL", kScript, has_stream ? "2" : "1", sequence_key};
    if (has_stream) words.push_back(stream_key);
    words.insert(words.end(), {number, layout_.channel, message.json, most});
    return client_.submit(
        words, sequence_key,
        [this, at = message.number](const Reply& reply) {
            --under_way_;
            take(at, reply);
        },
        now);
}

void Publisher::take(std::uint64_t number, const Reply& reply) {
    if (reply.kind == Reply::Kind::kString) last_error_ = reply.text;
    if (reply.verdict == Verdict::kPermanent) {
        last_error_ = reply.text;
        // A message that is too long for the server, say: those who see that its number is missing know nothing. But not one after the other.
        is_unable_ = is_unable_ || reply.text.starts_with("ERR unknown command");
        failed_ = failed_ || is_unable_;
    } else if (!reply.ok()) {
        failed_ = true;
    }
    // Those after one that failed may have arrived; they are sent again, and refused.
    if (failed_) return;
    while (!messages_.empty() && messages_.front().number <= number) {
        acknowledged_ = messages_.front().number;
        messages_.pop_front();
        --sent_;
    }
}

void Publisher::step(TimePoint now) {
    if (failed_) {
        if (under_way_ > 0) return;
        failed_ = false;
        sent_ = 0;
        retry_at_ = now + (std::exchange(is_unable_, false) ? kUnableRetry : kRetry);
    }
    if (retry_at_ != kNever) {
        if (now < retry_at_) return;
        retry_at_ = client_.can_take(now) ? kNever : now + kRetry;
    }
    while (sent_ < messages_.size() && client_.can_take(now)) {
        if (!submit(messages_[sent_], now)) break;
        ++sent_;
        ++under_way_;
    }
    if (sent_ < messages_.size() && under_way_ == 0) retry_at_ = now + kRetry;
}

}  // namespace cache_ext::redis
