// Glob patterns over keys.
//
//   *       any characters, also none           ?        one character
//   [a-z]   one character of the set             [!a-z] or [^a-z]   one character outside it
//   \c      the character c, here and in a set
//
// A `]` right after the opening (and its `!` or `^`) and a `-` at either end of a set stand for themselves.
// Ranges are by code point. A pattern matches whole texts, and no character is special in a text.
//
// A character is a well-formed UTF-8 sequence; a byte that does not belong to one is a character of its
// own, different from every code point. So patterns work on any bytes, and on UTF-8 as a reader expects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cache_ext::core {

enum class GlobError : std::uint8_t {
    kNone,
    kUnclosedSet,        // a `[` without its `]`
    kTrailingBackslash,  // a `\` with nothing behind it
    kReversedRange,      // a range that ends before it begins, as in [z-a]
};

// What is wrong with a pattern, and the offset in bytes of the `[`, the `\` or the range's first character.
struct GlobCheck {
    GlobError error = GlobError::kNone;
    std::size_t position = 0;
};

// The first error of a pattern, kNone if it has none.
[[nodiscard]] GlobCheck glob_check(std::string_view pattern) noexcept;

[[nodiscard]] inline bool glob_valid(std::string_view pattern) noexcept {
    return glob_check(pattern).error == GlobError::kNone;
}

// Whether the pattern matches the whole text. An invalid pattern matches nothing. Takes time in proportion
// to pattern times text at the worst, to the shorter of them when no `*` stands before the end; no memory.
[[nodiscard]] bool glob_match(std::string_view pattern, std::string_view text) noexcept;

// The pattern's bytes in front of its first special character, a backslash included. Every text it
// matches begins with them.
[[nodiscard]] std::string_view glob_literal_prefix(std::string_view pattern) noexcept;

// Whether no character of the pattern is special, a backslash included: it matches itself only.
[[nodiscard]] inline bool glob_is_literal(std::string_view pattern) noexcept {
    return glob_literal_prefix(pattern).size() == pattern.size();
}

}  // namespace cache_ext::core
