// A subscriber that nobody looks at but where its socket is ready or its deadline has come, and a server that behaves as the test tells it to.
#include "redis_ear.hpp"
#include "redis_fake.hpp"

namespace cache_ext::redis {
namespace {

using Events = std::vector<std::string>;

class RedisSubscriberEvents : public ::testing::Test {
protected:
    static Options options_to(const FakeServer& server) { return options_for(server.url()); }
    static Options options_to_ask_soon(const FakeServer& server) {
        Options options = options_to(server);
        options.command_timeout = milliseconds(300);
        return options;
    }

    /// The loop goes round for the server alone, until nothing comes to it any more.
    void settle() {
        Loop loop({&server_});
        loop.for_time(milliseconds(50));
    }

    FakeServer server_;
};

TEST_F(RedisSubscriberEvents, asks_for_its_channels_as_soon_as_it_is_connected) {
    Ear ear(options_to(server_), {"news", "weather"});
    Subscriber& subscriber = ear.subscriber();
    // After the first call no deadline is looked at: what is to be said is said by the call that has cause to.
    subscriber.service({}, now());
    const TimePoint end = now() + kLong;
    while (server_.count("SUBSCRIBE") == 0 && now() < end) {
        settle();
        std::vector<Ready> ready;
        for (const Interest& interest : subscriber.interests()) {
            pollfd one{interest.fd,
                       static_cast<short>((interest.read ? POLLIN : 0) | (interest.write ? POLLOUT : 0)), 0};
            if (poll(&one, 1, 10) > 0)
                ready.push_back({one.fd, (one.revents & ~POLLOUT) != 0, (one.revents & ~POLLIN) != 0});
        }
        if (!ready.empty()) subscriber.service(ready, now());
    }
    ASSERT_EQ(server_.count("SUBSCRIBE"), 1U);
    EXPECT_EQ(server_.commands().back(), (FakeServer::Words{"SUBSCRIBE", "news", "weather"}));
}

TEST_F(RedisSubscriberEvents, messages) {
    Ear ear(options_to(server_), {"news", "weather"}, {&server_});
    ASSERT_TRUE(ear.subscribes());
    server_.say(FakeServer::message("news", "one") + FakeServer::message("weather", "two"));
    // In pieces.
    const std::string third = FakeServer::message("news", std::string("th\0ree", 6));
    server_.say(third.substr(0, 20));
    ASSERT_TRUE(ear.hears(3));
    EXPECT_EQ(ear.events(), (Events{"subscribed", "news: one", "weather: two"}));
    server_.say(third.substr(20));
    ASSERT_TRUE(ear.hears(4));
    EXPECT_EQ(ear.events().back(), std::string("news: th\0ree", 12));
    EXPECT_EQ(server_.accepted(), 1);
}

TEST_F(RedisSubscriberEvents, not_before_all_channels_are_confirmed) {
    server_.set([](const FakeServer::Words& words) {
        return words[0] == "SUBSCRIBE" ? FakeServer::pleasant({"SUBSCRIBE", "news"})
                                       : FakeServer::pleasant(words);
    });
    Ear ear(options_to(server_), {"news", "weather"}, {&server_});
    ASSERT_TRUE(ear.loop().until([&] { return server_.count("SUBSCRIBE") == 1; }));
    ear.loop().for_time(milliseconds(50));
    EXPECT_TRUE(ear.events().empty());
    server_.say("*3\r\n$9\r\nsubscribe\r\n$7\r\nweather\r\n:2\r\n");
    ASSERT_TRUE(ear.hears(1));
    EXPECT_EQ(ear.events(), Events{"subscribed"});
}

TEST_F(RedisSubscriberEvents, lost_and_back) {
    Ear ear(options_to(server_), {"news"}, {&server_});
    ASSERT_TRUE(ear.subscribes());
    server_.cut();
    ASSERT_TRUE(ear.hears(3));
    server_.say(FakeServer::message("news", "again"));
    ASSERT_TRUE(ear.hears(4));
    EXPECT_EQ(ear.events(), (Events{"subscribed", "lost", "subscribed", "news: again"}));
    EXPECT_EQ(ear.status().connections, 2U);
}

TEST_F(RedisSubscriberEvents, backs_off_while_nobody_lets_it_in) {
    Options options = options_to(server_);
    options.backoff = {milliseconds(20), milliseconds(200)};
    options.breaker = {1000, milliseconds(1000)};
    Ear ear(options, {"news"}, {&server_});
    ASSERT_TRUE(ear.subscribes());
    // It is connected, and told to go.
    server_.set(
        [this](const FakeServer::Words&) { return std::string("-ERR max number of clients reached\r\n"); });
    server_.cut();
    const std::uint64_t turns = ear.loop().turns();
    // Pauses of 100 ms on average, once it is at its longest.
    const TimePoint start = now();
    ASSERT_TRUE(ear.loop().until([&] { return server_.accepted() >= 1 + 15; }));
    EXPECT_GE(now() - start, milliseconds(15 * 100 / 4));
    EXPECT_LE(ear.loop().turns() - turns,
              static_cast<std::uint64_t>((now() - start) / milliseconds(20)) + 15 * 10)
        << "it waits, and does not spin";
    EXPECT_EQ(ear.events(), (Events{"subscribed", "lost"})) << "told once";
    // And where the connection is refused at once.
    server_.stop();
    ASSERT_TRUE(
        ear.loop().until([&] { return ear.status().last_error.find("refused") != std::string::npos; }));
    server_.set(FakeServer::pleasant);
    server_.listen_again();
    ASSERT_TRUE(ear.subscribes());
    EXPECT_EQ(ear.events(), (Events{"subscribed", "lost", "subscribed"}));
}

TEST_F(RedisSubscriberEvents, notices_that_a_connection_is_dead_when_it_has_promised_to) {
    Ear ear(options_to_ask_soon(server_), {"news"}, {&server_});
    const TimePoint before = now();
    ASSERT_TRUE(ear.subscribes());
    const TimePoint after = now();
    Subscriber& subscriber = ear.subscriber();
    server_.set([](const FakeServer::Words&) { return std::string(); });
    // Five seconds of silence, then it asks. Time is what it is told, and passes up to the deadlines that it names.
    const TimePoint asks_at = subscriber.next_deadline();
    EXPECT_GE(asks_at, before + milliseconds(5000));
    EXPECT_LE(asks_at, after + milliseconds(5000));
    const std::size_t pings = server_.count("PING");
    subscriber.service({}, asks_at - milliseconds(1));
    settle();
    EXPECT_EQ(server_.count("PING"), pings);
    subscriber.service({}, asks_at);
    EXPECT_TRUE(Loop({&server_}).until([&] { return server_.count("PING") == pings + 1; }));
    // And gives it up when nothing comes back.
    EXPECT_EQ(subscriber.next_deadline(), asks_at + milliseconds(300));
    subscriber.service({}, asks_at + milliseconds(299));
    EXPECT_TRUE(subscriber.is_subscribed());
    subscriber.service({}, asks_at + milliseconds(300));
    EXPECT_FALSE(subscriber.is_subscribed());
    EXPECT_EQ(ear.events(), (Events{"subscribed", "lost"}));
    EXPECT_LE(subscriber.next_deadline(), asks_at + milliseconds(300 + 10)) << "the first back-off";
}

TEST_F(RedisSubscriberEvents, any_sign_of_life_will_do) {
    Ear ear(options_to_ask_soon(server_), {"news"}, {&server_});
    ASSERT_TRUE(ear.subscribes());
    const int accepted = server_.accepted();
    Subscriber& subscriber = ear.subscriber();
    TimePoint time = now();
    for (int i = 0; i < 5; ++i) {
        const TimePoint asks_at = subscriber.next_deadline();
        EXPECT_GT(asks_at, time);
        time = asks_at;
        subscriber.service({}, time);
        settle();
        // The answer to its PING, or a message instead.
        server_.set(i % 2 == 0 ? FakeServer::Answers([](const FakeServer::Words&) { return std::string(); })
                               : FakeServer::Answers(FakeServer::pleasant));
        if (i % 2 == 1) server_.say(FakeServer::message("news", "here"));
        pollfd answer = {subscriber.interests().front().fd, POLLIN, 0};
        ASSERT_EQ(poll(&answer, 1, static_cast<int>(kLong.count())), 1);
        time += milliseconds(299);
        subscriber.service(std::array{Ready{subscriber.interests().front().fd, true, false}}, time);
        ASSERT_TRUE(subscriber.is_subscribed()) << i;
        EXPECT_EQ(subscriber.next_deadline(), time + milliseconds(5000));
    }
    EXPECT_EQ(server_.accepted(), accepted);
}

TEST_F(RedisSubscriberEvents, a_server_that_says_nothing_at_all) {
    server_.set([](const FakeServer::Words&) { return std::string(); });
    Options options = options_to_ask_soon(server_);
    options.connect_timeout = milliseconds(100);
    Ear ear(options, {"news"}, {&server_});
    ASSERT_TRUE(ear.loop().until([&] { return server_.accepted() >= 3; }));
    EXPECT_EQ(ear.status().last_error, "the server did not answer in time");
    // It greets, and does not answer SUBSCRIBE.
    server_.set([](const FakeServer::Words& words) {
        return words[0] == "SUBSCRIBE" ? std::string() : FakeServer::pleasant(words);
    });
    ASSERT_TRUE(ear.loop().until([&] {
        return server_.count("SUBSCRIBE") >= 3 && ear.status().last_error == "no reply came in time";
    })) << ear.status().last_error;
    EXPECT_TRUE(ear.events().empty());
    server_.set(FakeServer::pleasant);
    ASSERT_TRUE(ear.subscribes());
}

TEST_F(RedisSubscriberEvents, garbage) {
    Ear ear(options_to(server_), {"news"}, {&server_});
    std::size_t losses = 0;
    for (const std::string& garbage :
         {std::string("\x00\xff?HTTP/1.1 400 Bad Request\r\n\r\n", 29),
          std::string("*3\r\n$7\r\nmessage\r\nnews\r\n"), std::string("*999999999999\r\n"),
          std::string("$-7\r\n"), std::string("-ERR Protocol error\r\n"),
          std::string("*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n")}) {
        ASSERT_TRUE(ear.subscribes());
        server_.say(garbage);
        ASSERT_TRUE(ear.hears(2 * ++losses)) << garbage;
        EXPECT_EQ(ear.events().back(), "lost");
    }
    ASSERT_TRUE(ear.subscribes());
    EXPECT_EQ(server_.accepted(), 7);
    EXPECT_EQ(ear.status().connections, 7U);
}

}  // namespace
}  // namespace cache_ext::redis
