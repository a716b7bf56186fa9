#pragma once

// Checks of what callers pass. A caller's mistake is an ERROR here, before anything else is looked at.

#include <cstdint>
#include <string_view>

#include "core/store.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

/// A cache key: not null, not empty, at most core::kMaxKeyBytes. Points into the (detoasted) argument.
std::string_view key_argument(FunctionCallInfo fcinfo, int number);

/// Checks one key; `what` names it in messages ("cache key").
std::string_view checked_key(text* value, const char* what);

/// A pattern over keys: as a key, and a valid glob.
std::string_view pattern_argument(FunctionCallInfo fcinfo, int number);

/// Tags of an array, without duplicates, in a palloc'd array. A null array is an empty one; a null, empty or too long
/// element is an error, and so are more than `limit`.
struct Texts {
    std::string_view* begin_ = nullptr;
    int count = 0;
    const std::string_view* begin() const noexcept { return begin_; }
    const std::string_view* end() const noexcept { return begin_ + count; }
};
Texts tags_argument(FunctionCallInfo fcinfo, int number, int limit);

/// Texts of an array that must not be null, in order, duplicates kept; `what` names an element in messages.
Texts texts_argument(FunctionCallInfo fcinfo, int number, const char* what);

/// A duration in microseconds: 0 for null; negative, zero and infinite ones are errors.
std::int64_t duration_argument(FunctionCallInfo fcinfo, int number);

/// A duration that is given as an interval, likewise.
std::int64_t checked_duration(const void* interval, const char* what);

/// An argument that must not be null.
void require_argument(FunctionCallInfo fcinfo, int number, const char* name);

/// A tag: not empty and at most core::kMaxTagBytes.
void check_tag(std::string_view tag);

}  // namespace cache_ext::api
