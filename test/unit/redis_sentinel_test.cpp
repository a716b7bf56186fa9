// The master is where the sentinels say it is, whichever of them can be asked: with sentinels and servers that say what the test wants.
#include "redis_ear.hpp"
#include "redis_fake.hpp"

namespace cache_ext::redis {
namespace {

using Words = FakeServer::Words;

FakeServer::Answers naming(const FakeServer& master) {
    const std::string answer =
        "*2\r\n" + FakeServer::bulk("127.0.0.1") + FakeServer::bulk(std::to_string(master.port()));
    return [answer](const Words& words) {
        return words[0] == "SENTINEL" ? answer : FakeServer::pleasant(words);
    };
}

FakeServer::Answers saying(const std::string& answer) {
    return [answer](const Words& words) {
        return words[0] == "SENTINEL" ? answer : FakeServer::pleasant(words);
    };
}

/// As one that takes no writes.
std::string replica(const Words& words) {
    if (words[0] == "ROLE") return "*3\r\n" + FakeServer::bulk("slave") + FakeServer::bulk("h") + ":1\r\n";
    if (words[0] == "SET") return "-READONLY You can't write against a read only replica.\r\n";
    return FakeServer::pleasant(words);
}

class RedisSentinel : public ::testing::Test {
protected:
    Options options(const std::string& more = {}) const {
        return options_for("redis-sentinel://:data@" + first_.address() + "," + second_.address() +
                           "/3?master=shop" + more);
    }

    std::vector<Driven*> all() { return {&first_, &second_, &one_, &other_}; }

    FakeServer one_;
    FakeServer other_;
    FakeServer first_{naming(one_)};
    FakeServer second_{naming(one_)};
};

TEST_F(RedisSentinel, says_where_the_master_is) {
    Session session(options(), all());
    ASSERT_TRUE(session.comes_up());
    EXPECT_EQ(first_.commands().back(), (Words{"SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"}));
    EXPECT_EQ(second_.accepted(), 0) << "the first one knew";
    EXPECT_TRUE(session.run({"SET", "k", "v"}).ok());
    EXPECT_EQ(one_.commands(), (std::vector<Words>{{"AUTH", "data"},
                                                   {"SELECT", "3"},
                                                   {"CLIENT", "SETNAME", "cache_ext"},
                                                   {"PING"},
                                                   {"ROLE"},
                                                   {"SET", "k", "v"}}));
    EXPECT_EQ(session.status().nodes_up, 1);
    EXPECT_EQ(session.status().connections, 1U) << "to servers, not to sentinels";
    EXPECT_EQ(session.status().last_error, "");
}

TEST_F(RedisSentinel, has_a_password_of_its_own) {
    Session without(options(), all());
    ASSERT_TRUE(without.comes_up());
    EXPECT_EQ(first_.count("AUTH") + first_.count("SELECT"), 0U) << "the master's is not told to it";
    Session with(options("&sentinel_user=watch&sentinel_password=s%26t"), all());
    ASSERT_TRUE(with.comes_up());
    EXPECT_EQ(first_.count("AUTH"), 1U);
    EXPECT_EQ(first_.commands()[first_.commands().size() - 4], (Words{"AUTH", "watch", "s&t"}));
    for (const Words& words : one_.commands())
        for (const std::string& word : words)
            EXPECT_EQ(word.find("s&t"), std::string::npos);
}

TEST_F(RedisSentinel, is_asked_again_when_the_connection_is_lost) {
    Session session(options(), all());
    ASSERT_TRUE(session.comes_up());
    first_.set(naming(other_));
    one_.stop();
    ASSERT_TRUE(session.loop().until([&] { return session.status().connections == 2; }));
    EXPECT_TRUE(session.run({"SET", "k", "v"}).ok());
    EXPECT_EQ(other_.count("SET"), 1U);
}

TEST_F(RedisSentinel, is_asked_again_when_the_master_has_become_a_replica) {
    Session session(options(), all());
    ASSERT_TRUE(session.comes_up());
    one_.set(replica);
    first_.set(naming(other_));
    EXPECT_EQ(session.run({"SET", "k", "v"}).verdict, Verdict::kReconnect);
    ASSERT_TRUE(session.loop().until([&] { return session.status().connections == 2; }));
    EXPECT_TRUE(session.run({"SET", "k", "v"}).ok());
    EXPECT_EQ(other_.count("SET"), 1U);
}

TEST_F(RedisSentinel, is_asked_again_when_its_replicas_have_left_the_master) {
    Session session(options(), all());
    ASSERT_TRUE(session.comes_up());
    one_.set([](const Words& words) {
        return words[0] == "SET" ? std::string("-NOREPLICAS Not enough good replicas to write.\r\n")
                                 : FakeServer::pleasant(words);
    });
    first_.set(naming(other_));
    EXPECT_EQ(session.run({"SET", "k", "v"}).verdict, Verdict::kReconnect);
    EXPECT_TRUE(session.run({"SET", "k", "v"}).ok());
    EXPECT_EQ(other_.count("SET"), 1U);
}

TEST_F(RedisSentinel, who_is_no_master_is_not_written_to) {
    one_.set(replica);
    Session session(options(), all());
    EXPECT_TRUE(session.loop().until([&] { return one_.count("ROLE") >= 3; }));
    EXPECT_EQ(session.status().connections, 0U);
    EXPECT_EQ(session.status().last_error, "master " + one_.address() + ": the server is not a master");
    EXPECT_EQ(session.status().state == State::kMisconfigured, false);
    EXPECT_GT(second_.accepted(), 0) << "perhaps the other one knows better";
    second_.set(naming(other_));
    ASSERT_TRUE(session.comes_up());
    EXPECT_TRUE(session.run({"SET", "k", "v"}).ok());
    EXPECT_EQ(other_.count("SET"), 1U);
    EXPECT_EQ(one_.count("SET"), 0U);
}

TEST_F(RedisSentinel, who_may_not_ask_for_the_role_is_believed) {
    one_.set([](const Words& words) {
        return words[0] == "ROLE" ? std::string("-NOPERM this user has no permissions to run 'role'\r\n")
                                  : FakeServer::pleasant(words);
    });
    Session session(options(), all());
    EXPECT_TRUE(session.comes_up());
}

TEST_F(RedisSentinel, any_of_them_will_do) {
    // Refused, silent, cut off, garbage, no idea, nonsense: each time the other one knows.
    first_.stop();
    {
        Session session(options(), all());
        ASSERT_TRUE(session.comes_up());
    }
    first_.listen_again();
    const auto nothing = [](const Words&) { return std::string(); };
    // Whoever says nothing is waited for; not for so short that the others are not.
    Options impatient = options();
    impatient.connect_timeout = impatient.command_timeout = milliseconds(2500);
    const auto half = [](const Words& words) {
        return words[0] == "SENTINEL" ? std::string("*2\r\n$9\r\n127.") : FakeServer::pleasant(words);
    };
    for (const FakeServer::Answers& answers :
         {FakeServer::Answers(nothing), FakeServer::Answers(half), saying("\x01garbage\r\n"),
          saying("*-1\r\n"), saying("$-1\r\n"), saying("-ERR unknown command 'SENTINEL'\r\n"),
          saying("-IDONTKNOW\r\n"), saying("+OK\r\n"), saying("*1\r\n$9\r\n127.0.0.1\r\n"),
          saying("*2\r\n$9\r\n127.0.0.1\r\n$1\r\n0\r\n"), saying("*2\r\n$9\r\n127.0.0.1\r\n$6\r\n100000\r\n"),
          saying("*2\r\n$3\r\na b\r\n$1\r\n1\r\n"), saying("*2\r\n$0\r\n\r\n$1\r\n1\r\n"),
          saying("*2\r\n:1\r\n:2\r\n")}) {
        first_.set(answers);
        Session session(impatient, all());
        const int asked = second_.accepted();
        ASSERT_TRUE(session.comes_up()) << session.status().last_error;
        EXPECT_EQ(second_.accepted(), asked + 1) << "in the same attempt";
        EXPECT_EQ(session.status().last_error, "");
        EXPECT_TRUE(session.run({"SET", "k", "v"}).ok());
        // And is asked first, the next time.
        const int first = first_.accepted();
        one_.cut();
        ASSERT_TRUE(session.loop().until([&] { return session.status().connections == 2; }));
        EXPECT_EQ(first_.accepted(), first);
    }
}

TEST_F(RedisSentinel, none_of_them_knows) {
    first_.set(saying("*-1\r\n"));
    second_.stop();
    Session session(options(), all());
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kMisconfigured; }));
    EXPECT_EQ(session.status().last_error,
              "sentinel " + first_.address() + ": the sentinel knows no master of that name");
    first_.stop();
    EXPECT_TRUE(session.loop().until([&] {
        return session.status().state != State::kMisconfigured &&
               session.status().state != State::kConnecting;
    }));
    EXPECT_NE(session.status().last_error.find("Connection refused"), std::string::npos);
    // They are asked less and less often.
    const std::uint64_t turns = session.loop().turns();
    session.loop().for_time(milliseconds(500));
    EXPECT_LE(session.loop().turns() - turns, 200U);
    second_.listen_again();
    EXPECT_TRUE(session.comes_up());
}

TEST_F(RedisSentinel, a_password_is_in_no_message) {
    first_.stop();
    second_.set([](const Words& words) {
        return words[0] == "AUTH" ? "-WRONGPASS what is " + words.back() + "?\r\n"
                                  : FakeServer::pleasant(words);
    });
    Session session(options("&sentinel_password=Xyzzy"), all());
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kMisconfigured; }));
    EXPECT_EQ(session.status().last_error,
              "sentinel " + second_.address() + ": the server says: WRONGPASS what is ***?");
    second_.set(saying("-ERR Xyzzy?\r\n"));
    EXPECT_TRUE(
        session.loop().until([&] { return session.status().last_error.find("ERR") != std::string::npos; }));
    EXPECT_EQ(session.status().last_error, "sentinel " + second_.address() + ": the sentinel says: ERR ***?");
}

TEST_F(RedisSentinel, a_master_by_an_ipv6_address) {
    first_.set(saying("*2\r\n$3\r\n::1\r\n$1\r\n1\r\n"));
    Session session(options(), all());
    EXPECT_TRUE(session.loop().until([&] { return !session.status().last_error.empty(); }));
    EXPECT_TRUE(session.status().last_error.starts_with("master [::1]:1: ")) << session.status().last_error;
}

TEST_F(RedisSentinel, who_listens_listens_to_the_master) {
    Ear ear(options(), {"news"}, all());
    ASSERT_TRUE(ear.subscribes());
    EXPECT_EQ(one_.count("SUBSCRIBE"), 1U);
    first_.set(naming(other_));
    one_.cut();
    ASSERT_TRUE(ear.hears(3));
    EXPECT_EQ(ear.events(), (std::vector<std::string>{"subscribed", "lost", "subscribed"}));
    EXPECT_EQ(other_.count("SUBSCRIBE"), 1U);
    EXPECT_EQ(first_.count("SUBSCRIBE"), 0U);
    other_.say(FakeServer::message("news", "one"));
    ASSERT_TRUE(ear.hears(4));
}

}  // namespace
}  // namespace cache_ext::redis
