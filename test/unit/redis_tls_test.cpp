// TLS, where the library has it: trusted, not trusted, made out to somebody else.
#include "redis/subscriber.hpp"

#include <algorithm>
#include <fstream>

#include "redis_fixture.hpp"

namespace cache_ext::redis {
namespace {

TEST(RedisTlsWithoutServer, says_where_there_is_none) {
    if (has_tls()) GTEST_SKIP() << "this hiredis has TLS";
    Session session(options_for("rediss://127.0.0.1"));
    EXPECT_EQ(session.status().state, State::kMisconfigured);
    EXPECT_NE(session.status().last_error.find("needs TLS"), std::string::npos);
    EXPECT_FALSE(session.client().can_take(now()));
    EXPECT_TRUE(session.client().interests().empty());
    const auto subscriber = Subscriber::make(options_for("rediss://127.0.0.1"), {"news"}, {});
    EXPECT_NE(subscriber->status(now()).last_error.find("needs TLS"), std::string::npos);
}

class RedisTls : public RedisTest {
protected:
    void SetUp() override {
        RedisTest::SetUp();
        if (IsSkipped()) return;
        if (!has_tls()) GTEST_SKIP() << "built without hiredis_ssl, which comes with hiredis 1.0";
        if (!find_program({"openssl"})) GTEST_SKIP() << "there is no openssl to make certificates with";
    }

    /// A certificate that signs itself, made out to a name and an address, with its key.
    std::string certificate(const std::string& file, const std::string& names) const {
        const std::string path = folder_.path() + "/" + file;
        Process openssl(
            find_program({"openssl"}).value(),
            {"openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
             "-addext", "subjectAltName=" + names, "-keyout", path + ".key", "-out", path + ".crt"},
            path + ".log");
        EXPECT_EQ(openssl.wait(), 0);
        return path;
    }

    static std::vector<std::string> settings(int port, const std::string& certificate) {
        return {"--tls-port",         std::to_string(port),
                "--tls-cert-file",    certificate + ".crt",
                "--tls-key-file",     certificate + ".key",
                "--tls-ca-cert-file", certificate + ".crt",
                "--tls-auth-clients", "no"};
    }

    Folder folder_;
};

TEST_F(RedisTls, trusted) {
    const std::string own = certificate("own", "DNS:localhost,IP:127.0.0.1");
    const int port = free_port();
    RedisServer server(settings(port, own));
    for (const char* host : {"127.0.0.1", "localhost"}) {
        Session session(options_for("rediss://" + std::string(host) + ":" + std::to_string(port) +
                                    "?cacert=" + own + ".crt"));
        EXPECT_EQ(session.run({"SET", "key", "value"}).text, "OK");
        const std::string large(3'000'000, 'x');
        EXPECT_EQ(session.run({"SET", "large", large}).text, "OK");
        EXPECT_EQ(session.run({"GET", "large"}).text.size(), large.size());
        int answers = 0;
        for (int i = 0; i < 5000; ++i)
            ASSERT_TRUE(session.submit({"GET", "key"}, [&](const Reply&) { ++answers; }));
        EXPECT_TRUE(session.loop().until([&] { return answers == 5000; }));
        const std::uint64_t turns = session.loop().turns();
        session.loop().for_time(milliseconds(100));
        EXPECT_LT(session.loop().turns() - turns, 50U) << "it waits, and does not spin";
        server.process().signal(SIGSTOP);
        ASSERT_TRUE(session.submit({"GET", "key"}, nullptr));
        session.loop().for_time(milliseconds(20));
        server.process().signal(SIGCONT);
        EXPECT_EQ(session.run({"GET", "key"}).text, "value");
        EXPECT_EQ(session.status().connections, 1U);
    }
}

TEST_F(RedisTls, listens) {
    const std::string own = certificate("own", "IP:127.0.0.1");
    const int port = free_port();
    RedisServer server(settings(port, own));
    std::string heard;
    const auto subscriber = Subscriber::make(
        options_for("rediss://127.0.0.1:" + std::to_string(port) + "?cacert=" + own + ".crt"), {"news"},
        {nullptr, nullptr, [&](std::string_view, std::string_view payload) { heard = payload; }});
    Loop loop({subscriber.get()});
    ASSERT_TRUE(loop.until([&] { return subscriber->is_subscribed(); }))
        << subscriber->status(now()).last_error;
    Session session(options_for(server.url()));
    session.run({"PUBLISH", "news", "one"});
    EXPECT_TRUE(loop.until([&] { return heard == "one"; }));
}

TEST_F(RedisTls, sentinels) {
    const std::string own = certificate("own", "IP:127.0.0.1");
    const int port = free_port();
    const int sentinel_port = free_port();
    RedisServer server(settings(port, own));
    const std::string conf = folder_.path() + "/sentinel.conf";
    std::ofstream(conf) << "port 0\ndir " << folder_.path() << "\ntls-port " << sentinel_port
                        << "\ntls-cert-file " << own << ".crt\ntls-key-file " << own
                        << ".key\ntls-ca-cert-file " << own
                        << ".crt\ntls-auth-clients no\ntls-replication yes\n"
                        << "sentinel monitor shop 127.0.0.1 " << port << " 1\n";
    const Process sentinel(redis_program().value(), {"redis-server", conf, "--sentinel"}, conf + ".log");
    const std::string url =
        "rediss-sentinel://127.0.0.1:" + std::to_string(sentinel_port) + "?master=shop&cacert=";
    Session session(options_for(url + own + ".crt"));
    EXPECT_EQ(session.run({"SET", "key", "value"}).text, "OK");
    EXPECT_EQ(session.status().connections, 1U);
    // The certificate is looked at there, too.
    const std::string other = certificate("other", "IP:127.0.0.1");
    Session distrusting(options_for(url + other + ".crt"));
    EXPECT_TRUE(distrusting.loop().until([&] { return !distrusting.status().last_error.empty(); }));
    EXPECT_TRUE(distrusting.status().last_error.starts_with("sentinel 127.0.0.1:"))
        << distrusting.status().last_error;
    EXPECT_NE(distrusting.status().last_error.find("not trusted"), std::string::npos);
}

TEST_F(RedisTls, not_trusted) {
    const std::string own = certificate("own", "IP:127.0.0.1");
    const std::string other = certificate("other", "IP:127.0.0.1");
    const int port = free_port();
    RedisServer server(settings(port, own));
    for (const std::string& trust : {std::string(), "?cacert=" + other + ".crt"}) {
        Session session(options_for("rediss://:Xyzzy@127.0.0.1:" + std::to_string(port) + trust));
        EXPECT_TRUE(session.loop().until([&] { return !session.status().last_error.empty(); }));
        EXPECT_NE(session.status().last_error.find("not trusted"), std::string::npos)
            << session.status().last_error;
        EXPECT_EQ(session.status().connections, 0U);
    }
}

TEST_F(RedisTls, made_out_to_somebody_else) {
    const std::string own = certificate("own", "DNS:elsewhere.example,IP:127.0.0.2");
    const int port = free_port();
    RedisServer server(settings(port, own));
    for (const char* host : {"127.0.0.1", "localhost"}) {
        Session session(options_for("rediss://" + std::string(host) + ":" + std::to_string(port) +
                                    "?cacert=" + own + ".crt"));
        EXPECT_TRUE(session.loop().until([&] { return !session.status().last_error.empty(); }));
        EXPECT_NE(session.status().last_error.find("mismatch"), std::string::npos)
            << session.status().last_error;
        EXPECT_EQ(session.status().connections, 0U);
    }
}

TEST_F(RedisTls, a_silent_server) {
    const std::string own = certificate("own", "IP:127.0.0.1");
    const int port = free_port();
    RedisServer server(settings(port, own));
    server.process().signal(SIGSTOP);
    Options options = options_for("rediss://127.0.0.1:" + std::to_string(port) + "?cacert=" + own + ".crt");
    options.connect_timeout = milliseconds(300);
    // One that waited would do so each time; the machine only now and then.
    Duration longest{};
    for (int i = 0; i < 5 && (i == 0 || longest >= milliseconds(200)); ++i) {
        Session session(options);
        longest = {};
        ASSERT_TRUE(session.loop().until([&] {
            const TimePoint before = now();
            session.client().service({}, before);
            longest = std::max(longest, now() - before);
            return !session.status().last_error.empty();
        }));
        EXPECT_EQ(session.status().last_error, "the TLS handshake was not done in time");
    }
    EXPECT_LT(longest, milliseconds(200)) << "it does not wait";
    Session session(options);
    ASSERT_TRUE(session.loop().until([&] { return !session.status().last_error.empty(); }));
    server.process().signal(SIGCONT);
    EXPECT_TRUE(session.comes_up());
}

TEST_F(RedisTls, certificates_that_cannot_be_read) {
    const int port = free_port();
    RedisServer server({}, port);
    for (const std::string path : {"/nonexistent", "/dev/zero", "/proc/self/status"}) {
        Session session(options_for("rediss://127.0.0.1:" + std::to_string(port) + "?cacert=" + path));
        EXPECT_TRUE(session.loop().until([&] { return !session.status().last_error.empty(); }));
        EXPECT_NE(session.status().last_error.find("cannot be read"), std::string::npos)
            << session.status().last_error;
    }
}

TEST_F(RedisTls, a_server_without_it) {
    const int port = free_port();
    RedisServer server({}, port);
    Options options = options_for("rediss://127.0.0.1:" + std::to_string(port));
    options.connect_timeout = milliseconds(300);
    Session session(options);
    EXPECT_TRUE(session.loop().until([&] { return !session.status().last_error.empty(); }));
    EXPECT_EQ(session.status().connections, 0U);
    const std::uint64_t turns = session.loop().turns();
    session.loop().for_time(milliseconds(100));
    EXPECT_LT(session.loop().turns() - turns, 100U) << "it waits, and does not spin";
}

}  // namespace
}  // namespace cache_ext::redis
