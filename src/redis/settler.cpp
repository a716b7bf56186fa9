#include "redis/settler.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

namespace cache_ext::redis {

namespace {

/// How long until it looks without being told: at first, and then longer and longer, as long as something is taken or not.
constexpr milliseconds kLookSoon{1000};
constexpr milliseconds kLookLatestTaken{5000};
constexpr milliseconds kLookLatest{60'000};
/// Where nothing can be sent.
constexpr milliseconds kRetry{100};

/// From one look to the next at least, where many end one after the other; more where there is much to look at.
constexpr std::chrono::microseconds kPause{1000};
constexpr std::chrono::microseconds kPausePerQueue{20};
constexpr std::chrono::microseconds kPausePerItem{2};

constexpr std::size_t kTokensPerScript = 1000;

}  // namespace

void Settler::expect(TimePoint now) noexcept {
    is_told_ = true;
    look(now);
}

TimePoint Settler::next_deadline() const noexcept { return stage_ == Stage::kIdle ? look_at_ : kNever; }

void Settler::begin(TimePoint now) {
    is_thorough_ = !std::exchange(is_told_, false);
    if (!is_thorough_) interval_ = kLookSoon / 2;
    queues_.clear();
    empty_.clear();
    taken_.clear();
    settlements_.clear();
    next_ = 0;
    failed_ = false;
    const bool submitted = takings_.list(
        [this](const Reply& reply) {
            // Whom Redis forbids to look, and who was not told of anything there, has taken nothing.
            const bool may_not =
                reply.verdict == Verdict::kPermanent || reply.verdict == Verdict::kConfiguration;
            if (may_not && is_thorough_) {
                --under_way_;
                return;
            }
            if (!note(reply)) return;
            for (const Reply& queue : reply.elements)
                queues_.push_back(queue.text);
        },
        now);
    if (submitted) {
        ++under_way_;
        stage_ = Stage::kListing;
    } else {
        look_at_ = now + kRetry;
    }
}

/// Takes note of an answer. False: it is none that can be used.
bool Settler::note(const Reply& reply) {
    --under_way_;
    if (reply.ok()) return true;
    failed_ = true;
    last_error_ = reply.text;
    return false;
}

void Settler::finish(TimePoint now) noexcept {
    const auto pause = kPause + kPausePerQueue * static_cast<std::int64_t>(queues_.size()) +
                       kPausePerItem * static_cast<std::int64_t>(taken_.size());
    stage_ = Stage::kIdle;
    soonest_ = now + pause;
    interval_ = failed_ || !settlements_.empty()
                    ? kLookSoon
                    : std::min<Duration>(interval_ * 2, taken_.empty() ? kLookLatest : kLookLatestTaken);
    look_at_ = queues_.empty() && !failed_ ? kNever : now + interval_;
    if (is_told_ && !failed_) look_at_ = soonest_;
}

/// The next command of this stage, if there is one and it is taken.
bool Settler::submit_next(TimePoint now) {
    if (stage_ == Stage::kReading && next_ < queues_.size()) {
        const std::string& queue = queues_[next_];
        const auto handler = [this, queue](const Reply& reply) {
            // What is no hash is nothing that was taken.
            if (!note(reply)) return;
            if (reply.elements.empty()) empty_.push_back(queue);
            for (const Reply& each : reply.elements) {
                if (const std::optional<Token> token = parse_token(each.text))
                    taken_.push_back({queue, each.text, *token});
            }
        };
        return takings_.tokens(queue, handler, now);
    }
    if (stage_ == Stage::kSettling && next_ < settlements_.size()) {
        const Settlement& each = settlements_[next_];
        return takings_.settle(
            each.queue, each.dropped, each.back, [this](const Reply& reply) { (void)note(reply); }, now);
    }
    return false;
}

void Settler::step(TimePoint now) {
    if (stage_ == Stage::kIdle && now >= look_at_) begin(now);
    if (stage_ == Stage::kListing && under_way_ == 0) {
        if (failed_) return finish(now);
        stage_ = Stage::kReading;
        next_ = 0;
    }
    while (submit_next(now)) {
        ++next_;
        ++under_way_;
    }
    if (under_way_ > 0) return;
    // What cannot be sent now is looked for again.
    const auto left = [this](std::size_t all) { return next_ < all; };
    if (stage_ == Stage::kReading) {
        if (left(queues_.size())) failed_ = true;
        if (is_thorough_ && !failed_ && !empty_.empty()) {
            is_thorough_ = false;
            if (takings_.forget(
                    empty_, [this](const Reply& reply) { (void)note(reply); }, now)) {
                ++under_way_;
                return;
            }
        }
        if (taken_.empty()) return finish(now);
        // The newest first, as it was taken: what is put back in several steps comes in the right order then.
        std::sort(taken_.begin(), taken_.end(), [](const Taken& a, const Taken& b) {
            return std::tie(a.queue, b.token.transaction, b.token.number) <
                   std::tie(b.queue, a.token.transaction, a.token.number);
        });
        stage_ = Stage::kJudging;
    } else if (stage_ == Stage::kSettling) {
        if (left(settlements_.size())) failed_ = true;
        finish(now);
    }
}

void Settler::settle(const std::vector<Fate>& fates) {
    std::vector<Taken> open;
    for (std::size_t i = 0; i < taken_.size() && i < fates.size(); ++i) {
        Taken& each = taken_[i];
        if (fates[i] == Fate::kOpen) {
            open.push_back(std::move(each));
            continue;
        }
        // All that is put back goes together, so that its order is kept, as long as it is not too much.
        if (settlements_.empty() || settlements_.back().queue != each.queue ||
            settlements_.back().dropped.size() + settlements_.back().back.size() >= kTokensPerScript)
            settlements_.push_back({each.queue, {}, {}});
        auto& tokens = fates[i] == Fate::kDrop ? settlements_.back().dropped : settlements_.back().back;
        tokens.push_back(std::move(each.text));
    }
    taken_ = std::move(open);
    next_ = 0;
    stage_ = Stage::kSettling;
}

}  // namespace cache_ext::redis
