#include "core/sieve.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <list>
#include <random>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace cache_ext::core {
namespace {

struct Object {
    Ref newer = 0;
    Ref older = 0;
    bool visited = false;
};

struct Links {
    std::vector<Object>* objects;
    Ref& newer(Ref ref) { return (*objects)[ref].newer; }
    Ref& older(Ref ref) { return (*objects)[ref].older; }
    bool visited(Ref ref) { return (*objects)[ref].visited; }
    void set_visited(Ref ref, bool value) { (*objects)[ref].visited = value; }
};

static_assert(std::is_trivially_copyable_v<Sieve<Links>> && std::is_standard_layout_v<Sieve<Links>>);

class SieveTest : public testing::Test {
protected:
    void insert(std::initializer_list<Ref> refs) {
        for (const Ref ref : refs)
            sieve.insert(links, ref);
    }
    void touch(std::initializer_list<Ref> refs) {
        for (const Ref ref : refs)
            Sieve<Links>::touch(links, ref);
    }
    Ref evict() {
        const Ref ref = sieve.victim(links);
        if (ref != kNullRef) sieve.remove(links, ref);
        return ref;
    }
    std::vector<Ref> from_newest() {
        std::vector<Ref> refs;
        for (Ref ref = sieve.newest(); ref != kNullRef; ref = links.older(ref))
            refs.push_back(ref);
        return refs;
    }

    std::vector<Object> objects = std::vector<Object>(64);
    Links links{&objects};
    Sieve<Links> sieve;
};

TEST_F(SieveTest, an_empty_list_has_no_victim) {
    EXPECT_EQ(sieve.victim(links), kNullRef);
    EXPECT_EQ(sieve.count(), 0u);
    EXPECT_TRUE(sieve.check(links));
}

TEST_F(SieveTest, without_hits_it_is_first_in_first_out) {
    insert({1, 2, 3});
    EXPECT_EQ(evict(), 1u);
    insert({4});
    EXPECT_EQ(evict(), 2u);
    EXPECT_EQ(evict(), 3u);
    EXPECT_EQ(evict(), 4u);
    EXPECT_EQ(evict(), kNullRef);
}

TEST_F(SieveTest, a_visited_object_survives_once_in_its_place) {
    insert({1, 2, 3});
    touch({1});
    EXPECT_EQ(evict(), 2u);
    EXPECT_EQ(from_newest(), (std::vector<Ref>{3, 1}));
    EXPECT_FALSE(objects[1].visited);
    EXPECT_EQ(evict(), 3u);  // the hand goes on from where it was
    EXPECT_EQ(evict(), 1u);  // and then from the oldest
}

TEST_F(SieveTest, the_hand_stays_between_evictions_when_newcomers_arrive) {
    insert({1, 2, 3, 4});
    touch({1, 2});
    EXPECT_EQ(evict(), 3u);
    insert({5});
    touch({4});
    EXPECT_EQ(evict(), 5u);
    EXPECT_EQ(evict(), 1u);
}

TEST_F(SieveTest, an_inserted_object_starts_unvisited) {
    objects[1].visited = true;
    insert({1, 2});
    EXPECT_EQ(evict(), 1u);
}

TEST_F(SieveTest, all_visited_evicts_the_one_under_the_hand_after_one_round) {
    insert({1, 2, 3});
    touch({1, 2, 3});
    EXPECT_EQ(evict(), 1u);
    EXPECT_FALSE(objects[2].visited);
    EXPECT_FALSE(objects[3].visited);
}

TEST_F(SieveTest, a_victim_is_not_removed_and_stays_the_victim) {
    insert({1, 2});
    EXPECT_EQ(sieve.victim(links), 1u);
    EXPECT_EQ(sieve.victim(links), 1u);
    EXPECT_EQ(sieve.count(), 2u);
    touch({1});
    EXPECT_EQ(sieve.victim(links), 2u);
}

TEST_F(SieveTest, any_object_can_be_removed) {
    for (Ref out = 1; out <= 4; ++out) {
        sieve = {};
        insert({1, 2, 3, 4});
        sieve.remove(links, out);
        EXPECT_TRUE(sieve.check(links));
        EXPECT_EQ(sieve.count(), 3u);
    }
}

TEST_F(SieveTest, removing_the_object_under_the_hand_moves_the_hand_on) {
    insert({1, 2, 3, 4});
    touch({1});
    EXPECT_EQ(sieve.victim(links), 2u);
    sieve.remove(links, 2);
    EXPECT_TRUE(sieve.check(links));
    EXPECT_EQ(sieve.victim(links), 3u);
}

TEST_F(SieveTest, removing_the_newest_under_the_hand_sends_it_to_the_oldest) {
    insert({1, 2, 3});
    touch({1, 2});
    EXPECT_EQ(sieve.victim(links), 3u);
    sieve.remove(links, 3);
    EXPECT_TRUE(sieve.check(links));
    EXPECT_EQ(sieve.victim(links), 1u);
}

TEST_F(SieveTest, removing_the_last_object_leaves_an_empty_list) {
    insert({1});
    EXPECT_EQ(sieve.victim(links), 1u);
    sieve.remove(links, 1);
    EXPECT_TRUE(sieve.check(links));
    EXPECT_EQ(sieve.victim(links), kNullRef);
    insert({2});
    EXPECT_EQ(sieve.victim(links), 2u);
}

TEST_F(SieveTest, a_dispensable_object_goes_although_visited) {
    insert({1, 2, 3});
    touch({1, 2});
    EXPECT_EQ(sieve.victim(links, [](Ref ref) { return ref == 2; }), 2u);
    EXPECT_TRUE(objects[2].visited);
    EXPECT_FALSE(objects[1].visited);
}

TEST_F(SieveTest, a_limit_of_steps_is_kept_and_still_yields_a_victim) {
    insert({1, 2, 3, 4, 5});
    touch({1, 2, 3, 4, 5});
    EXPECT_EQ(sieve.victim(links, 2), 3u);
    EXPECT_FALSE(objects[1].visited);
    EXPECT_FALSE(objects[2].visited);
    EXPECT_TRUE(objects[3].visited);
    EXPECT_EQ(sieve.victim(links, 0), 3u);
}

TEST_F(SieveTest, bits_set_again_at_once_do_not_make_it_endless) {
    struct Sticky {
        Links inner;
        Ref& newer(Ref ref) { return inner.newer(ref); }
        Ref& older(Ref ref) { return inner.older(ref); }
        bool visited(Ref) { return true; }
        void set_visited(Ref, bool) {}
    };
    Sieve<Sticky> sticky;
    Sticky view{links};
    for (Ref ref = 1; ref <= 5; ++ref)
        sticky.insert(view, ref);
    EXPECT_NE(sticky.victim(view), kNullRef);
}

// Every operation in a random order, against the algorithm written down over a std::list.
TEST_F(SieveTest, agrees_with_a_model_under_random_operations) {
    std::mt19937 random(3);
    std::list<Ref> model;  // newest first
    auto hand = model.end();
    std::vector<bool> visited(64);
    const auto newer = [&](std::list<Ref>::iterator it) {
        return it == model.begin() ? model.end() : std::prev(it);
    };
    for (int step = 0; step < 200000; ++step) {
        const Ref ref = 1 + random() % 63;
        const auto it = std::find(model.begin(), model.end(), ref);
        switch (random() % 8) {
            case 0:
                if (it == model.end()) break;
                if (hand == it) hand = newer(it);
                model.erase(it);
                sieve.remove(links, ref);
                break;
            case 1: {
                if (model.empty()) break;
                if (hand == model.end()) hand = std::prev(model.end());
                while (visited[*hand]) {
                    visited[*hand] = false;
                    hand = newer(hand);
                    if (hand == model.end()) hand = std::prev(model.end());
                }
                ASSERT_EQ(sieve.victim(links), *hand);
                sieve.remove(links, *hand);
                const auto out = hand;
                hand = newer(hand);
                model.erase(out);
                break;
            }
            default:
                if (it != model.end()) {
                    visited[ref] = true;
                    Sieve<Links>::touch(links, ref);
                } else {
                    visited[ref] = false;
                    model.push_front(ref);
                    sieve.insert(links, ref);
                }
        }
        ASSERT_EQ(sieve.count(), model.size());
        if (step % 64 == 0) {
            ASSERT_TRUE(sieve.check(links));
            ASSERT_EQ(from_newest(), std::vector<Ref>(model.begin(), model.end()));
        }
    }
}

struct Request {
    std::uint64_t id;
    std::uint32_t size;
};

// The block accesses of a virtual machine, from the traces published with the SIEVE paper. Records of 24
// bytes, little-endian: u32 time, u64 object, u32 size in bytes, i64 next access.
std::vector<Request> read_trace() {
    std::vector<std::filesystem::path> places;
    if (const char* path = std::getenv("CACHE_EXT_TRACE")) {
        places.emplace_back(path);
    } else {
        const char* const file = "shared/traces/cloudPhysicsIO.oracleGeneral.bin";
        std::error_code error;
        auto place = std::filesystem::absolute(__FILE__, error).parent_path();
        for (; place.has_relative_path(); place = place.parent_path())
            places.push_back(place / file);
        place = std::filesystem::current_path(error);
        for (; place.has_relative_path(); place = place.parent_path())
            places.push_back(place / file);
    }
    std::vector<Request> requests;
    for (const auto& path : places) {
        std::FILE* file = std::fopen(path.c_str(), "rb");
        if (file == nullptr) continue;
        unsigned char record[24];
        while (std::fread(record, sizeof record, 1, file) == 1) {
            Request request;
            std::memcpy(&request.id, record + 4, 8);
            std::memcpy(&request.size, record + 12, 4);
            requests.push_back(request);
        }
        std::fclose(file);
        break;
    }
    return requests;
}

std::uint32_t sieve_misses(const std::vector<Request>& requests, std::uint64_t capacity) {
    std::vector<Object> objects(1);
    std::vector<Request> held(1);
    std::vector<Ref> unused;
    std::unordered_map<std::uint64_t, Ref> index;
    Links links{&objects};
    Sieve<Links> sieve;
    std::uint64_t used = 0;
    std::uint32_t misses = 0;
    for (const Request& request : requests) {
        if (const auto it = index.find(request.id); it != index.end()) {
            Sieve<Links>::touch(links, it->second);
            used += request.size - std::uint64_t{held[it->second].size};
            held[it->second].size = request.size;
            continue;
        }
        ++misses;
        if (request.size > capacity) continue;
        while (used + request.size > capacity) {
            const Ref victim = sieve.victim(links);
            sieve.remove(links, victim);
            index.erase(held[victim].id);
            used -= held[victim].size;
            unused.push_back(victim);
        }
        Ref ref;
        if (unused.empty()) {
            ref = static_cast<Ref>(objects.size());
            objects.emplace_back();
            held.emplace_back();
        } else {
            ref = unused.back();
            unused.pop_back();
        }
        held[ref] = request;
        sieve.insert(links, ref);
        index.emplace(request.id, ref);
        used += request.size;
    }
    EXPECT_TRUE(sieve.check(links));
    return misses;
}

std::uint32_t lru_misses(const std::vector<Request>& requests, std::uint64_t capacity) {
    std::list<Request> newest_first;
    std::unordered_map<std::uint64_t, std::list<Request>::iterator> index;
    std::uint64_t used = 0;
    std::uint32_t misses = 0;
    for (const Request& request : requests) {
        if (const auto it = index.find(request.id); it != index.end()) {
            used += request.size - std::uint64_t{it->second->size};
            it->second->size = request.size;
            newest_first.splice(newest_first.begin(), newest_first, it->second);
            continue;
        }
        ++misses;
        if (request.size > capacity) continue;
        while (used + request.size > capacity) {
            used -= newest_first.back().size;
            index.erase(newest_first.back().id);
            newest_first.pop_back();
        }
        newest_first.push_front(request);
        index.emplace(request.id, newest_first.begin());
        used += request.size;
    }
    return misses;
}

TEST(SieveTrace, misses_as_often_as_published) {
    const std::vector<Request> requests = read_trace();
    if (requests.empty()) GTEST_SKIP() << "no trace: set CACHE_EXT_TRACE to cloudPhysicsIO.oracleGeneral.bin";
    ASSERT_EQ(requests.size(), 113872u);
    const std::uint32_t sieve[] = {91699, 86720, 78578, 76707, 69945, 66221, 64445, 64376};
    const std::uint32_t lru[] = {93374, 89783, 83572, 81722, 72494, 72104, 71972, 71704};
    for (std::uint64_t i = 0; i < 8; ++i) {
        const std::uint64_t capacity = (i + 1) * 128 << 20;
        EXPECT_EQ(sieve_misses(requests, capacity), sieve[i]) << "SIEVE, bytes: " << capacity;
        EXPECT_EQ(lru_misses(requests, capacity), lru[i]) << "LRU, bytes: " << capacity;
    }
}

}  // namespace
}  // namespace cache_ext::core
