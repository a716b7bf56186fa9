// The client of the REST interface, against a small HTTP server that passes commands on to a real Redis, or does worse.
#include <atomic>
#include <thread>

#include "redis_fixture.hpp"

#include "redis/json.hpp"

namespace cache_ext::redis {
namespace {

TEST(RedisRestWithoutServer, what_it_needs) {
    Options options = options_for("https://x.upstash.io");
    Session without_token(options);
    EXPECT_EQ(without_token.status().state, State::kMisconfigured);
    EXPECT_FALSE(without_token.client().can_take(now()));
    options.token = "a\r\nHost: elsewhere";
    Session bad_token(options);
    EXPECT_EQ(bad_token.status().state, State::kMisconfigured);
    EXPECT_EQ(bad_token.status().last_error.find("elsewhere"), std::string::npos);
    const char* lacks = has_rest() ? "token" : "libcurl";
    EXPECT_NE(without_token.status().last_error.find(lacks), std::string::npos);
}

class Server {
public:
    enum class Mood {
        kGood,
        kRefuses,
        kUnauthorized,
        kBusy,
        kBroken,
        kGarbage,
        kTooFew,
        kSilent,
        kCloses,
        kEndless
    };

    Server() : redis_(options_for(server_.url())) {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 16) != 0)
            std::abort();
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ntohs(address.sin_port);
        thread_ = std::thread([this] { run(); });
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        is_over_ = true;
        thread_.join();
        close(listener_);
    }

    std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
    void set(Mood mood) { mood_ = mood; }
    int requests() const { return requests_; }
    int connections() const { return connections_; }

private:
    static std::string json_of(const Reply& reply) {
        std::string text;
        switch (reply.kind) {
            case Reply::Kind::kNil:
                return "null";
            case Reply::Kind::kInteger:
                return std::to_string(reply.integer);
            case Reply::Kind::kArray:
                text = "[";
                for (const Reply& element : reply.elements)
                    text += (text.size() > 1 ? "," : "") + json_of(element);
                return text + "]";
            default:
                EXPECT_TRUE(append_json(text, reply.text));
                return text;
        }
    }

    std::string answer_to(const std::string& head, const std::string& body) {
        ++requests_;
        const auto response = [](int code, const std::string& text) {
            return "HTTP/1.1 " + std::to_string(code) +
                   " Status\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text;
        };
        switch (mood_.load()) {
            case Mood::kRefuses:
                return response(400, R"({"error":"ERR failed to parse pipeline request"})");
            case Mood::kUnauthorized:
                return response(401, R"({"error":"WRONGPASS invalid or missing auth token Xyzzy"})");
            case Mood::kBusy:
                return response(429, "{}");
            case Mood::kBroken:
                return response(503, "<html>no</html>");
            case Mood::kGarbage:
                return response(200, "[{\"result\":");
            case Mood::kTooFew:
                return response(200, "[]");
            case Mood::kEndless:
                return "HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n" + std::string(1 << 20, 'x');
            default:
                break;
        }
        if (head.find("Authorization: Bearer Xyzzy\r\n") == std::string::npos ||
            !head.starts_with("POST /pipeline "))
            return response(401, R"({"error":"Unauthorized"})");
        const std::optional<Reply> commands = parse_json(body);
        if (!commands) return response(400, R"({"error":"ERR failed to parse pipeline request"})");
        std::string text = "[";
        for (const Reply& command : commands->elements) {
            std::vector<std::string> arguments;
            for (const Reply& argument : command.elements)
                arguments.push_back(argument.text);
            const Reply reply = redis_.run(arguments, "any");
            std::string value;
            if (reply.ok()) {
                value = "{\"result\":" + json_of(reply) + "}";
            } else {
                value = "{\"error\":" + json_of(reply) + "}";
            }
            text += (text.size() > 1 ? "," : "") + value;
        }
        return response(200, text + "]");
    }

    void serve(int client) {
        std::string input;
        std::vector<char> buffer(65536);
        while (!is_over_) {
            const std::size_t end = input.find("\r\n\r\n");
            const std::size_t length_at = input.find("Content-Length: ");
            if (end != std::string::npos && length_at < end) {
                const std::size_t length = std::stoul(input.substr(length_at + 16));
                if (input.size() >= end + 4 + length) {
                    if (mood_ == Mood::kCloses) return;
                    if (mood_ != Mood::kSilent) {
                        const std::string out =
                            answer_to(input.substr(0, end + 4), input.substr(end + 4, length));
                        if (send(client, out.data(), out.size(), MSG_NOSIGNAL) < 0) return;
                    }
                    input.erase(0, end + 4 + length);
                    continue;
                }
            }
            pollfd socket = {client, POLLIN, 0};
            if (poll(&socket, 1, 5) <= 0) continue;
            const ssize_t size = recv(client, buffer.data(), buffer.size(), 0);
            if (size <= 0) return;
            input.append(buffer.data(), static_cast<std::size_t>(size));
        }
    }

    void run() {
        while (!is_over_) {
            pollfd socket = {listener_, POLLIN, 0};
            if (poll(&socket, 1, 5) <= 0) continue;
            const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            ++connections_;
            serve(client);
            close(client);
        }
    }

    RedisServer server_;
    Session redis_;
    int listener_ = -1;
    int port_ = 0;
    std::atomic<Mood> mood_ = Mood::kGood;
    std::atomic<bool> is_over_ = false;
    std::atomic<int> requests_ = 0;
    std::atomic<int> connections_ = 0;
    std::thread thread_;
};

class RedisRest : public RedisTest {
protected:
    void SetUp() override {
        RedisTest::SetUp();
        if (!has_rest()) GTEST_SKIP() << "built without libcurl (Debian: libcurl4-openssl-dev)";
    }
    static Options options(const Server& server) {
        Options options = options_for(server.url());
        options.token = "Xyzzy";
        return options;
    }
};

TEST_F(RedisRest, commands) {
    Server server;
    Session session(options(server));
    EXPECT_FALSE(session.client().can_take(now()));
    EXPECT_EQ(session.run({"SET", "key", "a \"value\" \u20ac\n"}).text, "OK");
    EXPECT_EQ(session.run({"GET", "key"}).text, "a \"value\" \u20ac\n");
    EXPECT_EQ(session.run({"GET", "nothing"}).kind, Reply::Kind::kNil);
    EXPECT_EQ(session.run({"INCR", "n"}).integer, 1);
    EXPECT_EQ(session.run({"INCR", "key"}).verdict, Verdict::kPermanent);
    EXPECT_EQ(session.run({"MGET", "key", "nothing", "n"}).elements.size(), 3U);
    EXPECT_EQ(session.status().state, State::kUp);
    EXPECT_EQ(session.status().errors, 1U);
    EXPECT_EQ(server.connections(), 1) << "it is used again";
}

TEST_F(RedisRest, many_in_one_request_and_in_order) {
    Server server;
    Session session(options(server));
    ASSERT_TRUE(session.comes_up());
    std::vector<long long> replies;
    for (int i = 0; i < 2500; ++i)
        ASSERT_TRUE(
            session.submit({"INCR", "n"}, [&](const Reply& reply) { replies.push_back(reply.integer); }));
    ASSERT_TRUE(session.loop().until([&] { return replies.size() == 2500; }));
    for (std::size_t i = 0; i < replies.size(); ++i)
        ASSERT_EQ(replies[i], static_cast<long long>(i) + 1);
    EXPECT_LE(server.requests(), 6);
    EXPECT_EQ(session.status().buffered_bytes, 0U);
    const std::uint64_t turns = session.loop().turns();
    session.loop().for_time(milliseconds(100));
    EXPECT_LT(session.loop().turns() - turns, 50U) << "it waits, and does not spin";
}

TEST_F(RedisRest, what_is_not_utf8_is_refused_in_its_turn) {
    Server server;
    Session session(options(server));
    ASSERT_TRUE(session.comes_up());
    std::vector<Verdict> verdicts;
    const auto note = [&](const Reply& reply) { verdicts.push_back(reply.verdict); };
    ASSERT_TRUE(session.submit({"SET", "a", "1"}, note));
    ASSERT_TRUE(session.submit({"SET", "b", "\xff"}, note));
    ASSERT_TRUE(session.submit({"SET", "c", "1"}, note));
    EXPECT_TRUE(verdicts.empty());
    ASSERT_TRUE(session.loop().until([&] { return verdicts.size() == 3; }));
    EXPECT_EQ(verdicts, (std::vector{Verdict::kOk, Verdict::kPermanent, Verdict::kOk}));
}

TEST_F(RedisRest, a_wrong_token_is_in_no_message) {
    Server server;
    server.set(Server::Mood::kUnauthorized);
    Session session(options(server));
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kMisconfigured; }));
    EXPECT_NE(session.status().last_error.find("401"), std::string::npos) << session.status().last_error;
    EXPECT_NE(session.status().last_error.find("WRONGPASS"), std::string::npos);
    EXPECT_EQ(session.status().last_error.find("Xyzzy"), std::string::npos);
    server.set(Server::Mood::kGood);
    EXPECT_TRUE(session.comes_up());
}

TEST_F(RedisRest, faults) {
    Server server;
    Options quick = options(server);
    quick.connect_timeout = quick.command_timeout = milliseconds(150);
    quick.breaker.failures = 1000;
    Session session(quick);
    for (const Server::Mood mood :
         {Server::Mood::kBusy, Server::Mood::kBroken, Server::Mood::kGarbage, Server::Mood::kTooFew,
          Server::Mood::kSilent, Server::Mood::kCloses, Server::Mood::kEndless}) {
        ASSERT_TRUE(session.comes_up());
        server.set(mood);
        std::vector<Verdict> verdicts;
        for (int i = 0; i < 3; ++i)
            ASSERT_TRUE(
                session.submit({"PING"}, [&](const Reply& reply) { verdicts.push_back(reply.verdict); }));
        ASSERT_TRUE(session.loop().until([&] { return verdicts.size() == 3; })) << static_cast<int>(mood);
        EXPECT_EQ(verdicts, std::vector(3, Verdict::kLost)) << static_cast<int>(mood);
        EXPECT_FALSE(session.client().can_take(now()));
        EXPECT_FALSE(session.status().last_error.empty());
        server.set(Server::Mood::kGood);
    }
    ASSERT_TRUE(session.comes_up());
    EXPECT_TRUE(session.run_until_answered({"PING"}).ok());
}

TEST_F(RedisRest, a_refused_request_is_not_sent_again) {
    Server server;
    Session session(options(server));
    ASSERT_TRUE(session.comes_up());
    server.set(Server::Mood::kRefuses);
    EXPECT_EQ(session.run({"PING"}).verdict, Verdict::kPermanent);
    server.set(Server::Mood::kGood);
    EXPECT_TRUE(session.run({"PING"}).ok());
    EXPECT_EQ(session.status().connections, 1U);
}

TEST_F(RedisRest, nobody_listens) {
    Options options = options_for("http://127.0.0.1:" + std::to_string(free_port()));
    options.token = "Xyzzy";
    Session session(options);
    EXPECT_TRUE(session.loop().until([&] { return session.status().state == State::kOpen; }));
    EXPECT_EQ(session.status().breaker, Breaker::State::kOpen);
}

TEST_F(RedisRest, closed) {
    Server server;
    Session session(options(server));
    ASSERT_TRUE(session.comes_up());
    int lost = 0;
    const auto note = [&](const Reply& reply) { lost += reply.verdict == Verdict::kLost ? 1 : 0; };
    ASSERT_TRUE(session.submit({"PING"}, note));
    session.client().service({}, now());
    ASSERT_TRUE(session.submit({"PING"}, note));
    session.client().close(now());
    EXPECT_EQ(lost, 2);
    EXPECT_EQ(session.status().state, State::kClosed);
    session.loop().for_time(milliseconds(20));
    EXPECT_EQ(session.client().next_deadline(), kNever);
}

}  // namespace
}  // namespace cache_ext::redis
