// The client and a real cluster, whose slots move and whose nodes fail.
#include <set>

#include "redis_cluster_fixture.hpp"
#include "taking_fixture.hpp"

namespace cache_ext::redis {
namespace {

class RedisCluster : public RedisTest {};

TEST_F(RedisCluster, everything_on_three_nodes) {
    Cluster cluster;
    Session session(options_for(cluster.url()));
    ASSERT_TRUE(session.loop().until([&] { return session.status().nodes_up == 3; }))
        << session.status().last_error;
    EXPECT_EQ(session.status().state, State::kUp);
    EXPECT_EQ(session.status().nodes, 3);

    // Keys go to where they belong.
    std::set<std::string> keys;
    for (int i = 0; i < 300; ++i) {
        const std::string key = "key" + std::to_string(i);
        keys.insert(key);
        EXPECT_EQ(session.run({"SET", key, "value"}).text, "OK");
    }
    EXPECT_EQ(session.status().redirects, 0U);
    for (int i = 0; i < 3; ++i)
        EXPECT_GT(cluster.direct(i, {"DBSIZE"}).integer, 50);
    EXPECT_EQ(session.run({"CLUSTER", "KEYSLOT", "a{b}c"}, "any").integer, slot_of("a{b}c"));

    // A command's keys are to be of one slot.
    EXPECT_EQ(session.run({"MSET", "{a}1", "x", "{a}2", "y"}).text, "OK");
    EXPECT_TRUE(session.run({"MGET", "key1", "key2"}).text.starts_with("CROSSSLOT"));
    session.run({"UNLINK", "{a}1", "{a}2"});

    // Over all of them.
    std::set<std::string> found;
    int answers = 0;
    const std::vector<std::string_view> scan = {"SCAN", "0", "COUNT", "1000"};
    EXPECT_EQ(session.client().primaries().size(), 3U);
    EXPECT_EQ(for_each_primary(
                  session.client(), scan,
                  [&](NodeId, const Reply& reply) {
                      ++answers;
                      for (const Reply& key : reply.elements.at(1).elements)
                          found.insert(key.text);
                  },
                  now()),
              3U);
    ASSERT_TRUE(session.loop().until([&] { return answers == 3; }));
    EXPECT_EQ(found, keys);
    const std::vector<std::string_view> ping = {"PING"};
    EXPECT_FALSE(session.client().submit_to(77, ping, nullptr, now()));

    // Any of the nodes will do to begin with, or to listen.
    Session by_another(options_for("redis://127.0.0.1:1," + cluster.address(2)));
    EXPECT_EQ(by_another.run({"GET", "key1"}).text, "value");

    // The one that is no cluster, and the cluster that is taken for a single server.
    RedisServer single({}, free_port());
    Session wrong(options_for("redis://127.0.0.1:" + std::to_string(single.port()) + "?cluster=1"));
    EXPECT_TRUE(wrong.loop().until([&] { return wrong.status().state == State::kMisconfigured; }));
    Session plain(options_for("redis://" + cluster.address(0)));
    const std::string elsewhere = cluster.owner(slot_of("key1")) == 0 ? "key2" : "key1";
    ASSERT_NE(cluster.owner(slot_of(elsewhere)), 0);
    EXPECT_EQ(plain.run({"GET", elsewhere}).verdict, Verdict::kRedirect);

    // Closed: everything is answered.
    int lost = 0;
    for (int i = 0; i < 10; ++i)
        EXPECT_TRUE(session.submit({"GET", "key" + std::to_string(i)}, [&](const Reply& reply) {
            lost += reply.verdict == Verdict::kLost ? 1 : 0;
        }));
    session.client().close(now());
    EXPECT_EQ(lost, 10);
    EXPECT_TRUE(session.client().interests().empty());
}

TEST_F(RedisCluster, items_that_are_taken_aside) {
    Cluster cluster;
    TakingSession s(cluster.url());
    SettlingSession settling(s);
    for (int i = 0; i < 9; ++i) {
        const std::string queue = "q" + std::to_string(i);
        EXPECT_TRUE(s.note(queue).ok());
        s.add(queue, "1");
        s.add(queue, "2");
        EXPECT_EQ(s.take(queue, "10:1").text, "1");
        EXPECT_EQ(s.take(queue, "11:1").text, "2");
    }
    for (int i = 0; i < 9; ++i) {
        const std::string queue = "q" + std::to_string(i);
        EXPECT_TRUE(settling.leaves(queue, {}));
        EXPECT_EQ(s.list(queue), std::vector<std::string>{"2"});
    }
}

TEST_F(RedisCluster, slots_that_move_while_they_are_written) {
    Cluster cluster;
    Session session(options_for(cluster.url()));
    ASSERT_TRUE(session.loop().until([&] { return session.status().nodes_up == 3; }))
        << session.status().last_error;
    // Four lists of one slot, each with a number appended after the other while the slot goes round the cluster.
    const std::uint16_t slot = slot_of("tag");
    const std::string slot_text = std::to_string(slot);
    constexpr int kLists = 4;
    std::array<int, kLists> appended{};
    std::array<int, kLists> answered{};
    bool in_order = true;
    const auto append = [&] {
        for (std::size_t list = 0; list < kLists; ++list) {
            const int number = appended[list];
            if (!session.submit({"RPUSH", "{tag}" + std::to_string(list), std::to_string(number)},
                                [&, list, number](const Reply& reply) {
                                    EXPECT_TRUE(reply.ok()) << to_text(reply.verdict) << " " << reply.text;
                                    in_order = in_order && number == answered[list];
                                    ++answered[list];
                                }))
                continue;
            ++appended[list];
        }
    };
    // For so long, and until each list has got something and has said so.
    const auto run = [&](int ms) {
        const TimePoint end = now() + milliseconds(ms);
        const std::array<int, kLists> before = answered;
        EXPECT_TRUE(session.loop().until([&] {
            append();
            return now() >= end && std::equal(answered.begin(), answered.end(), before.begin(),
                                              [](int after, int then) { return after > then + 1; });
        }));
    };
    std::array<std::string, 3> ids;
    for (int i = 0; i < 3; ++i)
        ids[static_cast<std::size_t>(i)] = cluster.id(i);
    int at = cluster.owner(slot);
    const std::uint64_t topology = session.client().topology();
    for (int round = 0; round < 4; ++round) {
        const int to = (at + 1) % 3;
        run(20);
        EXPECT_TRUE(
            cluster
                .direct(to, {"CLUSTER", "SETSLOT", slot_text, "IMPORTING", ids[static_cast<std::size_t>(at)]})
                .ok());
        EXPECT_TRUE(
            cluster
                .direct(at, {"CLUSTER", "SETSLOT", slot_text, "MIGRATING", ids[static_cast<std::size_t>(to)]})
                .ok());
        for (std::size_t list = 0; list < kLists; ++list) {
            run(10);
            const Reply moved =
                cluster.direct(at, {"MIGRATE", "127.0.0.1", std::to_string(cluster.server(to).port()),
                                    "{tag}" + std::to_string(list), "0", "5000"});
            EXPECT_TRUE(moved.ok()) << moved.text;
        }
        run(10);
        EXPECT_TRUE(
            cluster.direct(to, {"CLUSTER", "SETSLOT", slot_text, "NODE", ids[static_cast<std::size_t>(to)]})
                .ok());
        run(10);
        EXPECT_TRUE(
            cluster.direct(at, {"CLUSTER", "SETSLOT", slot_text, "NODE", ids[static_cast<std::size_t>(to)]})
                .ok());
        EXPECT_TRUE(cluster
                        .direct(3 - at - to,
                                {"CLUSTER", "SETSLOT", slot_text, "NODE", ids[static_cast<std::size_t>(to)]})
                        .ok());
        at = to;
        run(20);
    }
    ASSERT_TRUE(session.loop().until([&] { return session.status().in_flight == 0; }));
    EXPECT_TRUE(in_order);
    EXPECT_GT(session.status().redirects, 8U);
    EXPECT_NE(session.client().topology(), topology);
    EXPECT_EQ(session.status().lost, 0U);
    for (std::size_t list = 0; list < kLists; ++list) {
        EXPECT_GT(appended[list], 20);
        const Reply all = session.run({"LRANGE", "{tag}" + std::to_string(list), "0", "-1"});
        ASSERT_EQ(all.elements.size(), static_cast<std::size_t>(appended[list]));
        for (int i = 0; i < appended[list]; ++i)
            ASSERT_EQ(all.elements[static_cast<std::size_t>(i)].text, std::to_string(i));
    }
}

// A new map arrives while the server that had the slot has not yet answered a command, which it will redirect.
TEST_F(RedisCluster, a_slot_that_goes_to_another_while_its_commands_are_under_way) {
    Cluster cluster;
    Session session(options_for(cluster.url()));
    ASSERT_TRUE(session.loop().until([&] { return session.status().nodes_up == 3; }))
        << session.status().last_error;
    std::array<std::string, 3> ids;
    for (int i = 0; i < 3; ++i)
        ids[static_cast<std::size_t>(i)] = cluster.id(i);
    const auto set_slot = [&](int node, const std::string& slot, const std::string& state, int other) {
        EXPECT_TRUE(
            cluster.direct(node, {"CLUSTER", "SETSLOT", slot, state, ids[static_cast<std::size_t>(other)]})
                .ok());
    };
    const std::string slot = std::to_string(slot_of("{tag}list"));
    int appended = 0;
    const auto append = [&] {
        EXPECT_TRUE(session.submit({"RPUSH", "{tag}list", std::to_string(appended)}, [](const Reply& reply) {
            EXPECT_TRUE(reply.ok()) << to_text(reply.verdict) << " " << reply.text;
        }));
        ++appended;
    };
    const auto is_settled = [&] { return session.status().in_flight == 0; };
    append();
    ASSERT_TRUE(session.loop().until(is_settled));
    int from = cluster.owner(slot_of("{tag}list"));
    int rounds_that_count = 0;
    // Which of the servers is asked for a map is not ours to choose. Where it is the one that stands still, the round proves nothing.
    for (int round = 0; round < 30 && rounds_that_count < 2; ++round) {
        const int to = (from + 1) % 3;
        const int third = 3 - from - to;
        set_slot(to, slot, "IMPORTING", from);
        set_slot(from, slot, "MIGRATING", to);
        EXPECT_TRUE(cluster
                        .direct(from, {"MIGRATE", "127.0.0.1", std::to_string(cluster.server(to).port()),
                                       "{tag}list", "0", "5000"})
                        .ok());
        set_slot(to, slot, "NODE", to);
        set_slot(third, slot, "NODE", to);
        // A slot without keys goes at once, of which the client is to hear: it asks for a map then.
        std::string other = "x";
        while (cluster.owner(slot_of(other)) != third || slot_of(other) == slot_of("{tag}list"))
            other += std::to_string(round);
        for (const int node : {to, third})
            set_slot(node, std::to_string(slot_of(other)), "NODE", to);
        const std::uint64_t topology = session.client().topology();
        cluster.server(from).process().signal(SIGSTOP);
        append();
        EXPECT_TRUE(session.submit({"GET", other}, nullptr));
        // Moved, and a map.
        if (session.loop().until([&] { return session.client().topology() >= topology + 2; },
                                 milliseconds(700)))
            ++rounds_that_count;
        append();
        session.loop().until([] { return false; }, milliseconds(20));
        cluster.server(from).process().signal(SIGCONT);
        ASSERT_TRUE(session.loop().until(is_settled));
        set_slot(from, slot, "NODE", to);
        from = to;
    }
    EXPECT_GE(rounds_that_count, 1);
    const Reply all = session.run({"LRANGE", "{tag}list", "0", "-1"});
    ASSERT_EQ(all.elements.size(), static_cast<std::size_t>(appended));
    for (int i = 0; i < appended; ++i)
        EXPECT_EQ(all.elements[static_cast<std::size_t>(i)].text, std::to_string(i));
}

TEST_F(RedisCluster, a_primary_that_fails) {
    // One that does not answer is soon replaced, and the others go on meanwhile.
    Cluster cluster(1, {"--cluster-node-timeout", "700", "--cluster-require-full-coverage", "no"});
    EXPECT_TRUE(cluster.direct(3, {"CLUSTER", "REPLICATE", cluster.id(1)}).ok());
    ASSERT_TRUE(Cluster::eventually([&] {
        return cluster.direct(3, {"INFO", "replication"}).text.find("master_link_status:up") !=
               std::string::npos;
    }));
    // That it may take over at all, the primary has to have heard of it.
    ASSERT_TRUE(Cluster::eventually([&] {
        return cluster.direct(1, {"CLUSTER", "SLOTS"}).elements.at(1).elements.size() == 4;
    }));
    Options options = options_for(cluster.url());
    options.command_timeout = milliseconds(300);
    Session session(options);
    ASSERT_TRUE(session.loop().until([&] { return session.status().nodes_up == 3; }))
        << session.status().last_error;
    const std::string key = "b";  // slot 3300
    ASSERT_EQ(cluster.owner(slot_of(key)), 0);
    std::string in_one;
    for (int i = 0; in_one.empty(); ++i)
        if (cluster.owner(slot_of("k" + std::to_string(i))) == 1) in_one = "k" + std::to_string(i);
    EXPECT_TRUE(session.run_until_answered({"SET", in_one, "1"}).ok());
    EXPECT_EQ(cluster.direct(1, {"WAIT", "1", "20000"}).integer, 1);
    cluster.server(1).process().signal(SIGSTOP);
    Verdict verdict = Verdict::kOk;
    ASSERT_TRUE(session.submit({"GET", in_one}, [&](const Reply& reply) { verdict = reply.verdict; }));
    EXPECT_TRUE(session.run_until_answered({"SET", key, "2"}).ok()) << "the others do not wait";
    EXPECT_TRUE(session.loop().until([&] { return verdict == Verdict::kLost; }));
    // The replica takes over, and the client finds it.
    std::optional<std::string> value;
    bool is_under_way = false;
    EXPECT_TRUE(session.loop().until([&] {
        if (!is_under_way)
            is_under_way = session.submit({"GET", in_one}, [&](const Reply& reply) {
                is_under_way = false;
                if (reply.ok()) value = reply.text;
            });
        return value.has_value();
    }));
    EXPECT_EQ(value, "1");
    EXPECT_TRUE(
        session.loop().until([&] { return session.status().nodes_up == 3 && session.status().nodes == 3; }));
}

}  // namespace
}  // namespace cache_ext::redis
