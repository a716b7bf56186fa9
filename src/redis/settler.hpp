#pragma once

// Looks again and again for what was taken from lists (taking.hpp), has its owner say what became of each transaction, and drops it or puts it back.
//
// It looks soon after it was told that something has ended, and now and then in any case as long as queues are noted there: for transactions whose end nobody tells (prepared ones), and
// for requests that Redis does only after whoever sent them has given up. While no queue is noted it asks nothing.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "redis/taking.hpp"

namespace cache_ext::redis {

struct Taken {
    std::string queue;
    std::string text;  ///< the token
    Token token;
};

enum class Fate : std::uint8_t { kOpen, kDrop, kPutBack };

/// Belongs to the client's thread. Once it has sent something, it must outlive the client's `close`.
class Settler {
public:
    Settler(Client& client, const Layout& layout, std::string taker)
        : taker_(std::move(taker)), takings_{client, layout, taker_} {}
    Settler(const Settler&) = delete;
    Settler& operator=(const Settler&) = delete;

    /// A transaction that has taken something is over.
    void expect(TimePoint now) noexcept;

    /// Something may be there. Whom Redis forbids to look has nothing there, unless `expect` says so.
    void look(TimePoint now) noexcept { look_at_ = std::min(look_at_, std::max(soonest_, now)); }

    /// Sends what it can: after the client's `service`, and at `next_deadline`.
    void step(TimePoint now);
    [[nodiscard]] TimePoint next_deadline() const noexcept;

    /// Whether `taken` is to be judged: by `settle`, with a fate for each.
    [[nodiscard]] bool wants_judgement() const noexcept { return stage_ == Stage::kJudging; }
    [[nodiscard]] const std::vector<Taken>& taken() const noexcept { return taken_; }
    void settle(const std::vector<Fate>& fates);

    [[nodiscard]] bool is_looking() const noexcept { return stage_ != Stage::kIdle; }

    [[nodiscard]] const std::string& last_error() const noexcept { return last_error_; }

private:
    enum class Stage : std::uint8_t { kIdle, kListing, kReading, kJudging, kSettling };
    struct Settlement {
        std::string queue;
        std::vector<std::string> dropped;
        std::vector<std::string> back;
    };

    void begin(TimePoint now);
    void finish(TimePoint now) noexcept;
    bool note(const Reply& reply);
    bool submit_next(TimePoint now);

    std::string taker_;
    Takings takings_;
    Stage stage_ = Stage::kIdle;
    std::vector<std::string> queues_;
    std::vector<std::string> empty_;  ///< of these, those from which nothing is taken
    std::vector<Taken> taken_;
    std::vector<Settlement> settlements_;
    std::size_t next_ = 0;       ///< of what is sent in this stage
    std::size_t under_way_ = 0;  ///< without an answer
    bool failed_ = false;
    bool is_told_ = false;
    bool is_thorough_ = false;  ///< looks because it is time to
    Duration interval_{};       ///< until the next look without being told
    TimePoint soonest_ = TimePoint::min();
    TimePoint look_at_ = TimePoint::min();
    std::string last_error_;
};

}  // namespace cache_ext::redis
