#pragma once

// As much JSON (RFC 8259) as the REST interface speaks.

#include <optional>
#include <string>
#include <string_view>

#include "redis/reply.hpp"

namespace cache_ext::redis {

/// Appends the text as a JSON string. False: it is not UTF-8, and `to` is as it was.
[[nodiscard]] bool append_json(std::string& to, std::string_view text);

/// A whole text, strictly: null is nil, a whole number an integer, another number its text, true and false are 1 and 0; an object is
/// an array of its names and values in turn. Nothing: it is not JSON, or is nested too deeply.
[[nodiscard]] std::optional<Reply> parse_json(std::string_view text);

/// A text of JSON with question marks for all that is no character, and characters themselves in the place of their codes: what is wrong with one name in it keeps nobody from
/// reading the others. No byte of it is zero.
[[nodiscard]] std::string readable_json(std::string_view text);

/// The value of a name in what an object became; null: it has none.
[[nodiscard]] const Reply* member(const Reply& object, std::string_view name) noexcept;

}  // namespace cache_ext::redis
