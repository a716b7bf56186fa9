// Values that are put there, and what follows them: in a server, and in a cluster, where a value and its tags' sets lie in different places.
#include "redis/filler.hpp"

#include "redis_cluster_fixture.hpp"

namespace cache_ext::redis {
namespace {

class Filling {
public:
    explicit Filling(Options options)
        : client_(Client::make(std::move(options))),
          layout_(own_layout()),
          filler_(*client_, layout_, 1, false),
          together_(*client_, filler_),
          loop_({&together_}) {}
    ~Filling() { client_->close(now()); }

    Client& client() { return *client_; }
    Filler& filler() { return filler_; }
    Loop& loop() { return loop_; }
    bool comes_up(int nodes) {
        return loop_.until([&, nodes] { return client_->status(now()).nodes_up == nodes; });
    }

    void put(const std::string& key, const std::vector<std::string>& tags) {
        filler_.put({key, "1", milliseconds(60'000), tags}, now());
        together_.service({}, now());
    }
    bool is_put(std::uint64_t puts) {
        return loop_.until([&] { return filler_.puts() == puts; });
    }

private:
    static Layout own_layout() {
        Layout layout;
        layout.namespaces = {"db:", "tag:"};
        layout.origin = "7";
        layout.database = "shop";
        return layout;
    }

    std::unique_ptr<Client> client_;
    Layout layout_;
    Filler filler_;
    Together<Filler> together_;
    Loop loop_;
};

class RedisFiller : public RedisTest {};

/// A name with this beginning whose slot that server of the cluster has.
std::string name_at(const Cluster& cluster, int server, const std::string& beginning) {
    for (int i = 0;; ++i) {
        std::string name = beginning + std::to_string(i);
        if (cluster.owner(slot_of(name)) == server) return name;
    }
}

void put_and_look(const std::string& url, int nodes) {
    Session session(options_for(url));
    Filling filling(options_for(url));
    ASSERT_TRUE(filling.comes_up(nodes));
    filling.put("db:1", {"a", "b"});
    ASSERT_TRUE(filling.is_put(1));
    EXPECT_EQ(session.run({"GET", "db:1"}).text, "1");
    for (const char* set : {"tag:a", "tag:b"})
        EXPECT_EQ(session.run({"SISMEMBER", set, "db:1"}).integer, 1) << set;
    filling.put("other:1", {});
    filling.put("db:2", {});
    ASSERT_TRUE(filling.is_put(2));
    EXPECT_EQ(session.run({"EXISTS", "other:1"}).integer, 0) << "not the cache's";
}

TEST_F(RedisFiller, in_one_server) {
    RedisServer server;
    put_and_look(server.url(), 1);
}

TEST_F(RedisFiller, in_a_cluster_of_one) {
    Cluster cluster = Cluster::of_one();
    put_and_look(cluster.url(), 1);
}

TEST_F(RedisFiller, in_a_cluster) {
    Cluster cluster;
    put_and_look(cluster.url(), 3);
}

// Whoever sends may be killed at any moment, and nobody would find a value then that is in none of its sets.
TEST_F(RedisFiller, no_value_before_its_sets_have_it) {
    Cluster cluster;
    const std::string key = name_at(cluster, 0, "db:");
    const std::string tag = name_at(cluster, 1, "tag:");
    const std::string other = name_at(cluster, 0, "db:other");
    const std::string another = name_at(cluster, 0, "db:another");
    Filling filling(options_for(cluster.url()));
    ASSERT_TRUE(filling.comes_up(3));
    cluster.server(1).process().signal(SIGSTOP);
    filling.put(key, {tag.substr(4)});
    filling.put(another, {name_at(cluster, 2, "tag:").substr(4)});
    filling.put(other, {});
    ASSERT_TRUE(filling.is_put(2)) << "those that need not wait for it";
    filling.loop().for_time(milliseconds(50));
    EXPECT_EQ(cluster.direct(0, {"EXISTS", other}).integer, 1);
    EXPECT_EQ(cluster.direct(0, {"EXISTS", key}).integer, 0);
    EXPECT_FALSE(filling.filler().is_open()) << "what is deleted comes after it";
    cluster.server(1).process().signal(SIGCONT);
    ASSERT_TRUE(filling.is_put(3));
    EXPECT_TRUE(filling.filler().is_open());
    EXPECT_EQ(cluster.direct(1, {"SISMEMBER", tag, key}).integer, 1);
    EXPECT_EQ(cluster.direct(0, {"EXISTS", key}).integer, 1);
}

// One value may be lost while another one's answer is still to come from elsewhere.
TEST_F(RedisFiller, nothing_is_deleted_before_what_was_lost_is_fenced_off) {
    Cluster cluster;
    const std::string one = name_at(cluster, 0, "db:");
    const std::string other = name_at(cluster, 1, "db:");
    Filling filling(options_for(cluster.url()));
    ASSERT_TRUE(filling.comes_up(3));
    cluster.server(0).process().signal(SIGSTOP);
    cluster.server(1).process().signal(SIGSTOP);
    filling.put(one, {});
    filling.put(other, {});
    ASSERT_TRUE(filling.filler().is_open());
    cluster.server(0).process().stop(SIGKILL);
    ASSERT_TRUE(filling.loop().until([&] { return filling.client().status(now()).lost > 0; }));
    EXPECT_EQ(filling.client().status(now()).lost, 1U);
    EXPECT_FALSE(filling.filler().is_open());
    cluster.server(1).process().signal(SIGCONT);
}

// While a part of a cluster is away its fences cannot be raised: those of the others, of which there are thousands, are raised once all the same.
TEST_F(RedisFiller, while_a_server_is_away_the_others_are_left_alone) {
    Cluster cluster;
    const std::string key = name_at(cluster, 1, "db:");
    Filling filling(options_for(cluster.url()));
    ASSERT_TRUE(filling.comes_up(3));
    const auto scripts = [&] {
        const std::string stats = cluster.direct(0, {"INFO", "commandstats"}).text;
        const std::size_t at = stats.find("cmdstat_eval:calls=");
        return at == std::string::npos ? 0 : std::stoi(stats.substr(stats.find('=', at) + 1));
    };
    cluster.server(1).process().signal(SIGSTOP);
    filling.put(key, {});
    filling.loop().for_time(milliseconds(20));
    const int before = scripts();
    cluster.server(1).process().stop(SIGKILL);
    ASSERT_TRUE(filling.loop().until([&] { return scripts() >= before + 5461; }));
    filling.loop().for_time(milliseconds(500));
    EXPECT_FALSE(filling.filler().is_open());
    EXPECT_EQ(scripts() - before, 5461) << "slots that it has";
}

}  // namespace
}  // namespace cache_ext::redis
