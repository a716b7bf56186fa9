// Items that are taken from lists aside, dropped and put back.
#include <set>

#include "taking_fixture.hpp"

namespace cache_ext::redis {
namespace {

class RedisTaking : public RedisTest {};

using Items = std::vector<std::string>;

TEST_F(RedisTaking, oldest_first_and_each_once) {
    RedisServer server;
    TakingSession s(server.url());
    EXPECT_EQ(s.take("q", "").integer, 0) << "there is none";
    EXPECT_EQ(s.take("q", "10:1").kind, Reply::Kind::kInteger);
    for (const char* item : {"first", "", "third with\nlines and \"quotes\" 3 4"})
        s.add("q", item);
    EXPECT_EQ(s.take("q", "").integer, 1) << "there is one";
    EXPECT_EQ(s.list("q").size(), 3U) << "which is still there";
    EXPECT_EQ(s.take("q", "10:2").text, "first");
    EXPECT_EQ(s.take("q", "10:3").kind, Reply::Kind::kString);
    EXPECT_EQ(s.take("q", "10:4").text, "third with\nlines and \"quotes\" 3 4");
    EXPECT_EQ(s.take("q", "10:5").integer, 0);
    EXPECT_EQ(s.tokens("q"), (Items{"10:2", "10:3", "10:4"}));
    EXPECT_TRUE(s.settle("q", {"10:2", "10:3", "10:4", "11:1"}, {}).ok());
    EXPECT_EQ(s.run({"EXISTS", s.layout.taken_key("q", "7:1")}).integer, 0) << "nothing is left of it";
}

TEST_F(RedisTaking, put_back_in_order_whatever_the_tokens_are) {
    RedisServer server;
    TakingSession s(server.url());
    for (const char* item : {"1", "2", "3", "4", "5"})
        s.add("q", item);
    for (const char* token : {"30:1", "9:1", "30:2", "4:7"})
        (void)s.take("q", token);
    EXPECT_TRUE(s.settle("q", {"30:2"}, {"4:7", "30:1", "9:1"}).ok());
    EXPECT_EQ(s.list("q"), (Items{"1", "2", "4", "5"}));
    EXPECT_TRUE(s.settle("q", {}, {"4:7", "30:1", "9:1"}).ok());
    EXPECT_EQ(s.list("q"), (Items{"1", "2", "4", "5"})) << "said again, nothing happens";
    EXPECT_EQ(s.take("q", "31:1").text, "1");
    EXPECT_EQ(s.take("q", "31:2", {"31:1"}).text, "1") << "put back by who takes next";
    EXPECT_EQ(s.take("q", "", {"31:2"}).integer, 1);
    EXPECT_EQ(s.list("q"), (Items{"1", "2", "4", "5"}));
}

/// What lies between may send a request again: libcurl does, where a connection was closed without an answer.
TEST_F(RedisTaking, asked_again_it_gives_the_same) {
    RedisServer server;
    TakingSession s(server.url());
    for (const char* item : {"1", "2", "3"})
        s.add("q", item);
    EXPECT_EQ(s.take("q", "1:1").text, "1");
    EXPECT_EQ(s.take("q", "1:1").text, "1");
    EXPECT_EQ(s.take("q", "1:2").text, "2");
    EXPECT_EQ(s.list("q"), (Items{"3"}));
    EXPECT_EQ(s.tokens("q"), (Items{"1:1", "1:2"}));
}

TEST_F(RedisTaking, what_was_not_put_there_so_stays) {
    RedisServer server;
    TakingSession s(server.url());
    s.add("q", "1");
    EXPECT_EQ(s.take("q", "1:1").text, "1");
    EXPECT_TRUE(s.run({"HSET", s.layout.taken_key("q", "7:1"), "1:2", "no number", "1:3", "4"}).ok());
    EXPECT_TRUE(s.settle("q", {}, {"1:1", "1:2", "1:3"}).ok());
    EXPECT_EQ(s.list("q"), (Items{"1"}));
    EXPECT_EQ(s.tokens("q"), (Items{"1:2", "1:3"}));
}

TEST_F(RedisTaking, of_very_many_tokens_some_are_told) {
    RedisServer server;
    TakingSession s(server.url());
    const std::string key = s.layout.taken_key("q", "7:1");
    EXPECT_TRUE(
        s.run({"EVAL", "for i = 1, 25000 do redis.call('HSET', KEYS[1], '5:' .. i, i .. ' x') end return 1",
               "1", key})
            .ok());
    std::set<std::string> seen;
    for (int i = 0; i < 100 && seen.size() < 25000; ++i) {
        const Items some = s.tokens("q");
        EXPECT_EQ(some.size(), 10000U);
        EXPECT_EQ(std::set<std::string>(some.begin(), some.end()).size(), 10000U) << "each once";
        seen.insert(some.begin(), some.end());
    }
    EXPECT_EQ(seen.size(), 25000U) << "all of them in the end";
}

TEST_F(RedisTaking, who_may_not_look_has_taken_nothing_unless_told) {
    RedisServer server;
    TakingSession s(server.url());
    EXPECT_TRUE(s.run({"ACL", "SETUSER", "default", "-zrange"}).ok());
    SettlingSession settling(s);
    Settler& settler = settling.settler();
    EXPECT_TRUE(s.session().loop().until([&] {
        settling.step();
        return settler.next_deadline() == kNever && !settler.is_looking();
    }));
    EXPECT_EQ(settler.last_error(), "");
    settler.expect(now());
    EXPECT_TRUE(s.session().loop().until([&] {
        settling.step();
        return !settler.last_error().empty();
    }));
}

TEST_F(RedisTaking, a_full_server_gives_and_takes_back) {
    RedisServer server;
    TakingSession s(server.url());
    s.add("q", "1");
    s.add("q", "2");
    EXPECT_TRUE(s.run({"CONFIG", "SET", "maxmemory", "1"}).ok());
    EXPECT_TRUE(s.note("q").ok());
    EXPECT_EQ(s.take("q", "1:1").text, "1");
    EXPECT_EQ(s.take("q", "1:2", {"1:1"}).text, "1");
    EXPECT_TRUE(s.settle("q", {}, {"1:2"}).ok());
    EXPECT_EQ(s.list("q"), (Items{"1", "2"}));
}

TEST_F(RedisTaking, nothing_is_half_done) {
    RedisServer server;
    TakingSession s(server.url());
    s.add("q", "1");
    // Who may not take from lists.
    EXPECT_TRUE(s.run({"ACL", "SETUSER", "default", "-rpop"}).ok());
    EXPECT_FALSE(s.take("q", "1:1").ok());
    EXPECT_EQ(s.list("q"), (Items{"1"}));
    EXPECT_EQ(s.tokens("q"), Items{});
    EXPECT_TRUE(s.run({"ACL", "SETUSER", "default", "+rpop", "-hset"}).ok());
    EXPECT_FALSE(s.take("q", "1:2").ok());
    EXPECT_EQ(s.list("q"), (Items{"1"}));
    EXPECT_TRUE(s.run({"ACL", "SETUSER", "default", "+hset"}).ok());
    // A hash that is none; a list that has become something else.
    EXPECT_TRUE(s.run({"SET", s.layout.taken_key("q", "7:1"), "x"}).ok());
    EXPECT_EQ(s.take("q", "1:3").verdict, Verdict::kPermanent);
    EXPECT_EQ(s.list("q"), (Items{"1"}));
    EXPECT_TRUE(s.run({"DEL", s.layout.taken_key("q", "7:1")}).ok());
    EXPECT_EQ(s.take("q", "1:4").text, "1");
    EXPECT_TRUE(s.run({"SET", s.layout.queue_key("q"), "x"}).ok());
    EXPECT_FALSE(s.settle("q", {}, {"1:4"}).ok());
    EXPECT_EQ(s.tokens("q"), (Items{"1:4"})) << "it stays aside";
}

TEST_F(RedisTaking, tokens) {
    EXPECT_EQ((Token{18446744073709551615U, 3}).text(), "18446744073709551615:3");
    const std::optional<Token> token = parse_token("12:34");
    ASSERT_TRUE(token);
    EXPECT_EQ(token->transaction, 12U);
    EXPECT_EQ(token->number, 34U);
    EXPECT_EQ(token->timeline, 0U);
    EXPECT_EQ((Token{12, 34, 5, 678}).text(), "12:34:5:678");
    const std::optional<Token> lasting = parse_token("12:34:5:678");
    ASSERT_TRUE(lasting);
    EXPECT_EQ(lasting->number, 34U);
    EXPECT_EQ(lasting->timeline, 5U);
    EXPECT_EQ(lasting->position, 678U);
    for (const char* text : {"", "n", "1", "1:", ":1", "1:2:", "-1:2", "1:2 ", "99999999999999999999999:1",
                             "1:2:3", "1:2:3:", "1:2:3:4:", "1:2:3:4:5", "1:2:4294967296:1"})
        EXPECT_FALSE(parse_token(text)) << text;
}

TEST_F(RedisTaking, what_is_beside_a_list_is_in_its_slot) {
    for (const char* prefix : {"", "app:", "{app}:", "a{b", "{}"}) {
        for (const char* queue : {"q", "{q}", "a{b}c", "{}x", "a}b{c"}) {
            Layout layout;
            layout.prefix = prefix;
            EXPECT_EQ(slot_of(layout.taken_key(queue, "7:1")), slot_of(layout.queue_key(queue)))
                << layout.queue_key(queue);
        }
    }
    const Layout layout;
    EXPECT_NE(layout.taken_key("a{x}", "7:1"), layout.taken_key("b{x}", "7:1"));
    EXPECT_NE(layout.taken_key("a", "7:1"), layout.taken_key("{queue:a}", "7:1"));
}

TEST_F(RedisTaking, the_settler_drops_and_puts_back_what_is_over) {
    RedisServer server;
    TakingSession s(server.url());
    SettlingSession settling(s);
    for (const char* queue : {"a", "b"}) {
        EXPECT_TRUE(s.note(queue).ok());
        for (const char* item : {"1", "2", "3", "4"})
            s.add(queue, item);
        for (const char* token : {"10:1", "11:1", "12:1", "13:1"})
            (void)s.take(queue, token);
    }
    // Another database's, and what was never noted.
    TakingSession other(server.url(), "7:2");
    EXPECT_TRUE(other.note("a").ok());
    other.add("a", "5");
    EXPECT_EQ(other.take("a", "11:1").text, "5");
    settling.open = {12, 13};
    EXPECT_TRUE(settling.leaves("a", {"12:1", "13:1"}));
    EXPECT_TRUE(settling.leaves("b", {"12:1", "13:1"}));
    EXPECT_EQ(s.list("a"), (Items{"2"}));
    settling.open = {};
    EXPECT_TRUE(settling.leaves("a", {}));
    EXPECT_TRUE(settling.leaves("b", {}));
    EXPECT_EQ(s.list("b"), (Items{"4", "2"}));
    EXPECT_EQ(other.tokens("a"), (Items{"11:1"})) << "not its business";
}

TEST_F(RedisTaking, the_settler_looks_without_being_told) {
    RedisServer server;
    TakingSession s(server.url());
    SettlingSession settling(s);
    EXPECT_TRUE(s.note("a").ok());
    EXPECT_TRUE(settling.leaves("a", {}));
    s.add("a", "1");
    EXPECT_EQ(s.take("a", "11:1").text, "1");
    EXPECT_TRUE(s.session().loop().until([&] {
        settling.step();
        return settling.judgements == 1;
    })) << "something that came late is found";
    EXPECT_TRUE(settling.leaves("a", {}));
}

TEST_F(RedisTaking, the_settler_looks_again_after_a_failure) {
    RedisServer server;
    TakingSession s(server.url());
    EXPECT_TRUE(s.note("a").ok());
    s.add("a", "2");
    EXPECT_EQ(s.take("a", "11:1").text, "2");
    EXPECT_EQ(s.tokens("a"), (Items{"11:1"}));
    {
        // It is one that does not wait for long for whom the server is away.
        Options options = options_for(server.url());
        options.command_timeout = milliseconds(1000);
        TakingSession other(options);
        SettlingSession settling(other);
        server.process().signal(SIGSTOP);
        settling.settler().expect(now());
        EXPECT_TRUE(other.session().loop().until([&] {
            settling.step();
            return !settling.settler().last_error().empty();
        }));
        server.process().signal(SIGCONT);
        EXPECT_TRUE(other.session().comes_up());
        settling.settler().expect(now());
        EXPECT_TRUE(other.session().loop().until([&] {
            settling.step();
            return s.tokens("a").empty();
        }));
    }
    EXPECT_EQ(s.list("a"), (Items{"2"}));
}

TEST_F(RedisTaking, the_settler_asks_nothing_where_no_queue_is_noted) {
    RedisServer server;
    TakingSession s(server.url());
    SettlingSession settling(s);
    settling.settler().expect(now());
    EXPECT_TRUE(s.session().loop().until([&] {
        settling.step();
        return settling.settler().next_deadline() == kNever && s.session().status().in_flight == 0;
    }));
    EXPECT_TRUE(s.note("a").ok());
    settling.settler().expect(now());
    EXPECT_LE(settling.settler().next_deadline(), now() + milliseconds(100)) << "but as soon as one is";
    EXPECT_TRUE(settling.leaves("a", {}));
}

TEST_F(RedisTaking, queues_that_were_not_noted_for_long_are_forgotten) {
    RedisServer server;
    TakingSession s(server.url());
    for (const char* queue : {"old", "older", "new"})
        EXPECT_TRUE(s.note(queue).ok());
    const std::string key = s.layout.takings_key("7:1");
    EXPECT_TRUE(s.run({"ZADD", key, "1000", "old", "1000", "older"}).ok());
    s.add("older", "1");
    EXPECT_EQ(s.take("older", "12:1").text, "1");
    {
        SettlingSession settling(s);
        settling.open = {12};
        EXPECT_TRUE(s.session().loop().until([&] {
            settling.step();
            return s.run({"ZCARD", key}).integer == 2;
        }));
        EXPECT_EQ(s.run({"ZSCORE", key, "old"}).kind, Reply::Kind::kNil);
        EXPECT_NE(s.run({"ZSCORE", key, "older"}).kind, Reply::Kind::kNil) << "from which something is taken";
    }
}

}  // namespace
}  // namespace cache_ext::redis
