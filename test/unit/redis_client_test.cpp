// The client and a single server that does what it should.
#include "redis_fixture.hpp"

namespace cache_ext::redis {
namespace {

class RedisClient : public RedisTest {};

TEST_F(RedisClient, set_and_get) {
    RedisServer server;
    Session session(options_for(server.url()));
    EXPECT_FALSE(session.client().can_take(now())) << "not connected yet";
    EXPECT_EQ(session.run({"SET", "key", "value"}).text, "OK");
    const Reply got = session.run({"GET", "key"});
    EXPECT_EQ(got.kind, Reply::Kind::kString);
    EXPECT_EQ(got.text, "value");
    EXPECT_EQ(session.run({"GET", "nothing"}).kind, Reply::Kind::kNil);
    EXPECT_EQ(session.run({"DEL", "key", "nothing"}).integer, 1);
    EXPECT_EQ(session.status().state, State::kUp);
    EXPECT_EQ(session.status().nodes_up, 1);
}

TEST_F(RedisClient, any_bytes) {
    RedisServer server;
    Session session(options_for(server.url()));
    std::string bytes;
    for (int i = 0; i < 256; ++i)
        bytes.push_back(static_cast<char>(i));
    session.run({"SET", bytes, bytes});
    EXPECT_EQ(session.run({"GET", bytes}).text, bytes);
    EXPECT_EQ(session.run({"SET", "empty", ""}).text, "OK");
    EXPECT_EQ(session.run({"GET", "empty"}).kind, Reply::Kind::kString);
}

TEST_F(RedisClient, arrays_in_arrays) {
    RedisServer server;
    Session session(options_for(server.url()));
    const Reply reply =
        session.run({"EVAL", "return {1, {'two', {3}, {}}, {err='WRONGTYPE four'}}", "0"}, "any");
    ASSERT_EQ(reply.elements.size(), 3U);
    EXPECT_EQ(reply.elements[0].integer, 1);
    ASSERT_EQ(reply.elements[1].elements.size(), 3U);
    EXPECT_EQ(reply.elements[1].elements[0].text, "two");
    EXPECT_EQ(reply.elements[1].elements[1].elements.at(0).integer, 3);
    EXPECT_TRUE(reply.elements[1].elements[2].elements.empty());
    EXPECT_EQ(reply.elements[2].verdict, Verdict::kPermanent);
    EXPECT_TRUE(reply.ok());
}

TEST_F(RedisClient, a_large_value) {
    RedisServer server;
    Session session(options_for(server.url()));
    // More than the bound of what may wait: a single one passes.
    const std::string large(8'000'000, 'x');
    EXPECT_EQ(session.run({"SET", "large", large}).text, "OK");
    EXPECT_EQ(session.run({"GET", "large"}).text.size(), large.size());
}

TEST_F(RedisClient, replies_in_order) {
    RedisServer server;
    Session session(options_for(server.url()));
    ASSERT_TRUE(session.comes_up());
    constexpr int kMany = 50'000;
    int sent = 0;
    std::vector<long long> replies;
    while (sent < kMany) {
        while (sent < kMany &&
               session.submit({"INCR", "n"}, [&](const Reply& reply) { replies.push_back(reply.integer); }))
            ++sent;
        ASSERT_TRUE(session.loop().until([&] { return session.client().can_take(now()) || sent == kMany; }));
    }
    ASSERT_TRUE(session.loop().until([&] { return replies.size() == kMany; }));
    for (int i = 0; i < kMany; ++i)
        ASSERT_EQ(replies[static_cast<std::size_t>(i)], i + 1);
    const Status status = session.status();
    EXPECT_EQ(status.commands, static_cast<std::uint64_t>(kMany));
    EXPECT_EQ(status.replies, static_cast<std::uint64_t>(kMany));
    EXPECT_EQ(status.in_flight, 0U);
    EXPECT_GT(status.round_trip.count(), 0);
}

TEST_F(RedisClient, takes_no_more_than_its_bounds) {
    RedisServer server;
    Options options = options_for(server.url());
    options.most_in_flight = 10;
    Session session(options);
    ASSERT_TRUE(session.comes_up());
    int answered = 0;
    const auto count = [&](const Reply&) { ++answered; };
    for (int i = 0; i < 10; ++i)
        EXPECT_TRUE(session.submit({"PING"}, count));
    EXPECT_FALSE(session.client().can_take(now()));
    EXPECT_FALSE(session.submit({"PING"}, count));
    EXPECT_EQ(answered, 0) << "never from within submit";
    EXPECT_TRUE(session.loop().until([&] { return answered == 10; }));
    EXPECT_TRUE(session.client().can_take(now()));
}

TEST_F(RedisClient, takes_no_more_than_the_socket_does) {
    RedisServer server;
    Options options = options_for(server.url());
    options.most_buffered = 100'000;
    options.command_timeout = milliseconds(10'000);
    options.total_timeout = milliseconds(20'000);
    Session session(options);
    ASSERT_TRUE(session.comes_up());
    server.process().signal(SIGSTOP);
    int taken = 0;
    const std::string value(10'000, 'v');
    session.loop().until(
        [&] {
            while (session.submit({"SET", "k", value}, nullptr))
                ++taken;
            return false;
        },
        milliseconds(200));
    EXPECT_GT(taken, 9);
    EXPECT_LT(taken, 1000) << "the socket's buffer, and ours";
    EXPECT_LT(session.status().buffered_bytes, 120'000U);
    const std::uint64_t turns = session.loop().turns();
    session.loop().for_time(milliseconds(100));
    EXPECT_LT(session.loop().turns() - turns, 50U) << "it waits, and does not spin";
    server.process().signal(SIGCONT);
    EXPECT_TRUE(session.loop().until([&] { return session.status().in_flight == 0; }));
    EXPECT_EQ(session.status().replies, static_cast<std::uint64_t>(taken));
}

TEST_F(RedisClient, handlers_may_submit) {
    RedisServer server;
    Session session(options_for(server.url()));
    session.run({"SADD", "tag", "a", "b", "c"});
    session.run({"MSET", "a", "1", "b", "2", "c", "3"});
    long long removed = -1;
    ASSERT_TRUE(session.submit({"SMEMBERS", "tag"}, [&](const Reply& members) {
        std::vector<std::string> command = {"UNLINK"};
        for (const Reply& member : members.elements)
            command.push_back(member.text);
        EXPECT_TRUE(session.submit(command, [&](const Reply& reply) { removed = reply.integer; }));
    }));
    EXPECT_TRUE(session.loop().until([&] { return removed == 3; }));
}

TEST_F(RedisClient, an_exception_of_a_handler_is_dropped) {
    RedisServer server;
    Session session(options_for(server.url()));
    ASSERT_TRUE(session.comes_up());
    ASSERT_TRUE(session.submit({"PING"}, [](const Reply&) { throw std::runtime_error("mine"); }));
    EXPECT_EQ(session.run({"PING"}).text, "PONG");
}

TEST_F(RedisClient, over_tcp_with_database_and_name) {
    RedisServer server({}, free_port());
    Options options = options_for("redis://127.0.0.1:" + std::to_string(server.port()) + "/5");
    options.client_name = "cache_ext-test";
    Session session(options);
    session.run({"SET", "key", "in 5"});
    EXPECT_NE(session.run({"CLIENT", "LIST"}).text.find("name=cache_ext-test"), std::string::npos);
    Session other(options_for(server.url() + "?db=5"));
    EXPECT_EQ(other.run({"GET", "key"}).text, "in 5");
    Session elsewhere(options_for(server.url()));
    EXPECT_EQ(elsewhere.run({"GET", "key"}).kind, Reply::Kind::kNil);
}

TEST_F(RedisClient, by_the_name_of_the_host) {
    RedisServer server({}, free_port());
    // The name may stand for ::1 too, where nobody listens.
    Session session(options_for("redis://localhost:" + std::to_string(server.port())));
    EXPECT_EQ(session.run({"PING"}).text, "PONG");
}

TEST_F(RedisClient, over_ipv6) {
    const int port = free_port();
    RedisServer server({"--bind", "::1"}, port);
    const int probe = socket(AF_INET6, SOCK_STREAM, 0);
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    address.sin6_port = htons(static_cast<std::uint16_t>(port));
    const bool has_ipv6 = connect(probe, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    close(probe);
    if (!has_ipv6) GTEST_SKIP() << "this machine has no IPv6";
    Session session(options_for("redis://[::1]:" + std::to_string(port)));
    EXPECT_EQ(session.run({"PING"}).text, "PONG");
}

TEST_F(RedisClient, password_and_user) {
    RedisServer server(
        {"--requirepass", "s3:cr@t", "--user", "app", "on", ">pass/word", "~*", "&*", "+@all"});
    Session with_password(options_for(server.url() + "?password=s3:cr%40t"));
    EXPECT_EQ(with_password.run({"ACL", "WHOAMI"}).text, "default");
    Session with_user(options_for(server.url() + "?user=app&password=pass/word"));
    EXPECT_EQ(with_user.run({"ACL", "WHOAMI"}).text, "app");
}

TEST_F(RedisClient, a_user_who_may_do_little) {
    RedisServer server({"--user", "app", "on", ">pw", "~own:*", "-@all", "+unlink"});
    Session session(options_for(server.url() + "?user=app&password=pw"));
    EXPECT_TRUE(session.run({"UNLINK", "own:1"}).ok())
        << "neither PING nor CLIENT SETNAME is among the rights";
    const Reply refused = session.run({"UNLINK", "other"});
    EXPECT_EQ(refused.verdict, Verdict::kConfiguration);
    EXPECT_TRUE(refused.text.starts_with("NOPERM")) << refused.text;
    EXPECT_EQ(session.status().state, State::kUp);
}

TEST_F(RedisClient, all_primaries_of_one_server) {
    RedisServer server;
    Session session(options_for(server.url()));
    session.run({"SET", "key", "value"});
    std::vector<std::string> keys;
    const std::vector<std::string_view> scan = {"SCAN", "0"};
    EXPECT_EQ(for_each_primary(
                  session.client(), scan,
                  [&](NodeId, const Reply& reply) {
                      for (const Reply& key : reply.elements.at(1).elements)
                          keys.push_back(key.text);
                  },
                  now()),
              1U);
    EXPECT_TRUE(session.loop().until([&] { return keys == std::vector<std::string>{"key"}; }));
}

TEST_F(RedisClient, closed) {
    RedisServer server;
    Session session(options_for(server.url()));
    ASSERT_TRUE(session.comes_up());
    std::vector<Verdict> verdicts;
    const auto note = [&](const Reply& reply) { verdicts.push_back(reply.verdict); };
    ASSERT_TRUE(session.submit({"PING"}, note));
    ASSERT_TRUE(session.submit({"PING"}, note));
    session.client().close(now());
    EXPECT_EQ(verdicts, (std::vector{Verdict::kLost, Verdict::kLost}));
    EXPECT_EQ(session.status().state, State::kClosed);
    EXPECT_TRUE(session.client().interests().empty());
    EXPECT_EQ(session.client().next_deadline(), kNever);
    EXPECT_FALSE(session.submit({"PING"}, note));
    session.loop().for_time(milliseconds(30));
    EXPECT_EQ(session.status().state, State::kClosed);
}

}  // namespace
}  // namespace cache_ext::redis
