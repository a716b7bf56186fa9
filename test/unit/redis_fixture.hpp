#pragma once

// A real Redis server of a test's own, and an event loop, for the tests of src/redis.

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "redis/client.hpp"

namespace cache_ext::redis {

/// Longer than anything takes on a machine that is busy, or that stands still for a while: what is waited for so long does not come.
constexpr milliseconds kLong{60'000};

inline TimePoint now() { return std::chrono::steady_clock::now(); }

/// A folder that goes with the test.
class Folder {
public:
    Folder() {
        // The path of a socket may have 107 bytes.
        const std::filesystem::path base = std::filesystem::temp_directory_path();
        std::string name = (base.native().size() <= 50 ? base : "/tmp") / "cache_ext_redis_XXXXXX";
        if (mkdtemp(name.data()) == nullptr) std::abort();
        path_ = name;
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

/// A program that ends with the test, or with the process that runs it.
class Process {
public:
    Process(const std::string& program, const std::vector<std::string>& arguments, const std::string& log) {
        std::vector<char*> argv;
        for (const std::string& argument : arguments)
            argv.push_back(const_cast<char*>(argument.c_str()));
        argv.push_back(nullptr);
        pid_ = fork();
        if (pid_ != 0) return;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const int out = open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
        dup2(out, 1);
        dup2(out, 2);
        execv(program.c_str(), argv.data());
        _exit(127);
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process() { stop(SIGKILL); }

    pid_t pid() const { return pid_; }
    void signal(int number) const { kill(pid_, number); }

    /// The exit status; waits for it.
    int stop(int number) {
        if (pid_ <= 0) return 0;
        kill(pid_, number);
        kill(pid_, SIGCONT);
        return wait();
    }
    int wait() {
        int status = 0;
        while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = -1;
        return status;
    }

private:
    pid_t pid_ = -1;
};

inline std::optional<std::string> find_program(std::initializer_list<const char*> names) {
    for (const char* name : names)
        for (const char* folder : {"/usr/bin/", "/usr/local/bin/", "/usr/sbin/"})
            if (access((folder + std::string(name)).c_str(), X_OK) == 0) return folder + std::string(name);
    return std::nullopt;
}

/// Debian's redis-tools has the server's program too, under the name of one of its other uses. CACHE_EXT_REDIS=valkey: that is tried first.
inline std::optional<std::string> redis_program() {
    const char* wanted = std::getenv("CACHE_EXT_REDIS");
    if (wanted != nullptr && std::string(wanted) == "valkey")
        if (auto found = find_program({"valkey-server", "valkey-check-rdb"})) return found;
    return find_program({"redis-server", "redis-check-rdb", "valkey-server", "valkey-check-rdb"});
}

inline bool can_listen_at(int port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    const bool can = bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
    close(fd);
    return can;
}

/// One at which nobody listens, nor at the one ten thousand above, which is that of the bus in a cluster. Both are below those that the system gives to
/// connections, of which one could take it before somebody listens there.
inline int free_port() {
    static std::mt19937 random(std::random_device{}());
    for (;;) {
        const int port = 10'000 + static_cast<int>(random() % 12'000);
        if (can_listen_at(port) && can_listen_at(port + 10'000)) return port;
    }
}

/// A blocking connection to a socket in the file system or, where the text is a number, to a local port; -1 where nobody listens.
inline int connect_to(const std::string& where) {
    int fd = -1;
    int result = -1;
    if (where.front() == '/') {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        where.copy(address.sun_path, sizeof address.sun_path - 1);
        result = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    } else {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(where)));
        result = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    }
    if (result == 0) return fd;
    close(fd);
    return -1;
}

/// A server on a socket in its folder, or on a free port as well.
class RedisServer {
public:
    explicit RedisServer(std::vector<std::string> settings = {}, int port = 0)
        : settings_(std::move(settings)), port_(port) {
        start();
    }

    std::string socket_path() const { return folder_.path() + "/redis.sock"; }
    std::string url() const { return "unix:" + socket_path(); }
    int port() const { return port_; }
    const std::string& folder() const { return folder_.path(); }
    Process& process() { return *process_; }

    void start() { start_with({}); }
    void start_with(const std::vector<std::string>& more) {
        std::vector<std::string> arguments = {"redis-server",
                                              "--port",
                                              std::to_string(port_),
                                              "--bind",
                                              "127.0.0.1",
                                              "--unixsocket",
                                              socket_path(),
                                              "--dir",
                                              folder_.path(),
                                              "--save",
                                              "",
                                              "--appendonly",
                                              "no",
                                              "--daemonize",
                                              "no"};
        arguments.insert(arguments.end(), settings_.begin(), settings_.end());
        arguments.insert(arguments.end(), more.begin(), more.end());
        std::filesystem::remove(socket_path());
        process_.emplace(redis_program().value(), arguments, folder_.path() + "/log");
        // It listens before it says anything.
        for (const TimePoint end = now() + kLong; now() < end;) {
            const int fd = connect_to(socket_path());
            if (fd >= 0) {
                close(fd);
                return;
            }
            usleep(2000);
        }
        ADD_FAILURE() << "redis-server does not start";
    }

private:
    std::vector<std::string> settings_;
    int port_;
    Folder folder_;
    std::optional<Process> process_;
};

/// An event loop that does what Driven asks for and no more: sockets are registered when the generation changes, and only then; `service` is called where one
/// of its sockets is ready or its deadline has come, and only then. So a client that forgets to say something hangs.
class Loop {
public:
    explicit Loop(std::vector<Driven*> driven)
        : driven_(std::move(driven)), seen_(driven_.size(), ~std::uint64_t{0}) {}
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() {
        if (epoll_ >= 0) close(epoll_);
    }

    /// Runs until the condition holds. False: it did not within that time.
    bool until(const std::function<bool()>& holds, milliseconds within = kLong) {
        const TimePoint end = now() + within;
        while (!holds()) {
            // What has come meanwhile is looked at once more.
            const bool is_over = now() >= end;
            once(std::min(end, now() + milliseconds(20)));
            if (is_over) return holds();
        }
        return true;
    }

    void for_time(milliseconds time) {
        (void)until([] { return false; }, time);
    }

    std::uint64_t turns() const { return turns_; }

private:
    void once(TimePoint latest) {
        bool has_changed = false;
        for (std::size_t i = 0; i < driven_.size(); ++i) {
            latest = std::min(latest, driven_[i]->next_deadline());
            has_changed = has_changed || std::exchange(seen_[i], driven_[i]->generation()) != seen_[i];
        }
        if (has_changed || epoll_ < 0) {
            if (epoll_ >= 0) close(epoll_);
            epoll_ = epoll_create1(EPOLL_CLOEXEC);
            for (Driven* one : driven_) {
                for (const Interest& interest : one->interests()) {
                    epoll_event event{};
                    event.data.fd = interest.fd;
                    event.events = (interest.read ? std::uint32_t{EPOLLIN} : 0) |
                                   (interest.write ? std::uint32_t{EPOLLOUT} : 0);
                    epoll_ctl(epoll_, EPOLL_CTL_ADD, interest.fd, &event);
                }
            }
        }
        epoll_event events[64];
        const int count = epoll_wait(epoll_, events, 64, static_cast<int>(time_left(latest, now()).count()));
        std::vector<Ready> ready;
        for (int i = 0; i < count; ++i) {
            const bool is_over = (events[i].events & (EPOLLERR | EPOLLHUP)) != 0;
            ready.push_back({events[i].data.fd, is_over || (events[i].events & EPOLLIN) != 0,
                             is_over || (events[i].events & EPOLLOUT) != 0});
        }
        ++turns_;
        for (Driven* one : driven_) {
            const auto is_own = [one](const Ready& event) {
                const auto interests = one->interests();
                return std::any_of(interests.begin(), interests.end(),
                                   [&](const Interest& interest) { return interest.fd == event.fd; });
            };
            if (one->next_deadline() <= now() || std::any_of(ready.begin(), ready.end(), is_own))
                one->service(ready, now());
        }
    }

    std::vector<Driven*> driven_;
    std::vector<std::uint64_t> seen_;
    int epoll_ = -1;
    std::uint64_t turns_ = 0;
};

/// Short pauses, so that tests are quick. No time-out strikes that a test has not asked for: who is slow may be so because of what else the machine does.
inline Options options_for(const std::string& url) {
    Options options;
    const ParsedUrl parsed = parse_url(url);
    EXPECT_TRUE(parsed.url) << url << ": " << parsed.error;
    options.url = parsed.url.value_or(Url{});
    options.connect_timeout = options.command_timeout = options.total_timeout = kLong / 2;
    options.backoff = {milliseconds(10), milliseconds(100)};
    options.breaker = {5, milliseconds(200)};
    options.seed = 1;
    return options;
}

/// A client and the loop that drives it.
class Session {
public:
    explicit Session(Options options, const std::vector<Driven*>& beside = {})
        : client_(Client::make(std::move(options))), loop_(with(beside)) {}

    Client& client() { return *client_; }
    Loop& loop() { return loop_; }
    Status status() const { return client_->status(now()); }

    bool comes_up(milliseconds within = kLong) {
        return loop_.until([&] { return client_->can_take(now()); }, within);
    }

    bool submit(const std::vector<std::string>& command, Handler handler, const std::string& key = {}) {
        const std::vector<std::string_view> views(command.begin(), command.end());
        return client_->submit(views, key.empty() && command.size() > 1 ? command[1] : key,
                               std::move(handler), now());
    }

    /// Sends a command as soon as it is taken, and waits for its answer.
    Reply run(const std::vector<std::string>& command, const std::string& key = {}) {
        std::optional<Reply> answer;
        const auto take = [&](const Reply& reply) { answer = reply; };
        if (!loop_.until([&] { return submit(command, take, key); })) {
            ADD_FAILURE() << command[0] << " is not taken: " << status().last_error;
            return {};
        }
        EXPECT_TRUE(loop_.until([&] { return answer.has_value(); })) << command[0] << " is not answered";
        return answer.value_or(Reply{});
    }

    /// The same, again while no answer comes in time, for a client that does not wait for long.
    Reply run_until_answered(const std::vector<std::string>& command, const std::string& key = {}) {
        const TimePoint end = now() + kLong;
        for (;;) {
            const Reply reply = run(command, key);
            if (reply.verdict != Verdict::kLost || now() > end) return reply;
        }
    }

private:
    std::vector<Driven*> with(std::vector<Driven*> all) const {
        all.push_back(client_.get());
        return all;
    }

    std::unique_ptr<Client> client_;
    Loop loop_;
};

/// A client and what works with it (a Deletion, a ListFeeder), serviced together as the worker does it.
template <class Part>
class Together final : public Driven {
public:
    Together(Client& client, Part& part) : client_(client), part_(part) {}

    std::span<const Interest> interests() const noexcept override { return client_.interests(); }
    std::uint64_t generation() const noexcept override { return client_.generation(); }
    TimePoint next_deadline() const noexcept override {
        return std::min(client_.next_deadline(), part_.next_deadline());
    }
    void service(std::span<const Ready> ready, TimePoint time) noexcept override {
        client_.service(ready, time);
        part_.step(time);
        client_.service({}, time);
    }

private:
    Client& client_;
    Part& part_;
};

class RedisTest : public ::testing::Test {
protected:
    void SetUp() override {
        if (!redis_program()) GTEST_SKIP() << "there is no redis-server (Debian: redis-tools)";
    }
};

}  // namespace cache_ext::redis
