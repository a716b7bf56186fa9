#pragma once

// A server that says what a test wants it to, on a local port, driven by the same loop as the client under test: nothing of it happens meanwhile.

#include "redis_fixture.hpp"

#include "redis/connection.hpp"

namespace cache_ext::redis {

class FakeServer final : public Driven {
public:
    using Words = std::vector<std::string>;

    /// What goes back for a command, as bytes; nothing: silence.
    using Answers = std::function<std::string(const Words&)>;

    explicit FakeServer(Answers answers = pleasant) : answers_(std::move(answers)) {
        port_ = free_port();
        listen_again();
    }
    ~FakeServer() override { stop(); }

    int port() const { return port_; }
    std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    std::string url() const { return "redis://" + address(); }
    int accepted() const { return accepted_; }
    const std::vector<Words>& commands() const { return commands_; }
    std::size_t count(const std::string& command) const {
        return static_cast<std::size_t>(
            std::count_if(commands_.begin(), commands_.end(),
                          [&](const Words& words) { return words.front() == command; }));
    }
    void set(Answers answers) { answers_ = std::move(answers); }

    /// To everybody who is connected.
    void say(const std::string& bytes) {
        for (const Peer& peer : peers_)
            EXPECT_EQ(send(peer.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
                      static_cast<ssize_t>(bytes.size()));
    }

    /// Closes all connections; whoever comes is let in again.
    void cut() {
        for (Peer& peer : peers_)
            close(std::exchange(peer.fd, -1));
        changed();
    }

    /// And from now on nobody is let in: connections are refused.
    void stop() {
        if (listener_ >= 0) close(std::exchange(listener_, -1));
        cut();
    }
    void listen_again() {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        const int on = 1;
        setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(static_cast<std::uint16_t>(port_));
        if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
            listen(listener_, 64) != 0)
            std::abort();
        changed();
    }

    /// As a server without a password that takes subscriptions answers.
    static std::string pleasant(const Words& words) {
        if (words[0] == "PING") return "+PONG\r\n";
        if (words[0] == "ROLE") return "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
        if (words[0] == "SUBSCRIBE") {
            std::string answer;
            for (std::size_t i = 1; i < words.size(); ++i)
                answer += "*3\r\n" + bulk("subscribe") + bulk(words[i]) + ":" + std::to_string(i) + "\r\n";
            return answer;
        }
        return "+OK\r\n";
    }
    static std::string message(const std::string& channel, const std::string& payload) {
        return "*3\r\n" + bulk("message") + bulk(channel) + bulk(payload);
    }
    static std::string bulk(const std::string& text) {
        return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
    }

    // --- of Driven ---

    std::span<const Interest> interests() const noexcept override { return interests_; }
    std::uint64_t generation() const noexcept override { return generation_; }
    TimePoint next_deadline() const noexcept override { return kNever; }

    void service(std::span<const Ready> ready, TimePoint /*now*/) noexcept override {
        const auto is_ready = [&](int fd) {
            return std::any_of(ready.begin(), ready.end(),
                               [fd](const Ready& one) { return one.fd == fd && one.readable; });
        };
        bool is_other = false;
        for (Peer& peer : peers_)
            if (is_ready(peer.fd) && !listen_to(peer)) is_other = true;
        if (listener_ >= 0 && is_ready(listener_)) {
            const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (fd >= 0) {
                ++accepted_;
                peers_.push_back({fd, {}});
                is_other = true;
            }
        }
        if (is_other) changed();
    }

private:
    struct Peer {
        int fd;
        std::string heard;
    };

    void changed() {
        std::erase_if(peers_, [](const Peer& peer) { return peer.fd < 0; });
        interests_.clear();
        if (listener_ >= 0) interests_.push_back({listener_, true, false});
        for (const Peer& peer : peers_)
            interests_.push_back({peer.fd, true, false});
        ++generation_;
    }

    /// False: it has gone.
    bool listen_to(Peer& peer) {
        char buffer[65536];
        const ssize_t size = recv(peer.fd, buffer, sizeof buffer, 0);
        if (size <= 0) {
            close(std::exchange(peer.fd, -1));
            return false;
        }
        peer.heard.append(buffer, static_cast<std::size_t>(size));
        while (std::optional<Words> words = take_command(peer.heard)) {
            commands_.push_back(*words);
            const std::string answer = answers_(*words);
            (void)send(peer.fd, answer.data(), answer.size(), MSG_NOSIGNAL);
        }
        return true;
    }

    /// The first command, when all of it has arrived.
    static std::optional<Words> take_command(std::string& heard) {
        std::size_t at = 0;
        const auto number = [&](char mark) -> std::optional<std::size_t> {
            const std::size_t end = heard.find("\r\n", at);
            if (end == std::string::npos) return std::nullopt;
            EXPECT_EQ(heard[at], mark);
            const auto value = static_cast<std::size_t>(std::stoul(heard.substr(at + 1, end - at - 1)));
            at = end + 2;
            return value;
        };
        const auto count = number('*');
        if (!count) return std::nullopt;
        Words words;
        while (words.size() < *count) {
            const auto size = number('$');
            if (!size || heard.size() < at + *size + 2) return std::nullopt;
            words.push_back(heard.substr(at, *size));
            at += *size + 2;
        }
        heard.erase(0, at);
        return words;
    }

    Answers answers_;
    int port_ = 0;
    int listener_ = -1;
    std::vector<Peer> peers_;
    std::vector<Interest> interests_;
    std::uint64_t generation_ = 0;
    int accepted_ = 0;
    std::vector<Words> commands_;
};

}  // namespace cache_ext::redis
