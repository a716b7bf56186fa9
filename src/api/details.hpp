#pragma once

// The description of what was found under a key: what an entry says of itself beside its value.

#include <cstdint>
#include <string_view>

#include "api/context.hpp"
#include "core/store.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

/// Large, and trivially copyable: may lie on the stack across calls into the server. The tags point into it, or into the pending set.
struct Details {
    std::string_view tags[core::kMaxTags];
    int tag_count = 0;
    bool has_relations = false;  ///< it depends on relations beside its tags
    core::Timestamp created_at = 0;
    core::Timestamp expires_at = 0;
    core::Timestamp last_accessed = 0;
    std::uint32_t hits = 0;
    std::uint64_t size_bytes = 0;  ///< of all that it takes
    char text[core::kMaxTags * core::kMaxTagBytes];
};

/// Describes what `found` is, in this scope. False: the region has another entry there by now, or none, and `out` says nothing.
bool describe(const Visible& found, const core::Id128& scope, std::string_view key, Details& out) noexcept;

/// Texts as an array of the server's.
Datum texts_to_array(const std::string_view* texts, int count);

}  // namespace cache_ext::api
