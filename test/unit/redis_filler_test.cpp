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

void put_and_look(Session& session, Filling& filling) {
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
    Session session(options_for(server.url()));
    Filling filling(options_for(server.url()));
    ASSERT_TRUE(filling.comes_up(1));
    put_and_look(session, filling);
}

TEST_F(RedisFiller, in_a_cluster_of_one) {
    Cluster cluster = Cluster::of_one();
    Session session(options_for(cluster.url()));
    Filling filling(options_for(cluster.url()));
    ASSERT_TRUE(filling.comes_up(1));
    put_and_look(session, filling);
}

TEST_F(RedisFiller, in_a_cluster) {
    Cluster cluster;
    Session session(options_for(cluster.url()));
    Filling filling(options_for(cluster.url()));
    ASSERT_TRUE(filling.comes_up(3));
    put_and_look(session, filling);
}

}  // namespace
}  // namespace cache_ext::redis
