// What a transaction has pending, against a model of it that forgets by copying: sets, invalidations and savepoints at random.

#include "pg/pending.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <vector>

#include "pg/number_table.hpp"

namespace cache_ext::pg {
namespace {

constexpr core::Scope kScope{{1, 2}, {3, 4}, {}, false};

struct Model {
    std::map<std::string, std::pair<std::string, std::vector<std::string>>> sets;
    std::map<std::string, Sequence> tags;
};

std::string text_of(std::uint64_t n, std::size_t bytes) {
    return std::string(bytes, static_cast<char>('a' + n % 26)) + std::to_string(n);
}

void expect_same(const Pending& pending, const Model& model) {
    std::size_t seen = 0;
    pending.for_each_set([&](const PendingSet& set) {
        ++seen;
        const auto at = model.sets.find(std::string(set.key));
        ASSERT_NE(at, model.sets.end());
        EXPECT_EQ(std::string(reinterpret_cast<const char*>(set.value.data()), set.value.size()),
                  at->second.first);
        EXPECT_EQ(std::vector<std::string>(set.tags.begin(), set.tags.end()), at->second.second);
        EXPECT_EQ(pending.find_set(kScope.id, set.key), &set);
    });
    EXPECT_EQ(seen, model.sets.size());
    for (std::uint64_t n = 0; n < 20; ++n) {
        const std::string tag = "tag" + std::to_string(n);
        const std::string_view tags[] = {tag};
        const auto at = model.tags.find(tag);
        EXPECT_EQ(pending.invalidated_at(kScope, "no such key", tags) != 0, at != model.tags.end());
    }
}

TEST(Pending, agrees_with_a_model_through_savepoints) {
    std::mt19937_64 random(1);
    for (int transaction = 0; transaction < 60; ++transaction) {
        Pending pending;
        Model now;
        std::vector<Model> savepoints;
        const std::size_t largest = transaction % 10 == 0 ? 50'000 : 300;
        for (int step = 0; step < 120; ++step) {
            const int level = static_cast<int>(savepoints.size()) + 1;
            const std::uint64_t n = random() % 20;
            switch (random() % 8) {
                case 0:
                    if (level < 6) savepoints.push_back(now);
                    break;
                case 1:
                    if (savepoints.empty()) break;
                    pending.roll_back(level);
                    now = savepoints.back();
                    savepoints.pop_back();
                    break;
                case 2:
                    if (savepoints.empty()) break;
                    pending.release(level);
                    savepoints.pop_back();
                    break;
                case 3: {
                    const std::string tag = "tag" + std::to_string(n);
                    pending.invalidate(InvalidationKind::kTag, kScope, tag, level);
                    now.tags[tag] = 1;
                    break;
                }
                default: {
                    const std::string key = text_of(n, 8);
                    const std::string value = text_of(random(), random() % largest);
                    const std::vector<std::string> tags = {text_of(random() % 5, 3),
                                                           text_of(7, random() % 200)};
                    const std::vector<std::string_view> views(tags.begin(), tags.end());
                    PendingSet set{};
                    set.level = level;
                    set.scope = kScope;
                    set.key = key;
                    set.tags = views;
                    set.value = std::as_bytes(std::span(value));
                    pending.add(set);
                    now.sets[key] = {value, tags};
                }
            }
            expect_same(pending, now);
        }
        pending.clear();
        expect_same(pending, {});
    }
}

TEST(NumberTable, agrees_with_a_map) {
    std::mt19937_64 random(2);
    NumberTable table;
    std::map<std::uint64_t, std::uint64_t> model;
    for (int step = 0; step < 200'000; ++step) {
        const std::uint64_t hash = random() % 64 * 0x100000001ULL;  // of which many share their place
        if (step % 50'000 == 49'999) {
            table.clear();
            model.clear();
        } else if (random() % 3 != 0) {
            table.reserve_one();
            table.set(hash, static_cast<std::uint64_t>(step) + 1);
            model[hash] = static_cast<std::uint64_t>(step) + 1;
        } else {
            table.erase(hash);
            model.erase(hash);
        }
        const std::uint64_t other = random() % 64 * 0x100000001ULL;
        ASSERT_EQ(table.find(other), model.contains(other) ? model[other] : 0);
    }
    std::size_t count = 0;
    table.for_each([&](std::uint64_t) { ++count; });
    EXPECT_EQ(count, model.size());
}

TEST(Arena, is_rewound_and_used_again) {
    Arena arena;
    const Arena::Mark start = arena.mark();
    std::byte* const first = arena.allocate(100);
    for (const std::size_t bytes :
         {std::size_t{20'000}, std::size_t{5'000'000}, std::size_t{0}, std::size_t{1}}) {
        std::byte* const at = arena.allocate(bytes);
        std::fill_n(at, bytes, std::byte{1});
    }
    arena.rewind(start);
    EXPECT_EQ(arena.allocate(50), first);
    arena.clear();
    EXPECT_EQ(arena.allocate(50), first);
}

}  // namespace
}  // namespace cache_ext::pg
