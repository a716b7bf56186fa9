// A cluster of three servers that are none: slots move, keys go one by one, servers know late of what has moved, connections are cut, and all of that in an order
// that a seed gives. Whatever comes of it: commands of a slot are done and answered in the order of their submission, and each is answered once.
#include <deque>
#include <memory>
#include <random>

#include "redis_fake.hpp"

namespace cache_ext::redis {
namespace {

class FakeCluster {
public:
    static constexpr std::size_t kServers = 3;
    static constexpr std::size_t kSlotsUsed = 16;
    static constexpr std::size_t kKeysOfSlot = 3;

    explicit FakeCluster(unsigned seed) : random_(seed) {
        for (std::size_t i = 0; i < kServers; ++i) {
            servers_[i] = std::make_unique<FakeServer>([this, i](const Words& words) {
                if (words[0] == "PING" || words[0] == "CLIENT") return FakeServer::pleasant(words);
                // It gets round to it later.
                inboxes_[i].push_back(words);
                return std::string();
            });
        }
        for (std::size_t slot = 0; slot < kSlotsUsed; ++slot) {
            Slot& made = slots_[slot];
            made.number = slot_of(key(slot, 0));
            made.owner = any(kServers);
            made.keys.fill(made.owner);
            made.known.fill(made.owner);
        }
    }

    static std::string key(std::size_t slot, std::size_t number) {
        return "{t" + std::to_string(slot) + "}" + std::to_string(number);
    }
    std::string url() const {
        std::string url = "redis://";
        for (const auto& server : servers_)
            url += (url.back() == '/' ? "" : ",") + server->address();
        return url;
    }
    std::vector<Driven*> driven() {
        std::vector<Driven*> all;
        for (auto& server : servers_)
            all.push_back(server.get());
        return all;
    }
    std::size_t any(std::size_t below) { return random_() % below; }

    /// What was done for a key.
    const std::vector<int>& done(const std::string& key) { return done_[key]; }

    /// Something happens. While it is not calm: anything.
    void step(bool is_calm) {
        for (std::size_t i = 0; i < kServers; ++i)
            for (std::size_t n = any(3); n > 0; --n)
                do_one(i);
        if (is_calm) {
            for (Slot& slot : slots_)
                slot.known.fill(slot.owner);
            return;
        }
        Slot& slot = slots_[any(kSlotsUsed)];
        switch (any(12)) {
            case 0:  // begins to move
                if (const std::size_t to = (slot.owner + 1 + any(2)) % kServers;
                    !slot.to && !slot.has_been_at[to])
                    slot.to = to;
                break;
            case 1:
            case 2:  // a key moves
                if (slot.to) slot.keys[any(kKeysOfSlot)] = *slot.to;
                break;
            case 3:  // has moved; the third server does not know
                if (!slot.to) break;
                slot.has_been_at[slot.owner] = true;
                slot.known[slot.owner] = slot.known[*slot.to] = *slot.to;
                slot.owner = *slot.to;
                slot.keys.fill(slot.owner);
                slot.to.reset();
                break;
            case 4:
            case 5:
                slot.known[any(kServers)] = slot.owner;
                break;
            case 6:
                if (const std::size_t server = any(kServers); any(6) == 0) {
                    servers_[server]->cut();
                    inboxes_[server].clear();
                    is_asking_[server] = false;
                }
                break;
            default:
                break;
        }
    }

private:
    using Words = FakeServer::Words;
    struct Slot {
        std::uint16_t number = 0;
        std::size_t owner = 0;
        std::optional<std::size_t> to;                ///< where it is going
        std::array<std::size_t, kKeysOfSlot> keys{};  ///< where each is
        std::array<std::size_t, kServers> known{};    ///< whom each server takes for the owner
        /// It does not come back: of what a server sends on and what comes there next nobody could keep the order, and it is no pipeline's pace at which slots go round.
        std::array<bool, kServers> has_been_at{};
    };

    void do_one(std::size_t server) {
        if (inboxes_[server].empty()) return;
        const Words words = std::move(inboxes_[server].front());
        inboxes_[server].pop_front();
        servers_[server]->say(answer(server, words));
    }

    std::string answer(std::size_t server, const Words& words) {
        const bool may_ask = std::exchange(is_asking_[server], words[0] == "ASKING");
        if (words[0] == "ASKING") return "+OK\r\n";
        if (words[0] == "CLUSTER") return map_of(server);
        const std::size_t at = std::stoul(words[1].substr(2));
        const Slot& slot = slots_.at(at);
        const std::size_t known = slot.known[server];
        if (slot.owner == server) {
            // Moving: what is not there any more is to be asked for elsewhere.
            const std::size_t place = slot.keys.at(std::stoul(words[1].substr(words[1].find('}') + 1)));
            if (place != server) return redirect("ASK", slot, place);
        } else if (!may_ask || slot.to != server) {
            return redirect("MOVED", slot, known == server ? slot.owner : known);
        }
        if (any(30) == 0) return "-TRYAGAIN not now\r\n";
        done_[words[1]].push_back(std::stoi(words[2]));
        return ":1\r\n";
    }

    std::string redirect(const char* how, const Slot& slot, std::size_t to) const {
        return "-" + std::string(how) + " " + std::to_string(slot.number) + " " + servers_[to]->address() +
               "\r\n";
    }

    /// CLUSTER SLOTS as that server knows them.
    std::string map_of(std::size_t server) const {
        std::map<std::uint16_t, std::size_t> others;
        for (const Slot& slot : slots_)
            others[slot.number] = slot.known[server];
        std::string rows;
        int count = 0;
        const auto add = [&](std::uint32_t first, std::uint32_t last, std::size_t owner) {
            if (first > last) return;
            rows += "*3\r\n:" + std::to_string(first) + "\r\n:" + std::to_string(last) + "\r\n*2\r\n" +
                    FakeServer::bulk("127.0.0.1") + ":" + std::to_string(servers_[owner]->port()) + "\r\n";
            ++count;
        };
        std::uint32_t from = 0;
        for (const auto& [number, owner] : others) {
            // Each has something besides.
            add(from, number - 1U, static_cast<std::size_t>(count / 2) % kServers);
            add(number, number, owner);
            from = number + 1U;
        }
        add(from, 16383, 0);
        return "*" + std::to_string(count) + "\r\n" + rows;
    }

    std::mt19937 random_;
    std::array<std::unique_ptr<FakeServer>, kServers> servers_;
    std::array<std::deque<Words>, kServers> inboxes_;
    std::array<bool, kServers> is_asking_{};
    std::array<Slot, kSlotsUsed> slots_;
    std::map<std::string, std::vector<int>> done_;
};

class RedisClusterAtRandom : public ::testing::TestWithParam<unsigned> {};

TEST_P(RedisClusterAtRandom, each_once_and_in_order) {
    FakeCluster cluster(GetParam());
    Session session(options_for(cluster.url()), cluster.driven());
    ASSERT_TRUE(session.loop().until([&] {
        cluster.step(true);
        return session.status().nodes_up == 3;
    }));

    struct Sent {
        int number;
        std::string key;
        int answers = 0;
        bool is_done = false;
        bool is_unknown = false;
    };
    std::vector<std::unique_ptr<Sent>> all;
    std::map<std::string, int> last_answered;
    bool in_order = true;
    const std::function<void(bool)> send = [&](bool may_repeat) {
        const std::size_t slot = cluster.any(FakeCluster::kSlotsUsed);
        auto sent = std::make_unique<Sent>();
        sent->number = static_cast<int>(all.size()) + 1;
        sent->key = FakeCluster::key(slot, cluster.any(FakeCluster::kKeysOfSlot));
        const auto handler = [&, may_repeat, one = sent.get()](const Reply& reply) {
            ++one->answers;
            one->is_done = reply.ok();
            one->is_unknown = reply.verdict == Verdict::kLost;
            in_order = in_order && last_answered[one->key] < one->number;
            last_answered[one->key] = one->number;
            // A handler may submit.
            if (!reply.ok() && may_repeat) send(false);
        };
        if (session.submit({"APPEND", sent->key, std::to_string(sent->number)}, handler))
            all.push_back(std::move(sent));
    };
    const auto run = [&](bool is_calm, int rounds) {
        for (int i = 0; i < rounds; ++i) {
            (void)session.loop().until(
                [&] {
                    cluster.step(is_calm);
                    return false;
                },
                milliseconds(1));
            if (!is_calm)
                for (std::size_t n = cluster.any(4); n > 0; --n)
                    send(true);
        }
    };
    run(false, 300);
    EXPECT_TRUE(session.loop().until([&] {
        cluster.step(true);
        return session.status().in_flight == 0;
    }));
    session.client().close(now());

    EXPECT_TRUE(in_order) << "of the answers";
    EXPECT_GT(all.size(), 100U);
    std::map<std::string, std::vector<int>> expected;
    for (const auto& sent : all) {
        EXPECT_EQ(sent->answers, 1) << sent->number;
        const std::vector<int>& done = cluster.done(sent->key);
        const auto times = std::count(done.begin(), done.end(), sent->number);
        EXPECT_LE(times, 1);
        if (!sent->is_unknown) {
            EXPECT_EQ(times, sent->is_done ? 1 : 0) << sent->number;
        }
        EXPECT_TRUE(std::is_sorted(done.begin(), done.end())) << sent->key;
    }
    EXPECT_GT(session.status().redirects, 10U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RedisClusterAtRandom, ::testing::Range(1U, 11U));

}  // namespace
}  // namespace cache_ext::redis
