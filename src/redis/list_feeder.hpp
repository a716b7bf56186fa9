#pragma once

// Adds items to lists, as LPUSH does, each once and in order: what has to be sent again, since no answer came, is refused by a script in Redis that knows what it has added. It knows that
// of an item until it is told that nobody will send it any more.
//
// What a lost connection still holds back may come when that is forgotten. So each script carries a *generation*, and is refused where Redis knows a higher one: the *fence* of the
// list, which goes up with the first script after one that was lost, and is kept for as long as anything may still come.

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "redis/client.hpp"
#include "redis/layout.hpp"

namespace cache_ext::redis {

struct ListItem {
    std::int64_t id = 0;
    std::string queue;
    std::string token;  ///< of no other item, ever
    std::string text;
};

/// Belongs to the client's thread. Once it has sent something, it must outlive the client's `close`.
class ListFeeder {
public:
    /// `generation`: above that of every feeder before.
    ListFeeder(Client& client, const Layout& layout, std::uint64_t generation)
        : client_(client), layout_(layout), generation_(generation * kMostLosses) {}
    ListFeeder(const ListFeeder&) = delete;
    ListFeeder& operator=(const ListFeeder&) = delete;

    /// Takes items, in the order of each queue; only when it is done with what it had.
    void start(std::vector<ListItem> items);

    /// Sends what it can: after `start`, after the client's `service`, and at `next_deadline`.
    void step(TimePoint now);

    /// Each item was added, or its queue refuses: `refused`.
    [[nodiscard]] bool is_done() const noexcept { return queues_.empty(); }
    [[nodiscard]] const std::vector<ListItem>& added() const noexcept { return added_; }
    [[nodiscard]] const std::set<std::string>& refused() const noexcept { return refused_; }
    [[nodiscard]] const std::string& last_error() const noexcept { return last_error_; }

    /// These will never be sent again, and nothing of the last start is of interest any more. The queues' next items tell Redis so.
    void finish(const std::vector<ListItem>& forgotten);

    /// There are no next items for now: it is told nevertheless, so that nothing is left there of a queue that is never used again.
    void rest() noexcept { is_resting_ = true; }

    [[nodiscard]] TimePoint next_deadline() const noexcept { return retry_at_; }

private:
    /// Generations that a feeder has for itself.
    static constexpr std::uint64_t kMostLosses = 1 << 20;

    struct Queue {
        std::vector<ListItem> items;  ///< not added yet
        std::size_t sent = 0;         ///< of these, under way
        bool failed = false;
        bool refuses = false;
    };

    bool send(const std::string& name, std::span<const ListItem> items, Handler handler, TimePoint now);
    bool submit(const std::string& name, Queue& queue, TimePoint now);
    void take(const std::string& name, const Reply& reply);
    void note_generation(const Reply& reply) noexcept;
    void forget(TimePoint now);
    void forget_later(const std::string& name, const std::vector<std::string>& tokens);

    Client& client_;
    const Layout& layout_;
    std::uint64_t generation_;
    std::map<std::string, Queue, std::less<>> queues_;
    std::map<std::string, std::vector<std::string>, std::less<>>
        forgotten_;  ///< tokens, that Redis is still to forget
    std::vector<ListItem> added_;
    std::set<std::string> refused_;
    bool is_resting_ = false;
    bool has_not_forgotten_ = false;  ///< since the last step
    TimePoint retry_at_ = kNever;
    std::string last_error_;
};

}  // namespace cache_ext::redis
