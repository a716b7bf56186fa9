// A cluster that says what a test wants it to.
#include "redis_fake.hpp"

namespace cache_ext::redis {
namespace {

using Words = FakeServer::Words;

/// CLUSTER SLOTS: one server has all of them.
std::string map_with(const FakeServer& server) {
    return "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n" + FakeServer::bulk("127.0.0.1") + ":" +
           std::to_string(server.port()) + "\r\n";
}

std::string moved(const std::string& key, const std::string& to) {
    return "-MOVED " + std::to_string(slot_of(key)) + " " + to + "\r\n";
}

std::string url_of(const FakeServer& server) { return server.url() + "?cluster=1"; }

// Servers come and go, where addresses are given anew with each start.
TEST(RedisClusterAtFake, more_servers_in_all_than_there_can_be_at_once) {
    FakeServer one;
    FakeServer other;
    const FakeServer* owner = &one;
    int named = 0;
    one.set([&](const Words& words) {
        if (words[0] == "CLUSTER") return map_with(*owner);
        if (words[0] == "GET" && named < 1500) {
            ++named;
            return moved(words[1], "127.0.1." + std::to_string(1 + named % 250) + ":" +
                                       std::to_string(1 + named / 250));
        }
        if (words[0] == "SET") return moved(words[1], other.address());
        return FakeServer::pleasant(words);
    });
    Options options = options_for(url_of(one));
    options.total_timeout = milliseconds(1000);
    Session session(options, {&one, &other});
    ASSERT_TRUE(session.comes_up());
    int answered = 0;
    int asked = 0;
    ASSERT_TRUE(session.loop().until(
        [&] {
            for (int i = 0; i < 50 && named < 1500; ++i)
                if (session.submit({"GET", "key" + std::to_string(asked)}, [&](const Reply&) { ++answered; }))
                    ++asked;
            return named >= 1500 && answered == asked;
        },
        milliseconds(60'000)));
    owner = &other;
    EXPECT_EQ(session.run({"SET", "key", "value"}).text, "OK") << session.status().last_error;
    EXPECT_EQ(other.count("SET"), 1U);
}

TEST(RedisClusterAtFake, what_waits_for_a_server_that_is_not_there_has_bounds) {
    bool is_first = true;
    FakeServer one;
    const std::string nobody = "127.0.0.1:" + std::to_string(free_port());
    one.set([&](const Words& words) {
        if (words[0] == "CLUSTER" && words[1] == "SLOTS")
            return std::exchange(is_first, false) ? map_with(one) : std::string();
        return words[0] == "SET" ? moved(words[1], nobody) : FakeServer::pleasant(words);
    });
    Session session(options_for(url_of(one)), {&one});
    ASSERT_TRUE(session.comes_up());
    const std::string large(std::size_t{64} << 10, 'x');
    int taken = 0;
    int answered = 0;
    (void)session.loop().until(
        [&] {
            for (int i = 0; i < 10; ++i)
                if (session.submit({"SET", "key", large}, [&](const Reply&) { ++answered; })) ++taken;
            return taken >= 200;
        },
        milliseconds(500));
    EXPECT_GT(taken, 8);
    EXPECT_LT(taken, 120) << "most_buffered, and what was on its way before";
    EXPECT_GT(session.status().buffered_bytes, std::size_t{1} << 20);
    EXPECT_TRUE(session.loop().until([&] { return answered == taken; }));
    EXPECT_EQ(session.status().buffered_bytes, 0U);
}

}  // namespace
}  // namespace cache_ext::redis
