// A region to test with: small, in memory of its own, with short names for what tests say most often, and an audit that
// finds each byte of the region again.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "core/region.hpp"

namespace cache_ext::core {

/// How much longer than usual the randomized and the threaded tests run: CACHE_EXT_TEST_SCALE, by default 1; less under
/// ThreadSanitizer.
inline double test_scale() {
    const char* given = std::getenv("CACHE_EXT_TEST_SCALE");
    double scale = given == nullptr ? 1.0 : std::atof(given);
#if defined(__SANITIZE_THREAD__)
    scale *= 0.25;
#elif defined(__SANITIZE_ADDRESS__)
    scale *= 0.5;
#endif
    return scale;
}

inline Id128 id_of(std::uint64_t n) {
    return {0x9e3779b97f4a7c15ULL * (n + 1), 0xbf58476d1ce4e5b9ULL * (n + 7) ^ n};
}

inline Scope shared_scope(std::uint64_t n, std::uint64_t space = 0) {
    return {id_of(n), id_of(1'000'000 + space), Id128{}, false};
}

/// Never one that is shared too: a scope is one or the other.
inline Scope private_scope(std::uint64_t n, std::uint64_t owner, std::uint64_t space = 0) {
    return {id_of(4'000'000 + n), id_of(1'000'000 + space), id_of(2'000'000 + owner), true};
}

constexpr Timestamp kSecond = 1'000'000;
constexpr Timestamp kNow = 800'000'000 * kSecond;
constexpr Timestamp kNever = INT64_MAX;

/// Memory for a region; several views of it may lie at different addresses.
class RegionMemory {
public:
    explicit RegionMemory(std::size_t bytes) : bytes_(bytes) {
        fd_ = memfd_create("region", 0);
        if (fd_ < 0 || ftruncate(fd_, static_cast<off_t>(bytes)) != 0) std::abort();
    }
    RegionMemory(const RegionMemory&) = delete;
    RegionMemory& operator=(const RegionMemory&) = delete;
    ~RegionMemory() {
        for (void* at : maps_)
            munmap(at, bytes_);
        close(fd_);
    }
    void* map() {
        void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
        if (at == MAP_FAILED) std::abort();
        maps_.push_back(at);
        return at;
    }
    std::size_t bytes() const { return bytes_; }

private:
    int fd_ = -1;
    std::size_t bytes_;
    std::vector<void*> maps_;
};

struct PutOptions {
    Version birth = 0;  ///< 0: the clock's present value
    Timestamp expires_at = kNever;
    bool only_if_absent = false;
    std::uint32_t compute_us = 0;
    std::uint32_t grace_ms = 0;
    Encoding encoding = Encoding::kPlain;
    Timestamp now = kNow;
    unsigned session = 0;
    Quota quota = {};
};

class TestRegion {
public:
    /// 0 bytes: the smallest region that there is.
    explicit TestRegion(std::size_t bytes = 0, unsigned sessions = 4, unsigned prepared = 2,
                        std::uint64_t seed = 42)
        : options_(make_options(bytes, sessions, prepared, seed)), memory_(options_.bytes) {
        region = Region::create(memory_.map(), options_);
    }

    static RegionOptions make_options(std::size_t bytes, unsigned sessions, unsigned prepared,
                                      std::uint64_t seed) {
        RegionOptions options;
        options.sessions = sessions;
        options.prepared = prepared;
        options.seed = seed;
        options.instance = id_of(3'000'000);
        options.bytes = std::max(bytes, Region::smallest(options));
        return options;
    }

    Region second_view() { return Region::open(memory_.map()); }

    Store& store() const { return region.store(); }
    Base base() const { return region.base(); }
    Allocator& allocator() const { return region.store().allocator(); }
    Version now() const { return region.clock().now(); }

    Key key(const Scope& scope, std::string_view bytes) const {
        return {scope.id, bytes, store().key_hash(scope.id, bytes)};
    }
    TagName tag(std::string_view text, std::uint64_t space = 0) const {
        const Id128 id = id_of(1'000'000 + space);
        return {id, text, store().tags().hash(id, text)};
    }

    Put put(const Scope& scope, std::string_view name, std::string_view value,
            const std::vector<std::string>& tags = {}, const PutOptions& how = {}) {
        std::vector<TagName> names;
        for (const std::string& text : tags)
            names.push_back({scope.space, text, store().tags().hash(scope.space, text)});
        NewEntry entry;
        entry.scope = &scope;
        entry.key = key(scope, name);
        entry.tags = names;
        entry.value = std::as_bytes(std::span(value.data(), value.size()));
        entry.encoding = how.encoding;
        entry.birth = how.birth == 0 ? now() : how.birth;
        entry.created_at = how.now;
        entry.expires_at = how.expires_at;
        entry.compute_us = how.compute_us;
        entry.grace_ms = how.grace_ms;
        entry.only_if_absent = how.only_if_absent;
        entry.now = how.now;
        return store().put(base(), region.session(how.session), entry, how.quota);
    }

    Found find(const Scope& scope, std::string_view name, Lookup& out, Version clock = UINT64_MAX,
               Timestamp at = kNow) const {
        return store().find(base(), key(scope, name), clock, at, out);
    }
    Found look(const Scope& scope, std::string_view name, Version clock = UINT64_MAX,
               Timestamp at = kNow) const {
        Lookup out;
        return find(scope, name, out, clock, at);
    }
    /// The value that a reader gets, or nothing.
    std::optional<std::string> get(const Scope& scope, std::string_view name, Version clock = UINT64_MAX,
                                   Timestamp at = kNow) const {
        Lookup out;
        if (find(scope, name, out, clock, at) != Found::kHit) return {};
        std::string value(out.value_bytes, '\0');
        if (!store().copy(base(), out, value.data())) return {};
        return value;
    }

    /// A transaction that invalidates and commits at once: its version.
    Version stamp() {
        PendingMark mark{};
        return region.clock().stamp(mark, ++last_xid);
    }
    Version stamp_tag(std::string_view text, std::uint64_t space = 0) {
        const Version v = stamp();
        store().stamp_tag(base(), tag(text, space), v);
        return v;
    }
    Version stamp_key(const Scope& scope, std::string_view name, bool all_scopes = false) {
        const Version v = stamp();
        store().stamp_key(base(), scope, name, all_scopes, v);
        return v;
    }
    Version stamp_pattern(std::string_view pattern, const Id128* scope = nullptr, std::uint64_t space = 0) {
        const Version v = stamp();
        store().stamp_pattern(base(), id_of(1'000'000 + space), scope, pattern, v);
        return v;
    }
    Version stamp_space(std::uint64_t space = 0) {
        const Version v = stamp();
        store().stamp_space(base(), id_of(1'000'000 + space), v);
        return v;
    }

    std::uint32_t remove_all() {
        std::uint32_t removed = 0;
        for (std::uint32_t b = 0; b < store().bucket_count(); ++b) {
            removed += store().remove_if(base(), b, [](const EntryInfo&) { return true; });
        }
        return removed;
    }

    /// A copy of what the store tells of an entry.
    struct Info : EntryInfo {
        std::string key_text;
        std::vector<Ref> tag_refs;
    };
    std::vector<Info> entries() const {
        std::vector<Info> all;
        for (std::uint32_t b = 0; b < store().bucket_count(); ++b) {
            store().visit(base(), b, [&](const EntryInfo& e) {
                Info info;
                static_cast<EntryInfo&>(info) = e;
                info.key_text = e.key;
                info.tag_refs.assign(e.tags, e.tags + e.tag_count);
                all.push_back(info);
            });
        }
        return all;
    }

    /// Bytes of the blocks that the index keeps: pages of the table, those that were made ahead among them, and spare buckets.
    std::size_t index_blocks_bytes() const { return store().usage().index_bytes; }

    /// Everything agrees with everything else, and each byte in use belongs to something that is reachable. Under no concurrency.
    void audit() const {
        ASSERT_TRUE(store().check(base()));
        const Store::Usage usage = store().usage();
        std::size_t expected = 0;
        std::map<Ref, std::uint32_t> tags;
        std::map<std::pair<std::uint64_t, std::uint64_t>, bool> scopes;
        std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint64_t> scope_bytes;
        std::set<std::pair<std::uint64_t, std::string>> keys;
        std::uint32_t private_entries = 0;
        std::uint64_t private_bytes = 0;
        std::size_t count = 0;
        for (const Info& e : entries()) {
            ++count;
            expected += e.size_bytes;
            for (const Ref tag_ref : e.tag_refs)
                ++tags[tag_ref];
            scopes[{e.scope.hi, e.scope.lo}] = e.is_private;
            private_entries += e.is_private;
            private_bytes += e.is_private ? e.size_bytes : 0;
            ASSERT_TRUE(keys.insert({e.scope.hi, e.key_text}).second) << "linked twice: " << e.key_text;
        }
        ASSERT_EQ(usage.entries, count);
        ASSERT_EQ(usage.tags, tags.size());
        ASSERT_EQ(usage.scopes, scopes.size());
        ASSERT_EQ(usage.private_entries, private_entries);
        ASSERT_EQ(usage.private_bytes, private_bytes);
        for (const auto& [ref, carried] : tags) {
            ASSERT_EQ(base().at<TagSlot>(ref)->entries, carried);
            expected += allocator().usable_bytes(base(), ref) + Allocator::kHeaderBytes;
        }
        std::set<std::pair<std::uint64_t, std::uint64_t>> owners;
        for (const auto& [id, is_private] : scopes) {
            expected += Allocator::footprint(sizeof(ScopeNode));
            if (is_private) owners.insert(owner_of.at(id));
        }
        expected += owners.size() * Allocator::footprint(sizeof(OwnerNode));
        ASSERT_GE(usage.index_bytes, std::size_t{store().bucket_count()} * sizeof(Bucket));
        expected += index_blocks_bytes();
        ASSERT_EQ(usage.used_bytes, expected) << "used " << usage.used_bytes << ", reachable " << expected;
    }

    /// Makes the owner of a scope known to `audit`.
    Scope known(const Scope& scope) {
        owner_of[{scope.id.hi, scope.id.lo}] = {scope.owner.hi, scope.owner.lo};
        return scope;
    }

private:
    RegionOptions options_;
    RegionMemory memory_;

public:
    Region region;
    FullXid last_xid = 100;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::pair<std::uint64_t, std::uint64_t>> owner_of;
};

/// Text of a given length that tells where it is from.
inline std::string text_of(std::size_t bytes, std::uint64_t n) {
    std::string text(bytes, '\0');
    for (std::size_t i = 0; i < bytes; ++i)
        text[i] = static_cast<char>('a' + (n * 31 + i * 7 + i / 26) % 26);
    return text;
}

}  // namespace cache_ext::core
