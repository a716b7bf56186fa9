// What a notice names is deleted, and nothing else: in a single server, and in a cluster, where a tag's set and its keys lie in different places.
#include "redis/deletion.hpp"

#include <set>

#include "redis_cluster_fixture.hpp"
#include "redis_fake.hpp"

namespace cache_ext::redis {
namespace {

class Deleting {
public:
    explicit Deleting(Options options)
        : client_(Client::make(std::move(options))),
          layout_(own_layout()),
          deletion_(*client_, layout_),
          together_(*client_, deletion_),
          loop_({&together_}) {}
    ~Deleting() { client_->close(now()); }

    Deletion& deletion() { return deletion_; }
    Client& client() { return *client_; }
    Loop& loop() { return loop_; }
    Driven& driven() { return together_; }
    Layout& layout() { return layout_; }

    void start(Notice notice) {
        deletion_.start(std::make_shared<const Notice>(std::move(notice)));
        together_.service({}, now());
    }
    bool is_done(milliseconds within = kLong) {
        if (!loop_.until([this] { return deletion_.progress() == Progress::kDone; }, within)) return false;
        deletion_.reset();
        return true;
    }
    bool deletes(Notice notice) {
        start(std::move(notice));
        return is_done();
    }

private:
    static Layout own_layout() {
        Layout layout;
        layout.namespaces = {"db:", "tag:"};
        return layout;
    }

    std::unique_ptr<Client> client_;
    Layout layout_;
    Deletion deletion_;
    Together<Deletion> together_;
    Loop loop_;
};

constexpr int kMany = 600;

/// Keys of the cache, keys that are not, and a tag's set with some of both.
void put_things(Session& session) {
    for (int i = 0; i < kMany; ++i)
        session.run({"SET", "db:k" + std::to_string(i), "value"});
    for (int i = 0; i < 20; ++i) {
        session.run({"SET", "other:k" + std::to_string(i), "value"});
        session.run({"SADD", "tag:t", "db:k" + std::to_string(i)});
    }
    session.run({"SADD", "tag:t", "other:k1", "db:gone"});
    session.run({"SADD", "tag:u", "db:k500"});
    session.run({"SET", "tag:text", "no set"});
}

bool is_there(Session& session, const std::string& key) { return session.run({"EXISTS", key}).integer == 1; }

int left(Session& session, const std::string& prefix, int count) {
    int found = 0;
    for (int i = 0; i < count; ++i)
        found += is_there(session, prefix + std::to_string(i)) ? 1 : 0;
    return found;
}

/// The same for one server and for many.
void delete_things(Session& session, Options options) {
    put_things(session);
    Deleting deleting(std::move(options));
    ASSERT_TRUE(deleting.loop().until([&] { return deleting.client().can_take(now()); }));

    Notice keys;
    for (int i = 100; i < 200; ++i)
        keys.keys.push_back("db:k" + std::to_string(i));
    keys.keys.insert(keys.keys.end(), {"other:k0", "db:never"});
    ASSERT_TRUE(deleting.deletes(keys));
    EXPECT_EQ(deleting.deletion().deleted(), 100U);
    EXPECT_EQ(left(session, "db:k", kMany), kMany - 100);
    EXPECT_TRUE(is_there(session, "other:k0")) << "not the cache's";

    Notice tags;
    tags.tags = {"t", "text", "unknown"};
    ASSERT_TRUE(deleting.deletes(tags));
    EXPECT_EQ(deleting.deletion().deleted(), 120U);
    EXPECT_EQ(left(session, "db:k", 20), 0);
    EXPECT_TRUE(is_there(session, "other:k1")) << "not the cache's, whoever put it into the set";
    EXPECT_TRUE(is_there(session, "db:k500")) << "another tag's";
    EXPECT_FALSE(is_there(session, "tag:t")) << "its members are forgotten";
    EXPECT_TRUE(is_there(session, "tag:u"));
    EXPECT_EQ(session.run({"GET", "tag:text"}).text, "no set");
    EXPECT_NE(deleting.deletion().last_error().find("WRONGTYPE"), std::string::npos);

    Notice pattern;
    pattern.patterns = {"db:k3*", "other:*"};
    ASSERT_TRUE(deleting.deletes(pattern));
    // From 30 to 39 and from 300 to 399.
    EXPECT_EQ(deleting.deletion().deleted(), 230U);
    EXPECT_FALSE(is_there(session, "db:k30"));
    EXPECT_FALSE(is_there(session, "db:k399"));
    EXPECT_TRUE(is_there(session, "db:k400"));

    Notice everything;
    everything.everything = true;
    ASSERT_TRUE(deleting.deletes(everything));
    EXPECT_EQ(left(session, "db:k", kMany), 0);
    EXPECT_FALSE(is_there(session, "tag:u"));
    EXPECT_EQ(left(session, "other:k", 20), 20);
}

class RedisDeletion : public RedisTest {};

TEST_F(RedisDeletion, in_one_server) {
    RedisServer server;
    Session session(options_for(server.url()));
    delete_things(session, options_for(server.url()));
}

TEST_F(RedisDeletion, in_a_cluster) {
    Cluster cluster;
    Session session(options_for(cluster.url()));
    ASSERT_TRUE(session.loop().until([&] { return session.status().nodes_up == 3; }));
    delete_things(session, options_for(cluster.url()));
    // It was in all of them.
    std::set<int> owners;
    for (int i = 0; i < 20; ++i)
        owners.insert(cluster.owner(slot_of("db:k" + std::to_string(i))));
    EXPECT_EQ(owners.size(), 3U);
}

// That there is one server only does not make its keys of one slot.
TEST_F(RedisDeletion, in_a_cluster_of_one) {
    Cluster cluster = Cluster::of_one();
    Session session(options_for(cluster.url()));
    ASSERT_TRUE(session.loop().until([&] { return session.status().nodes_up == 1; }));
    delete_things(session, options_for(cluster.url()));
}

TEST(RedisDeletionAtFake, what_the_server_does_not_know_is_not_taken_for_done) {
    bool is_able = false;
    FakeServer server([&is_able](const FakeServer::Words& words) {
        if (words[0] != "UNLINK") return FakeServer::pleasant(words);
        return std::string(is_able ? ":1\r\n"
                                   : "-ERR unknown command 'UNLINK', with args beginning with: \r\n");
    });
    Deleting deleting(options_for(server.url()));
    Loop loop({&server, &deleting.driven()});
    ASSERT_TRUE(loop.until([&] { return deleting.client().can_take(now()); }));
    Notice keys;
    keys.keys = {"db:a"};
    deleting.start(keys);
    ASSERT_TRUE(loop.until([&] { return server.count("UNLINK") > 1; })) << "tried again";
    EXPECT_NE(deleting.deletion().progress(), Progress::kDone);
    EXPECT_NE(deleting.deletion().last_error().find("unknown command"), std::string::npos);
    is_able = true;
    ASSERT_TRUE(loop.until([&] { return deleting.deletion().progress() == Progress::kDone; }));
    EXPECT_EQ(deleting.deletion().deleted(), 1U);
}

TEST(RedisDeletionAtFake, what_all_keys_begin_with_is_not_cut_within_a_character) {
    FakeServer server([](const FakeServer::Words& words) {
        return words[0] == "SCAN" ? "*2\r\n$1\r\n0\r\n*0\r\n" : FakeServer::pleasant(words);
    });
    Deleting deleting(options_for(server.url()));
    deleting.layout().namespaces = {"db\u00e8:", "db\u00e9:"};
    Loop loop({&server, &deleting.driven()});
    ASSERT_TRUE(loop.until([&] { return deleting.client().can_take(now()); }));
    Notice everything;
    everything.everything = true;
    deleting.start(everything);
    ASSERT_TRUE(loop.until([&] { return deleting.deletion().progress() == Progress::kDone; }));
    EXPECT_EQ(server.commands().back(), (FakeServer::Words{"SCAN", "0", "COUNT", "1000", "MATCH", "db*"}));
}

TEST_F(RedisDeletion, a_notice_before_anything_is_known_of_the_cluster) {
    Cluster cluster;
    Session session(options_for(cluster.url()));
    put_things(session);
    Deleting deleting(options_for(cluster.url()));
    Notice pattern;
    pattern.patterns = {"db:*"};
    deleting.start(pattern);
    EXPECT_EQ(deleting.deletion().progress(), Progress::kWaiting);
    ASSERT_TRUE(deleting.is_done());
    EXPECT_EQ(left(session, "db:k", kMany), 0);
}

TEST_F(RedisDeletion, a_node_that_does_not_answer_is_waited_for) {
    Cluster cluster;
    Session session(options_for(cluster.url()));
    put_things(session);
    Options options = options_for(cluster.url());
    options.command_timeout = milliseconds(150);
    Deleting deleting(options);
    ASSERT_TRUE(deleting.loop().until([&] { return deleting.client().primaries().size() == 3; }));
    ASSERT_TRUE(deleting.loop().until([&] { return deleting.client().status(now()).nodes_up == 3; }));
    cluster.server(1).process().signal(SIGSTOP);
    Notice tag;
    tag.tags = {"t"};
    deleting.start(tag);
    EXPECT_FALSE(deleting.is_done(milliseconds(400))) << "some of the keys are there, or the set";
    cluster.server(1).process().signal(SIGCONT);
    ASSERT_TRUE(deleting.is_done());
    EXPECT_EQ(left(session, "db:k", 20), 0);
    EXPECT_FALSE(is_there(session, "tag:t"));
    EXPECT_EQ(left(session, "db:k", kMany), kMany - 20);
}

}  // namespace
}  // namespace cache_ext::redis
