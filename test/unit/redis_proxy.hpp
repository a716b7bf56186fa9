#pragma once

// A proxy before a real server that is no honest one.

#include "redis_fixture.hpp"

#include <atomic>
#include <mutex>
#include <thread>

namespace cache_ext::redis {

/// Sits between a client and a server, both on sockets in the file system, and does to what the server says as it is told.
class Proxy {
public:
    struct Behaviour {
        bool is_black_hole = false;  ///< takes connections, passes nothing on
        bool cuts = false;           ///< closes after cut_after bytes of replies
        std::size_t cut_after = 0;
        std::size_t garble_every = 0;  ///< changes each so manieth byte of replies
        bool dribbles = false;         ///< a byte at a time
        int delay_ms = 0;              ///< before each piece of a reply
        std::string says_instead;      ///< this, whatever the client says
    };

    explicit Proxy(std::string server) : server_(std::move(server)), path_(folder_.path() + "/proxy.sock") {
        listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path_.copy(address.sun_path, sizeof address.sun_path - 1);
        if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
            listen(listener_, 64) != 0)
            std::abort();
        thread_ = std::thread([this] { run(); });
    }
    Proxy(const Proxy&) = delete;
    Proxy& operator=(const Proxy&) = delete;
    ~Proxy() {
        is_over_ = true;
        thread_.join();
        for (auto& pair : pairs_)
            close_pair(pair);
        close(listener_);
    }

    std::string url() const { return "unix:" + path_; }
    int accepted() const { return accepted_; }

    void set(const Behaviour& behaviour) {
        const std::lock_guard lock(mutex_);
        behaviour_ = behaviour;
    }
    /// Closes all connections.
    void cut() { cuts_now_ = true; }

private:
    struct Pair {
        int client;
        int server;
        std::size_t replied;
    };

    static void close_pair(Pair& pair) {
        if (pair.client >= 0) close(pair.client);
        if (pair.server >= 0) close(pair.server);
        pair.client = pair.server = -1;
    }

    static bool send_all(int fd, const char* bytes, std::size_t size) {
        while (size > 0) {
            const ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
            if (sent <= 0) return false;
            bytes += sent;
            size -= static_cast<std::size_t>(sent);
        }
        return true;
    }

    bool reply(Pair& pair, std::string bytes, const Behaviour& behaviour) {
        if (behaviour.delay_ms > 0) usleep(static_cast<unsigned>(behaviour.delay_ms) * 1000);
        if (behaviour.garble_every > 0)
            for (std::size_t i = 0; i < bytes.size(); ++i)
                if ((pair.replied + i + 1) % behaviour.garble_every == 0)
                    bytes[i] = static_cast<char>(bytes[i] ^ 0x15);
        bool goes_on = true;
        if (behaviour.cuts && pair.replied + bytes.size() > behaviour.cut_after) {
            bytes.resize(behaviour.cut_after - std::min(behaviour.cut_after, pair.replied));
            goes_on = false;
        }
        pair.replied += bytes.size();
        if (behaviour.dribbles) {
            for (const char byte : bytes) {
                if (!send_all(pair.client, &byte, 1)) return false;
                usleep(50);
            }
            return goes_on;
        }
        return send_all(pair.client, bytes.data(), bytes.size()) && goes_on;
    }

    void run() {
        std::vector<char> buffer(65536);
        while (!is_over_) {
            if (cuts_now_.exchange(false))
                for (auto& pair : pairs_)
                    close_pair(pair);
            std::erase_if(pairs_, [](const Pair& pair) { return pair.client < 0; });
            std::vector<pollfd> sockets = {{listener_, POLLIN, 0}};
            for (const Pair& pair : pairs_) {
                sockets.push_back({pair.client, POLLIN, 0});
                sockets.push_back({pair.server, POLLIN, 0});
            }
            if (poll(sockets.data(), sockets.size(), 2) <= 0) continue;
            // As it is told by now, not as it was before it waited.
            Behaviour behaviour;
            {
                const std::lock_guard lock(mutex_);
                behaviour = behaviour_;
            }
            for (std::size_t i = 0; i < pairs_.size(); ++i) {
                Pair& pair = pairs_[i];
                bool is_good = true;
                if (sockets[1 + 2 * i].revents != 0) {
                    const ssize_t size = recv(pair.client, buffer.data(), buffer.size(), 0);
                    is_good = size > 0;
                    if (is_good && !behaviour.says_instead.empty()) {
                        is_good = send_all(pair.client, behaviour.says_instead.data(),
                                           behaviour.says_instead.size());
                    } else if (is_good && !behaviour.is_black_hole) {
                        is_good = send_all(pair.server, buffer.data(), static_cast<std::size_t>(size));
                    }
                }
                if (is_good && sockets[2 + 2 * i].revents != 0) {
                    const ssize_t size = recv(pair.server, buffer.data(), buffer.size(), 0);
                    is_good = size > 0;
                    if (is_good && !behaviour.is_black_hole)
                        is_good = reply(pair, {buffer.data(), static_cast<std::size_t>(size)}, behaviour);
                }
                if (!is_good) close_pair(pair);
            }
            if (sockets[0].revents != 0) {
                const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
                const int server = connect_to(server_);
                if (client >= 0 && server >= 0) {
                    pairs_.push_back({client, server, 0});
                    ++accepted_;
                } else {
                    if (client >= 0) close(client);
                    if (server >= 0) close(server);
                }
            }
        }
    }

    Folder folder_;
    std::string server_;
    std::string path_;
    int listener_ = -1;
    std::vector<Pair> pairs_;
    std::mutex mutex_;
    Behaviour behaviour_;
    std::atomic<bool> is_over_ = false;
    std::atomic<bool> cuts_now_ = false;
    std::atomic<int> accepted_ = 0;
    std::thread thread_;
};

}  // namespace cache_ext::redis
