#pragma once

// Which shared results of cached functions are used most: in the region, and in a table that outlives it (cache_ext_internal.warm_list).

#include <string_view>

#include "core/store.hpp"
#include "pg/prelude.hpp"
#include "pg/space.hpp"

namespace cache_ext::api {

/// A key, and how often its result was read.
struct UsedKey {
    std::int64_t hits;
    std::string_view key;
};

/// The most used of many keys, at most kMost of them; of equals those that sort first. Copies them into the memory context that is current when it is made. Trivial.
class MostUsed {
public:
    static constexpr int kMost = 1000;

    MostUsed() noexcept = default;
    static MostUsed make();

    void add(std::int64_t hits, std::string_view key);
    /// The most used first. Nothing is added any more after that.
    void sort() noexcept;

    int count() const noexcept { return count_; }
    const UsedKey& operator[](int i) const noexcept { return keys_[i]; }

private:
    MemoryContext memory_ = nullptr;
    UsedKey* keys_ = nullptr;
    int count_ = 0;
};

/// Which entries of the region are meant.
enum class InRegion : std::uint8_t {
    kAll,       ///< whatever is still there
    kNotFresh,  ///< those that readers are not given, or marked as stale
    kStale,     ///< those in their grace
};

/// Adds the shared results of cached functions in the region. `wanted` says which keys. May raise.
using WantsKey = bool (*)(const void* context, std::string_view key);
void add_from_region(MostUsed& most, InRegion which, WantsKey wanted, const void* context);

/// The same of those that were noted in the table. Nothing while somebody has locked that. May raise.
void add_from_list(MostUsed& most, WantsKey wanted, const void* context);

/// Notes in the table which are used most at present; before a sweep, which removes some of them. Leaves it out where that cannot be done at once. Needs a transaction
/// that may write, and whoever calls it may do as pg::caller() does.
void note_most_used();

}  // namespace cache_ext::api
