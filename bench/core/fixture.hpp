#pragma once

// A region in this process, filled with entries of 1 kB, for the benchmarks of the core.

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "core/region.hpp"

namespace cache_ext::bench {

inline constexpr core::Timestamp kNow = 800'000'000'000'000;
inline constexpr std::size_t kValueBytes = 1024;

class Filled {
public:
    explicit Filled(std::uint32_t entries) {
        bytes_ = std::size_t{64} * 1024 * 1024 + std::size_t{entries} * 1300;
        memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        core::RegionOptions options;
        options.bytes = bytes_;
        options.sessions = 4;
        options.prepared = 1;
        options.seed = 42;
        region_ = core::Region::create(memory_, options);
        if (!region_) std::abort();
        for (std::uint32_t n = 0; n < entries; ++n) {
            if (!put(n, "group:" + std::to_string(n % 100))) std::abort();
        }
    }
    ~Filled() { munmap(memory_, bytes_); }
    Filled(const Filled&) = delete;
    Filled& operator=(const Filled&) = delete;

    core::Region& region() noexcept { return region_; }
    core::Base base() const noexcept { return region_.base(); }
    core::Store& store() const noexcept { return region_.store(); }

    static std::string key_text(std::uint32_t n) {
        const std::string digits = std::to_string(n);
        return "db_query:products:" + std::string(8 - std::min<std::size_t>(8, digits.size()), '0') + digits;
    }
    core::Key key(std::string_view text) const noexcept {
        return {scope_.id, text, store().key_hash(scope_.id, text)};
    }
    core::TagName tag(std::string_view text) const noexcept {
        return {scope_.space, text, store().tags().hash(scope_.space, text)};
    }

    /// Stores an entry with two tags, one of which all carry.
    bool put(std::uint32_t n, std::string_view second_tag) {
        const std::string text = key_text(n);
        const core::TagName tags[] = {tag("all"), tag(second_tag)};
        core::NewEntry entry;
        entry.scope = &scope_;
        entry.key = key(text);
        entry.tags = tags;
        entry.value = value_;
        entry.birth = region_.clock().now();
        entry.created_at = entry.now = kNow;
        entry.expires_at = kNow + 3'600'000'000;
        return store().put(base(), region_.session(0), entry, {}) == core::Put::kStored;
    }

private:
    std::size_t bytes_;
    void* memory_;
    core::Region region_;
    core::Scope scope_{{1, 2}, {3, 4}, {}, false};
    std::vector<std::byte> value_{kValueBytes, std::byte{'x'}};
};

/// Numbers below `limit` in random order, as texts of keys.
inline std::vector<std::string> random_keys(std::uint32_t limit, std::size_t count) {
    std::mt19937 random(7);
    std::vector<std::string> keys;
    keys.reserve(count);
    for (std::size_t i = 0; i < count; ++i)
        keys.push_back(Filled::key_text(random() % limit));
    return keys;
}

}  // namespace cache_ext::bench
