#pragma once

#include <set>

#include "redis/settler.hpp"
#include "redis_fixture.hpp"

namespace cache_ext::redis {

/// Takes items as a session does, and settles them as told.
class TakingSession {
public:
    explicit TakingSession(const std::string& url, std::string taker = "7:1")
        : TakingSession(options_for(url), std::move(taker)) {}
    explicit TakingSession(Options options, std::string taker = "7:1")
        : session_(std::move(options)), taker_(std::move(taker)) {
        layout.prefix = "p:";
        EXPECT_TRUE(session_.comes_up());
    }

    Reply run(const std::vector<std::string>& command, const std::string& key = {}) {
        return session_.run(command, key);
    }

    template <class Submit>
    Reply ask(Submit&& submit) {
        std::optional<Reply> answer;
        const auto take = [&](const Reply& reply) { answer = reply; };
        EXPECT_TRUE(session_.loop().until([&] { return submit(take); }));
        EXPECT_TRUE(session_.loop().until([&] { return answer.has_value(); }));
        return answer.value_or(Reply{});
    }

    void add(const std::string& queue, const std::string& item) {
        EXPECT_TRUE(run({"LPUSH", layout.queue_key(queue), item}).ok());
    }

    /// The list from its oldest item on.
    std::vector<std::string> list(const std::string& queue) {
        std::vector<std::string> items;
        for (const Reply& item : run({"LRANGE", layout.queue_key(queue), "0", "-1"}).elements)
            items.insert(items.begin(), item.text);
        return items;
    }

    Reply note(const std::string& queue) {
        return ask([&](Handler handler) { return takings().note(queue, std::move(handler), now()); });
    }

    Reply take(const std::string& queue, const std::string& token,
               const std::vector<std::string>& back = {}) {
        return ask(
            [&](Handler handler) { return takings().take(queue, token, back, std::move(handler), now()); });
    }

    Reply settle(const std::string& queue, const std::vector<std::string>& dropped,
                 const std::vector<std::string>& back) {
        return ask([&](Handler handler) {
            return takings().settle(queue, dropped, back, std::move(handler), now());
        });
    }

    /// The texts of the tokens that are there, in their order.
    std::vector<std::string> tokens(const std::string& queue) {
        std::vector<std::string> all;
        for (const Reply& each : ask([&](Handler handler) {
                                     return takings().tokens(queue, std::move(handler), now());
                                 }).elements) {
            if (each.text != "n") all.push_back(each.text);
        }
        std::sort(all.begin(), all.end());
        return all;
    }

    Takings takings() { return {session_.client(), layout, taker_}; }
    Session& session() { return session_; }
    Layout layout;

private:
    Session session_;
    std::string taker_;
};

/// A settler to which a transaction is open, or over: even ones have committed.
class SettlingSession {
public:
    explicit SettlingSession(TakingSession& owner)
        : owner_(owner), settler_(owner.session().client(), owner.layout, "7:1") {}
    ~SettlingSession() { owner_.session().client().close(now()); }

    std::set<std::uint64_t> open;

    /// Until nothing but that is taken from the queue.
    bool leaves(const std::string& queue, const std::vector<std::string>& expected) {
        settler_.expect(now());
        return owner_.session().loop().until([&] {
            step();
            return owner_.tokens(queue) == expected;
        });
    }

    void step() {
        settler_.step(now());
        if (!settler_.wants_judgement()) return;
        ++judgements;
        std::vector<Fate> fates;
        for (const Taken& each : settler_.taken()) {
            const std::uint64_t transaction = each.token.transaction;
            fates.push_back(open.contains(transaction) ? Fate::kOpen
                            : transaction % 2 == 0     ? Fate::kDrop
                                                       : Fate::kPutBack);
        }
        settler_.settle(fates);
        settler_.step(now());
    }

    Settler& settler() { return settler_; }
    int judgements = 0;

private:
    TakingSession& owner_;
    Settler settler_;
};

}  // namespace cache_ext::redis
