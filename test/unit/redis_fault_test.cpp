// The client and a server that is stopped, killed, full, a replica, loading, strange, or not there.
#include "redis_proxy.hpp"

#include <algorithm>
#include <random>

namespace cache_ext::redis {
namespace {

class RedisFault : public RedisTest {};

Options quick(const std::string& url) {
    Options options = options_for(url);
    options.connect_timeout = milliseconds(150);
    options.command_timeout = milliseconds(150);
    return options;
}

/// Numbers what is submitted and notes the answers, to see that each comes once and in order.
class Counting {
public:
    explicit Counting(Session& session) : session_(session) {}

    bool submit(std::vector<std::string> command) {
        const std::size_t number = submitted_;
        if (!session_.submit(command, [this, number](const Reply& reply) {
                in_order_ = in_order_ && number == verdicts_.size();
                verdicts_.push_back(reply.verdict);
            }))
            return false;
        ++submitted_;
        return true;
    }
    bool all_answered() const { return verdicts_.size() == submitted_; }
    bool in_order() const { return in_order_; }
    std::size_t submitted() const { return submitted_; }
    std::size_t count(Verdict verdict) const {
        return static_cast<std::size_t>(std::count(verdicts_.begin(), verdicts_.end(), verdict));
    }

private:
    Session& session_;
    std::size_t submitted_ = 0;
    std::vector<Verdict> verdicts_;
    bool in_order_ = true;
};

TEST_F(RedisFault, nobody_listens) {
    const Folder folder;
    Session session(options_for("unix:" + folder.path() + "/none"));
    // It is open for a while only, so all of it is looked at with one time.
    Status status;
    bool can_take = true;
    EXPECT_TRUE(session.loop().until([&] {
        const TimePoint time = now();
        status = session.client().status(time);
        can_take = session.client().can_take(time);
        return status.state == State::kOpen;
    }));
    EXPECT_EQ(status.breaker, Breaker::State::kOpen);
    EXPECT_FALSE(can_take);
    EXPECT_NE(status.last_error.find("No such file"), std::string::npos) << status.last_error;
    const std::uint64_t turns = session.loop().turns();
    session.loop().for_time(milliseconds(100));
    EXPECT_LT(session.loop().turns() - turns, 50U);
}

TEST_F(RedisFault, over_tcp_nobody_listens) {
    Session session(options_for("redis://127.0.0.1:" + std::to_string(free_port())));
    EXPECT_TRUE(session.loop().until([&] { return !session.status().last_error.empty(); }));
    EXPECT_NE(session.status().last_error.find("refused"), std::string::npos) << session.status().last_error;
}

TEST_F(RedisFault, a_name_that_is_none) {
    Session session(options_for("redis://no-such-host.invalid"));
    EXPECT_TRUE(
        session.loop().until([&] { return !session.status().last_error.empty(); }, milliseconds(60'000)));
    EXPECT_NE(session.status().last_error.find("cannot be resolved"), std::string::npos)
        << session.status().last_error;
}

TEST_F(RedisFault, a_server_that_comes_later) {
    RedisServer server;
    server.process().stop(SIGKILL);
    Session session(options_for(server.url()));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kOpen; }));
    server.start();
    EXPECT_TRUE(session.comes_up());
    EXPECT_EQ(session.status().breaker, Breaker::State::kClosed);
    EXPECT_EQ(session.run({"PING"}).text, "PONG");
}

TEST_F(RedisFault, killed_and_back) {
    RedisServer server;
    Session session(options_for(server.url()));
    ASSERT_TRUE(session.comes_up());
    server.process().signal(SIGSTOP);
    Counting counting(session);
    for (int i = 0; i < 100; ++i)
        ASSERT_TRUE(counting.submit({"INCR", "n"}));
    session.loop().for_time(milliseconds(20));
    server.process().stop(SIGKILL);
    EXPECT_TRUE(session.loop().until([&] { return counting.all_answered(); }));
    EXPECT_EQ(counting.count(Verdict::kLost), 100U);
    EXPECT_TRUE(counting.in_order());
    EXPECT_FALSE(session.client().can_take(now()));
    EXPECT_EQ(session.status().lost, 100U);
    server.start();
    EXPECT_EQ(session.run({"INCR", "n"}).integer, 1);
    EXPECT_EQ(session.status().connections, 2U);
}

TEST_F(RedisFault, stopped_while_commands_are_under_way) {
    RedisServer server;
    Session session(quick(server.url()));
    ASSERT_TRUE(session.comes_up());
    server.process().signal(SIGSTOP);
    Counting counting(session);
    ASSERT_TRUE(counting.submit({"SET", "key", "1"}));
    const TimePoint start = now();
    EXPECT_TRUE(session.loop().until([&] { return counting.all_answered(); }));
    EXPECT_GE(now() - start, milliseconds(140));
    EXPECT_LT(now() - start, kLong / 4) << "not only when the time for all of it is over";
    EXPECT_EQ(counting.count(Verdict::kLost), 1U);
    EXPECT_EQ(session.status().last_error, "no reply came in time");
    // The kernel takes connections for a server that is stopped.
    EXPECT_TRUE(session.loop().until(
        [&] { return session.status().last_error == "the server did not answer in time"; }));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kOpen; }));
    server.process().signal(SIGCONT);
    EXPECT_EQ(session.run_until_answered({"GET", "key"}).verdict, Verdict::kOk);
}

TEST_F(RedisFault, this_process_is_away) {
    RedisServer server;
    Options options = options_for(server.url());
    options.command_timeout = milliseconds(150);
    Session session(options);
    ASSERT_TRUE(session.comes_up());
    Counting counting(session);
    ASSERT_TRUE(counting.submit({"PING"}));
    session.client().service({}, now());
    pollfd reply = {session.client().interests().front().fd, POLLIN, 0};
    ASSERT_EQ(poll(&reply, 1, static_cast<int>(kLong.count())), 1);
    usleep(300'000);
    // The reply has long been there: what took long was here.
    session.client().service({}, now());
    EXPECT_EQ(counting.count(Verdict::kOk), 1U);
    EXPECT_EQ(session.status().connections, 1U);
}

TEST_F(RedisFault, no_password) {
    RedisServer server({"--requirepass", "secret"});
    Session session(options_for(server.url()));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kMisconfigured; }));
    EXPECT_NE(session.status().last_error.find("NOAUTH"), std::string::npos) << session.status().last_error;
    EXPECT_FALSE(session.client().can_take(now()));
}

TEST_F(RedisFault, a_wrong_password_is_in_no_message) {
    RedisServer server({"--requirepass", "secret"});
    Session session(options_for(server.url() + "?password=Xyzzy"));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kMisconfigured; }));
    EXPECT_NE(session.status().last_error.find("WRONGPASS"), std::string::npos);
    EXPECT_EQ(session.status().last_error.find("Xyzzy"), std::string::npos);
}

TEST_F(RedisFault, a_server_that_says_the_password_aloud) {
    RedisServer server;
    Proxy proxy(server.socket_path());
    Proxy::Behaviour behaviour;
    behaviour.says_instead = "-ERR what do you mean by Xyzzy? And by Xyzzy?\r\n";
    proxy.set(behaviour);
    Session session(options_for(proxy.url() + "?password=Xyzzy"));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kMisconfigured; }));
    EXPECT_EQ(session.status().last_error, "the server says: ERR what do you mean by ***? And by ***?");
}

TEST_F(RedisFault, a_server_that_knows_no_passwords_says_only_so) {
    // It repeats what it was sent, up to a length and without line breaks.
    RedisServer server({"--rename-command", "AUTH", ""});
    for (const std::string& password : {std::string("Xyzzy"), "Xyzzy%0A%0DXyzzy" + std::string(10, 'x'),
                                        "Xyzzy" + std::string(1000, 'x')}) {
        Session session(options_for(server.url() + "?password=" + password));
        EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kMisconfigured; }));
        EXPECT_NE(session.status().last_error.find("***"), std::string::npos) << session.status().last_error;
        EXPECT_EQ(session.status().last_error.find("Xyzzy"), std::string::npos)
            << session.status().last_error;
        EXPECT_EQ(session.status().last_error.find("xx"), std::string::npos) << session.status().last_error;
    }
}

TEST_F(RedisFault, a_database_that_is_not_there) {
    RedisServer server;
    Session session(options_for(server.url() + "?db=99"));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kMisconfigured; }));
}

TEST_F(RedisFault, full) {
    RedisServer server({"--maxmemory", "1", "--maxmemory-policy", "noeviction"});
    Session session(options_for(server.url()));
    EXPECT_TRUE(session.run({"UNLINK", "key"}).ok()) << "what frees memory is done";
    TimePoint before;
    for (int i = 0; i < 5; ++i) {
        before = now();
        EXPECT_EQ(session.run({"SET", "key", "value"}).verdict, Verdict::kRetryLater);
    }
    // The last one opened it, then or later, for 200 ms.
    const TimePoint opened = before + milliseconds(199);
    EXPECT_EQ(session.client().status(opened).state, State::kOpen) << "nothing but refusals";
    EXPECT_EQ(session.status().connections, 1U);
    EXPECT_FALSE(session.client().can_take(opened));
    ASSERT_TRUE(session.comes_up()) << "after a while one command is let through";
    EXPECT_GE(now(), opened);
    Counting counting(session);
    before = now();
    ASSERT_TRUE(counting.submit({"SET", "key", "value"}));
    EXPECT_FALSE(session.client().can_take(now())) << "and one only";
    ASSERT_TRUE(session.loop().until([&] { return counting.all_answered(); }));
    EXPECT_EQ(session.client().status(before + milliseconds(199)).state, State::kOpen);
    ASSERT_TRUE(session.comes_up());
    EXPECT_TRUE(session.run({"CONFIG", "SET", "maxmemory", "0"}).ok());
    EXPECT_EQ(session.status().state, State::kUp);
    EXPECT_TRUE(session.run({"SET", "key", "value"}).ok());
}

TEST_F(RedisFault, a_replica) {
    RedisServer server({"--replicaof", "127.0.0.1 1"});
    Session session(options_for(server.url()));
    EXPECT_EQ(session.run({"SET", "key", "value"}).verdict, Verdict::kReconnect);
    EXPECT_TRUE(session.loop().until([&] { return session.status().connections >= 2; }));
    EXPECT_NE(session.status().last_error.find("READONLY"), std::string::npos);
    Session other(options_for(server.url()));
    EXPECT_TRUE(other.run({"REPLICAOF", "NO", "ONE"}).ok());
    EXPECT_TRUE(session.loop().until([&] { return session.client().can_take(now()); }));
    EXPECT_TRUE(session.run({"SET", "key", "value"}).ok());
}

TEST_F(RedisFault, loading) {
    RedisServer server;
    Session session(options_for(server.url()));
    session.run({"EVAL", "for i = 1, 6000 do redis.call('SET', i, i) end", "0"});
    session.run({"SAVE"});
    server.process().stop(SIGKILL);
    // It answers while it loads, and takes its time for that.
    server.start_with({"--key-load-delay", "700", "--loading-process-events-interval-bytes", "1024"});
    EXPECT_TRUE(session.loop().until([&] {
        return session.status().last_error.find("LOADING") != std::string::npos;
    })) << session.status().last_error;
    EXPECT_NE(session.status().state, State::kUp);
    EXPECT_TRUE(session.comes_up());
    EXPECT_EQ(session.run({"GET", "6000"}).text, "6000");
}

TEST_F(RedisFault, too_many_clients) {
    RedisServer server({"--maxclients", "1"});
    Session first(options_for(server.url()));
    ASSERT_TRUE(first.comes_up());
    Session second(options_for(server.url()));
    EXPECT_TRUE(second.loop().until([&] { return !second.status().last_error.empty(); }));
    first.client().close(now());
    EXPECT_TRUE(second.comes_up());
}

TEST_F(RedisFault, a_black_hole) {
    RedisServer server;
    Proxy proxy(server.socket_path());
    Proxy::Behaviour behaviour;
    behaviour.is_black_hole = true;
    proxy.set(behaviour);
    Session session(quick(proxy.url()));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kOpen; }));
    EXPECT_EQ(session.status().last_error, "the server did not answer in time");
    proxy.set({});
    EXPECT_TRUE(session.run_until_answered({"PING"}).ok());
}

TEST_F(RedisFault, something_that_is_no_redis) {
    RedisServer server;
    Proxy proxy(server.socket_path());
    for (const char* says :
         {"HTTP/1.1 400 Bad Request\r\n\r\n", "+OK\r\n+OK\r\n+OK\r\n+OK\r\n", ":1\r\n", "*0\r\n", "\r\n"}) {
        Proxy::Behaviour behaviour;
        behaviour.says_instead = says;
        proxy.set(behaviour);
        Session session(quick(proxy.url()));
        EXPECT_TRUE(session.loop().until([&] { return !session.status().last_error.empty(); })) << says;
        EXPECT_EQ(session.status().connections, 0U) << says;
    }
}

TEST_F(RedisFault, a_reply_that_nobody_asked_for) {
    RedisServer server;
    Proxy proxy(server.socket_path());
    Session session(options_for(proxy.url()));
    ASSERT_TRUE(session.comes_up());
    Proxy::Behaviour behaviour;
    behaviour.says_instead = "+OK\r\n+OK\r\n";
    proxy.set(behaviour);
    Counting counting(session);
    ASSERT_TRUE(counting.submit({"SET", "k", "v"}));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state != State::kUp; }));
    EXPECT_TRUE(counting.all_answered());
    EXPECT_EQ(session.status().last_error, "the server sent a reply that nobody asked for");
}

TEST_F(RedisFault, a_byte_at_a_time) {
    RedisServer server;
    Proxy proxy(server.socket_path());
    Proxy::Behaviour behaviour;
    behaviour.dribbles = true;
    proxy.set(behaviour);
    Session session(options_for(proxy.url()));
    EXPECT_TRUE(session.run({"SET", "key", "a value of some length"}).ok());
    EXPECT_EQ(session.run({"GET", "key"}).text, "a value of some length");
    EXPECT_EQ(session.status().connections, 1U);
}

TEST_F(RedisFault, slow_but_there) {
    RedisServer server;
    Proxy proxy(server.socket_path());
    Options options = options_for(proxy.url());
    options.command_timeout = milliseconds(3000);
    Session session(options);
    ASSERT_TRUE(session.comes_up());
    Proxy::Behaviour behaviour;
    behaviour.delay_ms = 450;
    proxy.set(behaviour);
    // All together take longer than the time for one; each reply is in time.
    Counting counting(session);
    ASSERT_TRUE(session.loop().until([&] {
        if (counting.all_answered() && counting.submitted() < 8) counting.submit({"PING"});
        return counting.count(Verdict::kOk) == 8;
    }));
    EXPECT_EQ(session.status().connections, 1U);
    EXPECT_GE(session.status().round_trip, milliseconds(200));
}

TEST_F(RedisFault, never_done_in_all) {
    // Each second's worth of replies is in time, but the last one does not come within the total.
    RedisServer server;
    Options options = options_for(server.url());
    options.total_timeout = milliseconds(200);
    Session session(options);
    ASSERT_TRUE(session.comes_up());
    server.process().signal(SIGSTOP);
    Counting counting(session);
    ASSERT_TRUE(counting.submit({"PING"}));
    EXPECT_TRUE(session.loop().until([&] { return counting.all_answered(); }, kLong / 4));
    EXPECT_EQ(counting.count(Verdict::kLost), 1U);
}

TEST_F(RedisFault, no_signal_ends_the_process) {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    struct sigaction before {};
    sigaction(SIGPIPE, &action, &before);
    RedisServer server;
    Session session(options_for(server.url()));
    ASSERT_TRUE(session.comes_up());
    server.process().stop(SIGKILL);
    Counting counting(session);
    // Nobody has told the client yet: it writes, and there is nobody to read.
    ASSERT_TRUE(counting.submit({"SET", "k", std::string(1'000'000, 'x')}));
    session.client().service({}, now());
    EXPECT_TRUE(session.loop().until([&] { return counting.all_answered(); }));
    EXPECT_EQ(counting.count(Verdict::kLost), 1U);
    sigaction(SIGPIPE, &before, nullptr);
}

TEST_F(RedisFault, cut_anywhere) {
    // Whatever is sent again until it is answered was done at least once, in order; every submission is answered once.
    RedisServer server;
    Proxy proxy(server.socket_path());
    Options options = options_for(proxy.url());
    options.backoff = {milliseconds(1), milliseconds(2)};
    options.breaker = {1000, milliseconds(10)};
    Session session(options);
    std::mt19937 random(3);
    int next = 0;  // the number to set
    int acknowledged = 0;
    int answers = 0;
    int submissions = 0;
    constexpr int kLast = 3000;
    ASSERT_TRUE(session.loop().until(
        [&] {
            if (random() % 8 == 0) proxy.cut();
            if (random() % 8 == 0) {
                Proxy::Behaviour behaviour;
                behaviour.cuts = true;
                behaviour.cut_after = random() % 400;
                proxy.set(behaviour);
            }
            for (int i = 0; i < 50 && next < kLast; ++i) {
                const int number = next + 1;
                // An answer that is lost sends everything after the last one acknowledged again.
                if (!session.submit({"SET", "number", std::to_string(number)},
                                    [&, number](const Reply& reply) {
                                        ++answers;
                                        if (reply.ok()) {
                                            EXPECT_EQ(number, acknowledged + 1);
                                            acknowledged = number;
                                        } else {
                                            EXPECT_EQ(reply.verdict, Verdict::kLost);
                                            next = acknowledged;
                                        }
                                    }))
                    break;
                ++submissions;
                next = number;
            }
            return acknowledged == kLast;
        },
        milliseconds(60'000)));
    EXPECT_EQ(answers, submissions);
    EXPECT_GT(session.status().connections, 10U);
    EXPECT_GT(session.status().lost, 10U);
    Session direct(options_for(server.url()));
    EXPECT_EQ(direct.run({"GET", "number"}).text, std::to_string(kLast));
}

TEST_F(RedisFault, garbled_anywhere) {
    // A changed byte may make another reply of one; what must not happen is a crash, a hang, or an answer too many.
    RedisServer server;
    Proxy proxy(server.socket_path());
    Options options = quick(proxy.url());
    options.backoff = {milliseconds(1), milliseconds(2)};
    options.breaker = {100'000, milliseconds(10)};
    Session session(options);
    int answers = 0;
    int submissions = 0;
    for (const std::size_t every : {2U, 3U, 5U, 17U, 31U, 47U, 64U, 101U}) {
        Proxy::Behaviour behaviour;
        behaviour.garble_every = every;
        proxy.set(behaviour);
        // Where every few bytes are changed it never comes so far that it would take a command.
        const TimePoint end = now() + milliseconds(60);
        EXPECT_TRUE(session.loop().until([&] {
            for (int i = 0; i < 10; ++i)
                if (session.submit({i % 2 == 0 ? "SET" : "MGET", "key", "value"},
                                   [&](const Reply&) { ++answers; }))
                    ++submissions;
            return now() >= end && (every < 101 || submissions > 100);
        }));
    }
    proxy.set({});
    EXPECT_TRUE(session.loop().until([&] { return answers == submissions; }));
    EXPECT_TRUE(session.loop().until([&] { return session.client().can_take(now()); }));
    proxy.cut();
    session.loop().for_time(milliseconds(20));
    EXPECT_TRUE(session.run_until_answered({"SET", "key", "value"}).ok());
    EXPECT_EQ(session.run_until_answered({"GET", "key"}).text, "value");
}

}  // namespace
}  // namespace cache_ext::redis
