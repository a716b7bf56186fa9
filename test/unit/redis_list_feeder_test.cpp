// Items that are added to lists of a real server: in order, and each once, whatever is lost on the way.
#include "redis/list_feeder.hpp"

#include "redis_fake.hpp"
#include "redis_proxy.hpp"

namespace cache_ext::redis {
namespace {

using Items = std::vector<ListItem>;
using Texts = std::vector<std::string>;

class RedisListFeeder : public RedisTest {
protected:
    /// A client at that address, and a feeder that it belongs to.
    struct Feeding {
        explicit Feeding(const std::string& url, std::uint64_t generation = 1,
                         const std::vector<Driven*>& beside = {})
            : client(Client::make(options_for(url))),
              layout(own_layout()),
              feeder(*client, layout, generation),
              together(*client, feeder),
              loop(with(beside)) {}
        ~Feeding() { client->close(now()); }

        bool feeds(Items items, milliseconds within = kLong) {
            feeder.start(std::move(items));
            together.service({}, now());
            return loop.until([this] { return feeder.is_done(); }, within);
        }

        std::vector<Driven*> with(std::vector<Driven*> all) {
            all.push_back(&together);
            return all;
        }

        std::unique_ptr<Client> client;
        Layout layout;
        ListFeeder feeder;
        Together<ListFeeder> together;
        Loop loop;
    };

    static Layout own_layout() {
        Layout layout;
        layout.prefix = "p:";
        layout.origin = "7";
        layout.database = "shop";
        return layout;
    }

    static Items items(const std::string& queue, int first, int last) {
        Items made;
        for (int i = first; i <= last; ++i)
            made.push_back({i, queue, queue + "#" + std::to_string(i), std::to_string(i)});
        return made;
    }

    /// In the order in which RPOP takes them.
    static Texts taken(Session& session, const std::string& queue) {
        const Reply all = session.run({"LRANGE", own_layout().queue_key(queue), "0", "-1"});
        Texts texts;
        for (auto at = all.elements.rbegin(); at != all.elements.rend(); ++at)
            texts.push_back(at->text);
        return texts;
    }
    static Texts numbers(int first, int last) {
        Texts texts;
        for (int i = first; i <= last; ++i)
            texts.push_back(std::to_string(i));
        return texts;
    }
    static long long remembered(Session& session, const std::string& queue) {
        return session.run({"SCARD", own_layout().sent_key(queue)}).integer;
    }

    RedisServer server_;
    Session session_{options_for(server_.url())};
};

TEST_F(RedisListFeeder, all_of_it_in_order) {
    Feeding feeding(server_.url());
    Items all = items("a", 1, 1200);
    for (ListItem& item : items("b", 1, 3))
        all.push_back(std::move(item));
    ASSERT_TRUE(feeding.feeds(all));
    EXPECT_EQ(taken(session_, "a"), numbers(1, 1200));
    EXPECT_EQ(taken(session_, "b"), numbers(1, 3));
    EXPECT_EQ(feeding.feeder.added().size(), 1203U);
    EXPECT_TRUE(feeding.feeder.refused().empty());
    EXPECT_EQ(feeding.feeder.next_deadline(), kNever);
}

TEST_F(RedisListFeeder, what_is_sent_again_is_added_once) {
    Feeding feeding(server_.url());
    ASSERT_TRUE(feeding.feeds(items("a", 1, 10)));
    // Nobody was told that they were added: a server that crashed, say.
    Feeding after(server_.url());
    ASSERT_TRUE(after.feeds(items("a", 1, 12)));
    EXPECT_EQ(taken(session_, "a"), numbers(1, 12));
    EXPECT_EQ(after.feeder.added().size(), 12U);
    EXPECT_EQ(remembered(session_, "a"), 12);
    // They are remembered until it is known that they come no more; the next script tells it.
    after.feeder.finish(items("a", 1, 12));
    EXPECT_TRUE(after.feeder.added().empty());
    ASSERT_TRUE(after.feeds(items("a", 13, 13)));
    EXPECT_EQ(remembered(session_, "a"), 1);
    after.feeder.finish(items("a", 13, 13));
    ASSERT_TRUE(after.feeds(items("b", 1, 1)));
    EXPECT_EQ(remembered(session_, "a"), 1) << "another queue's script";
    EXPECT_EQ(taken(session_, "a"), numbers(1, 13));
    // Nor is anything left where nothing follows.
    after.feeder.finish(items("b", 1, 1));
    after.feeder.rest();
    after.together.service({}, now());
    EXPECT_TRUE(after.loop.until([&] { return remembered(session_, "a") + remembered(session_, "b") == 0; }));
    for (const char* queue : {"a", "b"}) {
        const long long life = session_.run({"PTTL", own_layout().queue_fence_key(queue)}).integer;
        EXPECT_GT(life, 0);
        EXPECT_LE(life, 3'600'000);
    }
    EXPECT_EQ(session_.run({"DBSIZE"}).integer, 4) << "the lists, and for a while their fences";
}

TEST_F(RedisListFeeder, forgetting_that_fails_is_done_later) {
    Proxy proxy(server_.socket_path());
    Feeding feeding(proxy.url());
    ASSERT_TRUE(feeding.feeds(items("a", 1, 3)));
    Proxy::Behaviour behaviour;
    behaviour.says_instead = "-OOM not now\r\n";
    proxy.set(behaviour);
    feeding.feeder.finish(items("a", 1, 3));
    feeding.feeder.rest();
    feeding.together.service({}, now());
    const std::uint64_t turns = feeding.loop.turns();
    feeding.loop.for_time(milliseconds(200));
    EXPECT_LE(feeding.loop.turns() - turns, 200U) << "it waits between attempts";
    EXPECT_EQ(remembered(session_, "a"), 3);
    proxy.set({});
    EXPECT_TRUE(feeding.loop.until([&] { return remembered(session_, "a") == 0; }));
    // What is no set has nothing of it.
    ASSERT_TRUE(feeding.feeds(items("a", 4, 4)));
    session_.run({"DEL", own_layout().sent_key("a")});
    session_.run({"SET", own_layout().sent_key("a"), "somebody's"});
    feeding.feeder.finish(items("a", 4, 4));
    feeding.feeder.rest();
    feeding.together.service({}, now());
    const std::uint64_t before = feeding.loop.turns();
    feeding.loop.for_time(milliseconds(200));
    EXPECT_LE(feeding.loop.turns() - before, 20U) << "it is not tried again";
    EXPECT_EQ(feeding.feeder.next_deadline(), kNever);
}

TEST_F(RedisListFeeder, answers_that_are_lost) {
    Proxy proxy(server_.socket_path());
    Feeding feeding(proxy.url());
    ASSERT_TRUE(feeding.loop.until([&] { return feeding.client->can_take(now()); }));
    // What it says up to here of itself: to CLIENT SETNAME and PING. A script's answer is cut off with the connection, after the script.
    Proxy::Behaviour behaviour;
    behaviour.cuts = true;
    behaviour.cut_after = std::string("+OK\r\n+PONG\r\n").size() + 2;
    proxy.set(behaviour);
    EXPECT_FALSE(feeding.feeds(items("a", 1, 30), milliseconds(0)));
    EXPECT_TRUE(feeding.loop.until([&] { return proxy.accepted() >= 3; }));
    EXPECT_FALSE(feeding.feeder.is_done());
    EXPECT_EQ(taken(session_, "a"), numbers(1, 30)) << "it did arrive";
    EXPECT_TRUE(feeding.feeder.added().empty());
    proxy.set({});
    ASSERT_TRUE(feeding.loop.until([&] { return feeding.feeder.is_done(); }));
    EXPECT_EQ(feeding.feeder.added().size(), 30U);
    EXPECT_EQ(taken(session_, "a"), numbers(1, 30)) << "and was sent again";
}

/// What a connection that was lost holds back may come when the items are long forgotten.
TEST_F(RedisListFeeder, what_comes_late_adds_nothing) {
    FakeServer silent([](const FakeServer::Words& words) {
        return words[0] == "EVAL" ? std::string() : FakeServer::pleasant(words);
    });
    std::vector<FakeServer::Words> late;
    const auto scripts = [&] {
        late.clear();
        for (const FakeServer::Words& words : silent.commands())
            if (words[0] == "EVAL") late.push_back(words);
        return late.size();
    };
    Feeding before(silent.url(), 1, {&silent});
    before.feeder.start(items("a", 1, 3));
    before.together.service({}, now());
    ASSERT_TRUE(before.loop.until([&] { return scripts() == 1; }));
    // The same sender again.
    silent.cut();
    ASSERT_TRUE(before.loop.until([&] { return scripts() == 2; }));
    EXPECT_EQ(session_.run(late[1], "a").integer, 0);
    EXPECT_EQ(taken(session_, "a"), numbers(1, 3));
    session_.run({"DEL", own_layout().sent_key("a")});
    session_.run(late[0], "a");
    EXPECT_EQ(taken(session_, "a"), numbers(1, 3));
    // The next one.
    Feeding after(server_.url(), 2);
    ASSERT_TRUE(after.feeds(items("a", 4, 4)));
    after.feeder.finish(items("a", 4, 4));
    session_.run({"DEL", own_layout().sent_key("a")});
    for (const FakeServer::Words& words : late)
        session_.run(words, "a");
    EXPECT_EQ(taken(session_, "a"), numbers(1, 4));
    // One that does not know of those before, since its database was set back: above them nevertheless.
    Feeding restored(server_.url(), 1);
    ASSERT_TRUE(restored.feeds(items("a", 5, 6)));
    EXPECT_EQ(taken(session_, "a"), numbers(1, 6));
    ASSERT_TRUE(restored.feeds(items("b", 1, 2)));
    EXPECT_EQ(taken(session_, "b"), numbers(1, 2));
}

TEST_F(RedisListFeeder, a_list_that_is_none) {
    session_.run({"SET", own_layout().queue_key("text"), "somebody's"});
    Feeding feeding(server_.url());
    Items all = items("text", 1, 2);
    for (ListItem& item : items("a", 1, 2))
        all.push_back(std::move(item));
    ASSERT_TRUE(feeding.feeds(all));
    EXPECT_EQ(feeding.feeder.refused(), std::set<std::string>{"text"});
    EXPECT_NE(feeding.feeder.last_error().find("WRONGTYPE"), std::string::npos)
        << feeding.feeder.last_error();
    EXPECT_EQ(feeding.feeder.added().size(), 2U);
    EXPECT_EQ(taken(session_, "a"), numbers(1, 2));
    EXPECT_EQ(session_.run({"GET", own_layout().queue_key("text")}).text, "somebody's");
    // It is asked again when there is something for it again.
    feeding.feeder.finish(items("a", 1, 2));
    EXPECT_TRUE(feeding.feeder.refused().empty());
    session_.run({"DEL", own_layout().queue_key("text")});
    ASSERT_TRUE(feeding.feeds(items("text", 1, 2)));
    EXPECT_EQ(taken(session_, "text"), numbers(1, 2));
}

TEST_F(RedisListFeeder, a_server_that_is_full_for_now) {
    Feeding feeding(server_.url());
    session_.run({"CONFIG", "SET", "maxmemory-policy", "noeviction"});
    session_.run({"CONFIG", "SET", "maxmemory", "1"});
    EXPECT_FALSE(feeding.feeds(items("a", 1, 3), milliseconds(0)));
    EXPECT_TRUE(feeding.loop.until([&] {
        return feeding.feeder.last_error().find("OOM") != std::string::npos;
    })) << feeding.feeder.last_error();
    const std::uint64_t turns = feeding.loop.turns();
    feeding.loop.for_time(milliseconds(300));
    EXPECT_FALSE(feeding.feeder.is_done());
    EXPECT_TRUE(feeding.feeder.refused().empty()) << "that is no refusal";
    EXPECT_LE(feeding.loop.turns() - turns, 200U) << "it waits between attempts";
    session_.run({"CONFIG", "SET", "maxmemory", "0"});
    ASSERT_TRUE(feeding.loop.until([&] { return feeding.feeder.is_done(); }));
    EXPECT_EQ(taken(session_, "a"), numbers(1, 3));
}

}  // namespace
}  // namespace cache_ext::redis
