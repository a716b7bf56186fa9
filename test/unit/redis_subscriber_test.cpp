// Listening on channels of a real server.
#include "redis_ear.hpp"
#include "redis_proxy.hpp"

namespace cache_ext::redis {
namespace {

class RedisSubscriber : public RedisTest {};

TEST_F(RedisSubscriber, hears_what_is_published) {
    RedisServer server;
    Ear ear(options_for(server.url()), {"news", "weather"});
    EXPECT_FALSE(ear.subscriber().is_subscribed());
    ASSERT_TRUE(ear.subscribes());
    EXPECT_EQ(ear.status().state, State::kUp);
    Session session(options_for(server.url()));
    EXPECT_EQ(session.run({"PUBLISH", "news", "one"}).integer, 1);
    EXPECT_EQ(session.run({"PUBLISH", "other", "nobody listens"}).integer, 0);
    EXPECT_EQ(session.run({"PUBLISH", "weather", std::string("a\0b", 3)}).integer, 1);
    ASSERT_TRUE(ear.hears(3));
    EXPECT_EQ(ear.events(),
              (std::vector<std::string>{"subscribed", "news: one", std::string("weather: a\0b", 12)}));
}

TEST_F(RedisSubscriber, tells_when_the_connection_is_lost_and_back) {
    RedisServer server;
    Ear ear(options_for(server.url()));
    ASSERT_TRUE(ear.subscribes());
    server.process().stop(SIGKILL);
    ASSERT_TRUE(ear.hears(2));
    EXPECT_FALSE(ear.subscriber().is_subscribed());
    server.start();
    ASSERT_TRUE(ear.subscribes());
    EXPECT_EQ(ear.events(), (std::vector<std::string>{"subscribed", "lost", "subscribed"}));
    EXPECT_EQ(ear.status().connections, 2U);
}

TEST_F(RedisSubscriber, many_messages_in_order) {
    RedisServer server;
    Ear ear(options_for(server.url()));
    ASSERT_TRUE(ear.subscribes());
    Session session(options_for(server.url()));
    session.run({"EVAL", "for i = 1, 20000 do redis.call('PUBLISH', 'news', i) end", "0"});
    ASSERT_TRUE(ear.hears(20'001));
    for (int i = 1; i <= 20'000; ++i)
        ASSERT_EQ(ear.events()[static_cast<std::size_t>(i)], "news: " + std::to_string(i));
}

TEST_F(RedisSubscriber, asks_a_silent_server_whether_it_is_there) {
    RedisServer server;
    Options options = options_for(server.url());
    options.command_timeout = milliseconds(300);
    Ear ear(options);
    ASSERT_TRUE(ear.subscribes());
    // Time is what it is told.
    TimePoint time = now();
    const auto pass = [&](milliseconds much) {
        time += much;
        ear.subscriber().service(std::array{Ready{ear.subscriber().interests().front().fd, true, true}},
                                 time);
    };
    for (int i = 0; i < 5; ++i) {
        pass(milliseconds(4900));
        pass(milliseconds(200));
        // It has asked; time goes on when there is an answer.
        pollfd answer = {ear.subscriber().interests().front().fd, POLLIN, 0};
        ASSERT_EQ(poll(&answer, 1, static_cast<int>(kLong.count())), 1);
        pass(milliseconds(0));
        ASSERT_TRUE(ear.subscriber().is_subscribed()) << "it answers";
    }
    server.process().signal(SIGSTOP);
    pass(milliseconds(5100));
    ASSERT_TRUE(ear.subscriber().is_subscribed()) << "it still has time to answer";
    EXPECT_LE(ear.subscriber().next_deadline(), time + milliseconds(300));
    time += milliseconds(400);
    ear.subscriber().service({}, time);
    EXPECT_FALSE(ear.subscriber().is_subscribed());
    EXPECT_EQ(ear.events(), (std::vector<std::string>{"subscribed", "lost"}));
    EXPECT_EQ(ear.status().last_error, "no reply came in time");
}

TEST_F(RedisSubscriber, who_may_not_listen) {
    RedisServer server({"--user", "app", "on", ">pw", "~*", "+@all", "resetchannels", "&own"});
    Ear ear(options_for(server.url() + "?user=app&password=pw"));
    EXPECT_TRUE(ear.loop().until([&] { return ear.status().state == State::kMisconfigured; }));
    EXPECT_NE(ear.status().last_error.find("NOPERM"), std::string::npos) << ear.status().last_error;
    EXPECT_TRUE(ear.events().empty());
    Ear own(options_for(server.url() + "?user=app&password=pw"), {"own"});
    EXPECT_TRUE(own.subscribes());
}

TEST_F(RedisSubscriber, garbage) {
    RedisServer server;
    Proxy proxy(server.socket_path());
    Ear ear(options_for(proxy.url()));
    ASSERT_TRUE(ear.subscribes());
    Proxy::Behaviour behaviour;
    behaviour.garble_every = 2;
    proxy.set(behaviour);
    Session session(options_for(server.url()));
    session.run({"PUBLISH", "news", "one"});
    ASSERT_TRUE(ear.loop().until([&] { return !ear.subscriber().is_subscribed(); }));
    proxy.set({});
    ASSERT_TRUE(ear.subscribes());
    EXPECT_EQ(ear.events(), (std::vector<std::string>{"subscribed", "lost", "subscribed"}));
}

TEST_F(RedisSubscriber, closed) {
    RedisServer server;
    Ear ear(options_for(server.url()));
    ASSERT_TRUE(ear.subscribes());
    ear.subscriber().close(now());
    EXPECT_EQ(ear.events(), (std::vector<std::string>{"subscribed", "lost"}));
    EXPECT_TRUE(ear.subscriber().interests().empty());
    EXPECT_EQ(ear.status().state, State::kClosed);
}

TEST(RedisSubscriberWithoutServer, where_it_cannot_be) {
    Ear rest(options_for("https://x.upstash.io"));
    EXPECT_EQ(rest.status().state, State::kMisconfigured);
    EXPECT_NE(rest.status().last_error.find("SUBSCRIBE"), std::string::npos);
    Ear none(options_for("redis://127.0.0.1"), {});
    EXPECT_EQ(none.status().state, State::kMisconfigured);
}

}  // namespace
}  // namespace cache_ext::redis
