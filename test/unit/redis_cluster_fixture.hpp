#pragma once

// A real cluster of a test's own.

#include "redis_fixture.hpp"

namespace cache_ext::redis {

class Cluster {
public:
    /// Three primaries, and as many servers more that have nothing yet. With the node time-out that is usual nobody is thought to have failed who
    /// has only been kept waiting.
    explicit Cluster(int more = 0, const std::vector<std::string>& settings = {})
        : Cluster(3, more, settings) {}

    /// A cluster of a single server, as hosts offer it: with slots, of which all are there.
    static Cluster of_one() { return {1, 0, {}}; }

    RedisServer& server(int i) { return *servers_[static_cast<std::size_t>(i)]; }
    std::string address(int i) { return "127.0.0.1:" + std::to_string(server(i).port()); }
    std::string url() { return "redis://" + address(0) + "?cluster=1"; }
    std::string id(int i) { return direct(i, {"CLUSTER", "MYID"}).text; }

    /// A command to one of the servers, whatever the slots.
    Reply direct(int i, const std::vector<std::string>& command) {
        auto& session = sessions_[i];
        if (!session) session = std::make_unique<Session>(options_for(server(i).url()));
        return session->run(command);
    }

    void wait_for(int i, const std::string& one, const std::string& other = {}) {
        EXPECT_TRUE(eventually([&] {
            const std::string info = direct(i, {"CLUSTER", "INFO"}).text;
            return info.find(one) != std::string::npos && info.find(other) != std::string::npos;
        })) << one;
    }

    static bool eventually(const std::function<bool()>& holds) {
        const TimePoint end = now() + kLong;
        while (!holds()) {
            if (now() > end) return false;
            usleep(10'000);
        }
        return true;
    }

    /// Which of the first three has the slot.
    int owner(std::uint16_t slot) const { return slot <= 5460 ? 0 : slot <= 10922 ? 1 : 2; }

private:
    Cluster(int primaries, int more, const std::vector<std::string>& settings) {
        const int all = primaries + more;
        std::vector<std::string> arguments = {"--cluster-enabled",
                                              "yes",
                                              "--repl-diskless-sync-delay",
                                              "0",
                                              "--cluster-allow-replica-migration",
                                              "no"};
        arguments.insert(arguments.end(), settings.begin(), settings.end());
        for (int i = 0; i < all; ++i)
            servers_.push_back(std::make_unique<RedisServer>(arguments, free_port()));
        if (primaries == 1) {
            direct(0, {"CLUSTER", "ADDSLOTSRANGE", "0", "16383"});
        } else {
            create(primaries);
        }
        for (int i = primaries; i < all; ++i)
            direct(i, {"CLUSTER", "MEET", "127.0.0.1", std::to_string(servers_[0]->port())});
        for (int i = 0; i < all; ++i)
            wait_for(i, "cluster_state:ok", "cluster_known_nodes:" + std::to_string(all));
    }

    void create(int primaries) {
        std::vector<std::string> command = {"redis-cli", "--cluster", "create"};
        for (int i = 0; i < primaries; ++i)
            command.push_back(address(i));
        command.insert(command.end(), {"--cluster-replicas", "0", "--cluster-yes"});
        Process process(find_program({"redis-cli", "valkey-cli"}).value(), command,
                        servers_[0]->folder() + "/create.log");
        EXPECT_EQ(process.wait(), 0);
    }

    std::vector<std::unique_ptr<RedisServer>> servers_;
    std::map<int, std::unique_ptr<Session>> sessions_;
};

}  // namespace cache_ext::redis
