#include "core/archive.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>

namespace cache_ext::core {
namespace {

constexpr Timestamp kNow = 800'000'000'000'000;

struct ArchiveRegion {
    std::unique_ptr<void, decltype(&std::free)> memory;
    Region region;

    explicit ArchiveRegion(std::uint64_t seed, std::size_t bytes = 4 << 20)
        : memory(std::aligned_alloc(4096, bytes), &std::free) {
        std::memset(memory.get(), 0, bytes);
        RegionOptions options;
        options.bytes = bytes;
        options.sessions = 2;
        options.prepared = 2;
        options.seed = seed;
        region = Region::create(memory.get(), options);
    }

    Put put(const Scope& scope, std::string_view key, std::string_view value,
            std::initializer_list<std::string_view> tags = {}, Timestamp expires_at = kNow + 1000,
            std::uint32_t grace_ms = 0) const {
        Store& store = region.store();
        std::vector<TagName> names;
        for (const auto tag : tags)
            names.push_back({scope.space, tag, store.tags().hash(scope.space, tag)});
        NewEntry e;
        e.scope = &scope;
        e.key = {scope.id, key, store.key_hash(scope.id, key)};
        e.tags = names;
        e.value = std::as_bytes(std::span(value));
        e.birth = region.clock().now();
        e.created_at = kNow - 5'000'000;
        e.expires_at = expires_at;
        e.compute_us = 7;
        e.grace_ms = grace_ms;
        e.now = kNow;
        return store.put(region.base(), region.session(0), e, {});
    }

    Found find(const Scope& scope, std::string_view key, std::string* value = nullptr) const {
        Store& store = region.store();
        Lookup found;
        const Found result = store.find(region.base(), {scope.id, key, store.key_hash(scope.id, key)},
                                        region.clock().now(), kNow, found);
        if (result == Found::kHit) {
            store.touch(region.base(), found, kNow);
            if (value != nullptr) {
                value->resize(found.value_bytes);
                EXPECT_TRUE(store.copy(region.base(), found, value->data()));
            }
        }
        return result;
    }

    Version invalidate(const Scope& scope, std::string_view tag) const {
        const Version version = region.clock().stamp(region.session(1).mark, 10);
        region.store().stamp_tag(region.base(),
                                 {scope.space, tag, region.store().tags().hash(scope.space, tag)}, version);
        region.session(1).mark.version.store(0);
        return version;
    }

    std::uint32_t entries() const { return region.store().usage().entries; }
};

struct Bytes {
    std::vector<std::byte> bytes;
    std::size_t at = 0;
    std::size_t room = SIZE_MAX;

    static bool sink(void* self, const void* from, std::size_t size) noexcept {
        auto& b = *static_cast<Bytes*>(self);
        if (b.bytes.size() + size > b.room) return false;
        const auto* p = static_cast<const std::byte*>(from);
        b.bytes.insert(b.bytes.end(), p, p + size);
        return true;
    }
    static std::size_t source(void* self, void* to, std::size_t size) noexcept {
        auto& b = *static_cast<Bytes*>(self);
        size = std::min(size, b.bytes.size() - b.at);
        if (size > 0) std::memcpy(to, b.bytes.data() + b.at, size);
        b.at += size;
        return size;
    }
};

const Scope kShared{{1, 2}, {3, 4}, {}, false};
const Scope kMine{{5, 6}, {3, 4}, {7, 8}, true};
const Scope kMineElsewhere{{9, 10}, {3, 4}, {7, 8}, true};

ArchiveOrigin origin() {
    ArchiveOrigin o;
    for (std::size_t i = 0; i < o.words.size(); ++i)
        o.words[i] = i * 1000 + 1;
    return o;
}

Bytes archive(const Region& region, Timestamp now = kNow) {
    Bytes b;
    ArchiveWriter writer(Bytes::sink, &b);
    EXPECT_TRUE(writer.begin(origin()) && save(region, writer, now) && writer.end());
    return b;
}

bool any_encoding(Encoding) noexcept { return true; }

Restored read_back(Bytes& b, const Region& region, Timestamp now = kNow,
                   bool (*readable)(Encoding) noexcept = any_encoding) {
    b.at = 0;
    ArchiveReader reader(Bytes::source, &b, b.bytes.size());
    ArchiveOrigin o;
    if (!reader.begin(o) || !(o == origin())) return {};
    return restore(region, reader, {}, readable, now);
}

struct Facts {
    std::string tags;
    std::uint32_t hits, used_at, compute_us, grace_ms;
    Timestamp created_at, expires_at;
    Id128 owner;
    bool is_private;
    friend bool operator==(const Facts&, const Facts&) = default;
};

std::map<std::string, Facts> facts_of(const Region& region) {
    std::map<std::string, Facts> all;
    region.store().for_each_alone(region.base(), [&](const EntryInfo& e, bool) {
        Facts f{{},          e.hits,       e.used_at,    e.compute_us,
                e.grace_ms,  e.created_at, e.expires_at, region.store().owner_of(region.base(), e),
                e.is_private};
        for (std::uint32_t i = 0; i < e.tag_count; ++i)
            f.tags += std::string(Store::tag(region.base(), e.tags[i]).text()) + ";";
        all[std::string(e.key) + "/" + std::to_string(e.scope.hi)] = f;
    });
    return all;
}

TEST(Archive, brings_back_what_is_within_its_grace) {
    const ArchiveRegion before(1);
    ASSERT_EQ(before.put(kShared, "with", "1", {"t"}, kNow - 1, 10), Put::kStored);
    ASSERT_EQ(before.put(kShared, "over", "1", {"t"}, kNow - 10'000, 10), Put::kStored);
    ASSERT_EQ(before.put(kShared, "without", "1", {"t"}, kNow - 1, 0), Put::kStored);
    Bytes b = archive(before.region);
    const ArchiveRegion after(2);
    const Restored restored = read_back(b, after.region);
    EXPECT_TRUE(restored.complete);
    EXPECT_EQ(restored.entries, 1u);
    EXPECT_EQ(after.find(kShared, "with"), Found::kStale);
}

TEST(Archive, brings_everything_back) {
    const ArchiveRegion before(1);
    const std::string large(200'000, 'x');
    ASSERT_EQ(before.put(kShared, "a", "1", {"t", "u"}), Put::kStored);
    ASSERT_EQ(before.put(kShared, "large", large, {"t"}), Put::kStored);
    ASSERT_EQ(before.put(kMine, "a", "mine"), Put::kStored);
    ASSERT_EQ(before.put(kMineElsewhere, "a", "elsewhere", {"u"}), Put::kStored);
    ASSERT_EQ(before.put(kShared, "empty", "", {}, kNow + 1000, 5000), Put::kStored);
    EXPECT_EQ(before.region.duties().note({3, 4}, 16384, kNow - 50), 0);
    Lookup found;
    Store& store = before.region.store();
    ASSERT_EQ(
        store.find(before.region.base(), {kMine.id, "a", store.key_hash(kMine.id, "a")}, 1, kNow, found),
        Found::kHit);
    for (int i = 0; i < 3; ++i)
        store.count_hit(before.region.base(), before.region.session(1), found, kNow);

    Bytes b = archive(before.region);
    const ArchiveRegion after(2);
    const Restored restored = read_back(b, after.region);
    EXPECT_TRUE(restored.complete);
    EXPECT_EQ(restored.entries, 5u);
    EXPECT_EQ(facts_of(before.region), facts_of(after.region));
    EXPECT_EQ(facts_of(after.region).at("a/5").hits, 3u);
    EXPECT_EQ(facts_of(after.region).at("empty/1").grace_ms, 5000u);
    std::string value;
    EXPECT_EQ(after.find(kShared, "large", &value), Found::kHit);
    EXPECT_EQ(value, large);
    EXPECT_EQ(after.find(kMineElsewhere, "a", &value), Found::kHit);
    EXPECT_EQ(value, "elsewhere");
    EXPECT_EQ(after.region.duties().get(0).database, 16384u);
    EXPECT_EQ(after.region.duties().get(0).swept_at, kNow - 50);
    EXPECT_TRUE(after.region.store().check(after.region.base()));
}

TEST(Archive, what_comes_back_can_be_invalidated) {
    const ArchiveRegion before(1);
    before.invalidate(kShared, "other");  // the old clock is ahead
    ASSERT_EQ(before.put(kShared, "a", "1", {"t"}), Put::kStored);
    ASSERT_EQ(before.put(kShared, "b", "1", {"other"}), Put::kStored);
    Bytes b = archive(before.region);
    const ArchiveRegion after(2);
    ASSERT_TRUE(read_back(b, after.region).complete);
    EXPECT_EQ(after.find(kShared, "a"), Found::kHit);
    after.invalidate(kShared, "t");
    EXPECT_EQ(after.find(kShared, "a"), Found::kInvalidated);
    EXPECT_EQ(after.find(kShared, "b"), Found::kHit);
}

TEST(Archive, what_an_entry_depends_on_is_watched_again) {
    const ArchiveRegion before(1);
    const Id128 relations{77, 5};
    const auto name = [&](const Region& region, std::string_view text) {
        return TagName{relations, text, region.store().tags().hash(relations, text)};
    };
    const std::array<TagName, 3> tags{
        TagName{kShared.space, "16385", before.region.store().tags().hash(kShared.space, "16385")},
        name(before.region, "16384"), name(before.region, "0")};
    NewEntry e;
    e.scope = &kShared;
    e.key = {kShared.id, "a", before.region.store().key_hash(kShared.id, "a")};
    e.tags = tags;
    e.birth = before.region.clock().now();
    e.created_at = kNow;
    e.expires_at = kNow + 1000;
    e.now = kNow;
    ASSERT_EQ(before.region.store().put(before.region.base(), before.region.session(0), e, {}), Put::kStored);
    Bytes b = archive(before.region);

    for (const bool is_relation : {true, false}) {
        const ArchiveRegion after(2);
        ASSERT_TRUE(read_back(b, after.region).complete);
        const Watches& watches = after.region.watches();
        EXPECT_TRUE(watches.any());
        EXPECT_TRUE(watches.watched(Watches::hash(relations, 16384)) &&
                    watches.watched(Watches::hash(relations, 0)));
        EXPECT_FALSE(watches.watched(Watches::hash(relations, 16385))) << "a user's tag";
        std::vector<std::uint32_t> databases;
        EXPECT_TRUE(watches.visit_databases([&](std::uint32_t d) { databases.push_back(d); }));
        EXPECT_EQ(databases, std::vector<std::uint32_t>{5}) << "for changes that concern all databases";
        ASSERT_EQ(after.find(kShared, "a"), Found::kHit);
        const Version version = after.region.clock().stamp(after.region.session(1).mark, 10);
        after.region.store().stamp_tag(
            after.region.base(), is_relation ? name(after.region, "16384") : name(after.region, "16385"),
            version);
        EXPECT_EQ(after.find(kShared, "a"), is_relation ? Found::kInvalidated : Found::kHit);
    }
}

TEST(Archive, leaves_out_what_is_over_or_invalid) {
    const ArchiveRegion before(1);
    ASSERT_EQ(before.put(kShared, "dead", "1", {"t"}), Put::kStored);
    ASSERT_EQ(before.put(kShared, "expired", "1", {}, kNow + 1), Put::kStored);
    ASSERT_EQ(before.put(kShared, "expires", "1", {}, kNow + 10), Put::kStored);
    ASSERT_EQ(before.put(kShared, "alive", "1"), Put::kStored);
    before.invalidate(kShared, "t");
    Bytes b = archive(before.region, kNow + 2);
    const ArchiveRegion after(2);
    EXPECT_EQ(read_back(b, after.region, kNow + 10).entries, 1u);
    EXPECT_EQ(after.find(kShared, "alive"), Found::kHit);
}

TEST(Archive, leaves_out_what_cannot_be_read) {
    const ArchiveRegion before(1);
    ASSERT_EQ(before.put(kShared, "a", "1"), Put::kStored);
    Bytes b = archive(before.region);
    const ArchiveRegion after(2);
    const Restored restored = read_back(b, after.region, kNow, [](Encoding) noexcept { return false; });
    EXPECT_TRUE(restored.complete);
    EXPECT_EQ(after.entries(), 0u);
}

TEST(Archive, fits_a_smaller_region_by_evicting_the_oldest) {
    const ArchiveRegion before(1, 8 << 20);
    const std::string value(10'000, 'v');
    for (int i = 0; i < 400; ++i)
        ASSERT_EQ(before.put(kShared, "k" + std::to_string(i), value), Put::kStored);
    Bytes b = archive(before.region);
    const ArchiveRegion after(2, 2 << 20);
    EXPECT_TRUE(read_back(b, after.region).complete);
    EXPECT_GT(after.entries(), 50u);
    EXPECT_LT(after.entries(), 250u);
    EXPECT_EQ(after.find(kShared, "k399"), Found::kHit);
    EXPECT_EQ(after.find(kShared, "k0"), Found::kAbsent);
    EXPECT_TRUE(after.region.store().check(after.region.base()));
}

TEST(Archive, any_truncation_leaves_nothing) {
    const ArchiveRegion before(1);
    before.region.duties().note({3, 4}, 5, kNow);
    for (int i = 0; i < 5; ++i)
        ASSERT_EQ(before.put(i % 2 ? kShared : kMine, "k" + std::to_string(i), "value", {"t"}), Put::kStored);
    const Bytes whole = archive(before.region);
    const ArchiveRegion after(2);
    for (std::size_t size = 0; size < whole.bytes.size(); ++size) {
        Bytes b = whole;
        b.bytes.resize(size);
        EXPECT_FALSE(read_back(b, after.region).complete) << size;
        EXPECT_EQ(after.entries(), 0u);
    }
    Bytes longer = whole;
    longer.bytes.push_back(std::byte{0});
    EXPECT_FALSE(read_back(longer, after.region).complete);
    EXPECT_EQ(after.region.duties().get(0).database, 0u);
}

TEST(Archive, any_flipped_bit_leaves_nothing) {
    const ArchiveRegion before(1);
    for (int i = 0; i < 3; ++i)
        ASSERT_EQ(before.put(i % 2 ? kShared : kMine, "k" + std::to_string(i), "value", {"t"}), Put::kStored);
    const Bytes whole = archive(before.region);
    const ArchiveRegion after(2);
    for (std::size_t bit = 0; bit < whole.bytes.size() * 8; ++bit) {
        Bytes b = whole;
        b.bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
        EXPECT_FALSE(read_back(b, after.region).complete) << bit;
        EXPECT_EQ(after.entries(), 0u);
    }
}

TEST(Archive, garbage_behind_good_checksums_does_no_harm) {
    const ArchiveRegion before(1);
    before.region.duties().note({3, 4}, 5, kNow);
    for (int i = 0; i < 8; ++i)
        ASSERT_EQ(before.put(i % 2 ? kShared : kMine, "k" + std::to_string(i), "value", {"t", "u"}),
                  Put::kStored);
    const Bytes whole = archive(before.region);
    std::mt19937_64 random(7);
    const ArchiveRegion after(2);
    for (int round = 0; round < 3000; ++round) {
        Bytes b = whole;
        for (int i = 0; i < 3; ++i)
            b.bytes[random() % b.bytes.size()] = static_cast<std::byte>(random());
        ArchiveReader reader(Bytes::source, &b, b.bytes.size());
        reader.trust_checksums();
        ArchiveOrigin o;
        if (!reader.begin(o)) continue;
        restore(after.region, reader, {}, any_encoding, kNow);
        ASSERT_TRUE(after.region.store().check(after.region.base()));
        clear(after.region);
        ASSERT_EQ(after.entries(), 0u);
    }
}

TEST(Archive, tells_when_it_cannot_be_written) {
    const ArchiveRegion before(1);
    ASSERT_EQ(before.put(kShared, "a", "1"), Put::kStored);
    const std::size_t size = archive(before.region).bytes.size();
    for (std::size_t room = 0; room < size; room += 13) {
        Bytes b;
        b.room = room;
        ArchiveWriter writer(Bytes::sink, &b);
        EXPECT_FALSE(writer.begin(origin()) && save(before.region, writer, kNow) && writer.end());
    }
}

// --- duties -------------------------------------------------------------------------------------------

constexpr Timestamp kInterval = 3'600'000'000;

TEST(Duties, a_sweep_is_due_after_the_interval) {
    const ArchiveRegion r(1);
    Duties& d = r.region.duties();
    const Id128 space{1, 1};
    EXPECT_EQ(d.find(space), -1);
    ASSERT_EQ(d.note(space, 5, kNow), 0);
    EXPECT_EQ(d.find(space), 0);
    EXPECT_FALSE(d.due(0, kNow + kInterval - 1, kInterval));
    EXPECT_TRUE(d.due(0, kNow + kInterval, kInterval));
    EXPECT_TRUE(d.due(0, kNow - 1, kInterval) == false);
    EXPECT_TRUE(d.due(0, kNow - 2 * kInterval, kInterval));  // the clock was set back
    d.swept(space, 3, 4, kNow + kInterval);
    EXPECT_FALSE(d.due(0, kNow + kInterval, kInterval));
    EXPECT_EQ(d.get(0).expired, 3u);
    EXPECT_EQ(d.get(0).dead, 4u);
    EXPECT_EQ(d.get(0).sweeps, 1u);
}

TEST(Duties, a_new_space_takes_its_databases_place) {
    const ArchiveRegion r(1);
    Duties& d = r.region.duties();
    ASSERT_EQ(d.note({1, 1}, 5, kNow), 0);
    ASSERT_EQ(d.note({2, 2}, 5, kNow), 0);
    EXPECT_EQ(d.find({1, 1}), -1);
    EXPECT_EQ(d.find({2, 2}), 0);
    d.forget({2, 2});
    EXPECT_EQ(d.get(0).database, 0u);
}

TEST(Duties, are_bounded) {
    const ArchiveRegion r(1);
    Duties& d = r.region.duties();
    for (std::uint32_t i = 0; i < Duties::kDatabases; ++i)
        ASSERT_GE(d.note({i, i + 1}, i + 1, kNow), 0);
    EXPECT_EQ(d.note({100, 100}, 100, kNow), -1);
    d.forget({7, 8});
    EXPECT_EQ(d.note({100, 100}, 100, kNow), 7);
}

TEST(Duties, two_workers_at_most_and_one_a_database) {
    const ArchiveRegion r(1);
    Duties& d = r.region.duties();
    const Timestamp due = kNow + kInterval;
    for (std::uint32_t i = 0; i < 3; ++i)
        d.note({i, 1}, i + 1, kNow);
    const std::int32_t first = d.take_seat(0, due, kInterval);
    ASSERT_GE(first, 0);
    EXPECT_EQ(d.take_seat(0, due, kInterval), -1);
    const std::int32_t second = d.take_seat(1, due, kInterval);
    ASSERT_GE(second, 0);
    EXPECT_EQ(d.take_seat(2, due, kInterval), -1);
    EXPECT_EQ(d.seated(), 0);
    EXPECT_FALSE(d.sit_down(first, 2, 11));
    EXPECT_TRUE(d.sit_down(first, 1, 11));
    EXPECT_FALSE(d.sit_down(first, 1, 12));
    EXPECT_EQ(d.seated(), 1);

    // The second one never comes: its seat is free again after a while.
    EXPECT_EQ(d.take_seat(2, due + Duties::kPatience - 1, kInterval), -1);
    EXPECT_EQ(d.take_seat(2, due + Duties::kPatience, kInterval), second);
    EXPECT_FALSE(d.sit_down(second, 2, 13));

    d.leave(first, 99);
    EXPECT_EQ(d.seated(), 1);
    d.leave(first, 11);
    EXPECT_EQ(d.seated(), 0);
    // It had not swept: it is tried again, but not at once.
    EXPECT_EQ(d.take_seat(0, due + 1, kInterval), -1);
    EXPECT_GE(d.take_seat(0, due + Duties::kPatience, kInterval), 0);
}

}  // namespace
}  // namespace cache_ext::core
