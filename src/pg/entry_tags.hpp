#pragma once

// What an entry depends on, copied out of the region.

#include <span>
#include <string_view>

#include "core/store.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// The tags and the relations of one entry. Large, and trivially copyable: may lie on the stack across calls into the server.
class EntryTags {
public:
    EntryTags() noexcept {}  // most of it is never used
    EntryTags(const EntryTags&) = delete;
    EntryTags& operator=(const EntryTags&) = delete;

    /// Copies what the entry of this key has. `expected`, if given, is what a look-up found. False: there is none, or it is another one by now.
    bool copy(const core::Scope& scope, std::string_view key,
              const core::Lookup* expected = nullptr) noexcept;

    std::span<const std::string_view> tags() const noexcept {
        return {reinterpret_cast<const std::string_view*>(tags_), tag_count_};
    }
    /// kAnyRelation is among them where what the entry was computed from was tracked.
    std::span<const Oid> relations() const noexcept { return {relations_, relation_count_}; }

private:
    std::size_t tag_count_ = 0;
    std::size_t relation_count_ = 0;
    alignas(std::string_view) std::byte tags_[core::kMaxTags * sizeof(std::string_view)];
    Oid relations_[core::kMaxTags];
    char text_[core::kMaxTags * core::kMaxTagBytes];
};

}  // namespace cache_ext::pg
