#include "core/glob.hpp"

namespace cache_ext::core {

namespace {

// A code point, or this plus the byte for a byte that is not part of well-formed UTF-8.
constexpr std::uint32_t kStrayByte = 0x110000;

struct Character {
    std::uint32_t code;
    std::uint32_t size;  // in bytes
};

// The character at `at`, which lies within `s`.
inline Character character_at(std::string_view s, std::size_t at) noexcept {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[at + i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80) [[likely]]
        return {lead, 1};

    // Length, bits of the lead byte, and the least code point of that length: anything below is overlong.
    std::uint32_t size;
    std::uint32_t code;
    std::uint32_t least;
    if (lead >= 0xc2 && lead <= 0xdf) {
        size = 2, code = lead & 0x1f, least = 0x80;
    } else if ((lead & 0xf0) == 0xe0) {
        size = 3, code = lead & 0x0f, least = 0x800;
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        size = 4, code = lead & 0x07, least = 0x10000;
    } else {
        return {kStrayByte + lead, 1};
    }
    if (s.size() - at < size) return {kStrayByte + lead, 1};
    for (std::uint32_t i = 1; i < size; ++i) {
        if ((byte(i) & 0xc0) != 0x80) return {kStrayByte + lead, 1};
        code = code << 6 | (byte(i) & 0x3f);
    }
    const bool surrogate = code >= 0xd800 && code <= 0xdfff;
    if (code < least || code > 0x10ffff || surrogate) return {kStrayByte + lead, 1};
    return {code, size};
}

// One element of a set, and where the next begins.
struct Element {
    GlobError error;
    bool end;  // the closing bracket
    std::uint32_t first;
    std::uint32_t last;
    std::size_t begin;
    std::size_t next;
};

// A possibly escaped character of a set at `at`; false if the pattern ends first.
inline bool set_character(std::string_view pattern, std::size_t& at, std::uint32_t& code) noexcept {
    if (at < pattern.size() && pattern[at] == '\\') ++at;
    if (at >= pattern.size()) return false;
    const Character c = character_at(pattern, at);
    code = c.code;
    at += c.size;
    return true;
}

// Reads the element at `at`. `opening` is true for the first, which may be a bracket that means itself.
inline Element set_element(std::string_view pattern, std::size_t at, bool opening) noexcept {
    Element e{GlobError::kNone, false, 0, 0, at, at};
    if (at < pattern.size() && pattern[at] == ']' && !opening) {
        e.end = true;
        e.next = at + 1;
        return e;
    }
    if (!set_character(pattern, e.next, e.first)) {
        e.error = GlobError::kUnclosedSet;
        return e;
    }
    e.last = e.first;
    const bool range = pattern.size() - e.next >= 2 && pattern[e.next] == '-' && pattern[e.next + 1] != ']';
    if (range) {
        ++e.next;
        if (!set_character(pattern, e.next, e.last)) {
            e.error = GlobError::kUnclosedSet;
        } else if (e.last < e.first) {
            e.error = GlobError::kReversedRange;
        }
    }
    return e;
}

struct SetResult {
    GlobCheck check;
    bool contains;
    std::size_t next;  // behind the closing bracket
};

// Reads the set whose `[` is at `open` and tells whether `code` is in it.
SetResult read_set(std::string_view pattern, std::size_t open, std::uint32_t code) noexcept {
    std::size_t at = open + 1;
    const bool outside = at < pattern.size() && (pattern[at] == '!' || pattern[at] == '^');
    if (outside) ++at;
    bool found = false;
    for (bool opening = true;; opening = false) {
        const Element e = set_element(pattern, at, opening);
        if (e.error == GlobError::kUnclosedSet) return {{e.error, open}, false, pattern.size()};
        if (e.error != GlobError::kNone) return {{e.error, e.begin}, false, pattern.size()};
        at = e.next;
        if (e.end) return {{}, found != outside, at};
        if (e.first <= code && code <= e.last) found = true;
    }
}

// Matches one character of the text against what stands at `at`, which is not a `*`, and moves `at` behind
// it. What is invalid matches nothing.
inline bool match_one(std::string_view pattern, std::size_t& at, std::uint32_t code) noexcept {
    switch (pattern[at]) {
        case '?':
            ++at;
            return true;
        case '[': {
            const SetResult set = read_set(pattern, at, code);
            at = set.next;
            return set.contains;
        }
        case '\\':
            if (++at == pattern.size()) return false;
            break;
        default:
            break;
    }
    const Character c = character_at(pattern, at);
    at += c.size;
    return c.code == code;
}

}  // namespace

GlobCheck glob_check(std::string_view pattern) noexcept {
    for (std::size_t at = 0; at < pattern.size();) {
        if (pattern[at] == '[') {
            const SetResult set = read_set(pattern, at, 0);
            if (set.check.error != GlobError::kNone) return set.check;
            at = set.next;
        } else if (pattern[at] == '\\') {
            if (at + 1 == pattern.size()) return {GlobError::kTrailingBackslash, at};
            at += 2;
        } else {
            ++at;
        }
    }
    return {};
}

bool glob_match(std::string_view pattern, std::string_view text) noexcept {
    constexpr std::size_t kNoStar = static_cast<std::size_t>(-1);
    std::size_t p = 0;
    std::size_t t = 0;
    // Where to resume when what follows the last `*` does not match: only the last one ever needs to give
    // way, since an earlier one can gain nothing that the last cannot.
    std::size_t star_p = kNoStar;
    std::size_t star_t = 0;

    while (t < text.size()) {
        if (p < pattern.size()) {
            if (pattern[p] == '*') {
                while (p < pattern.size() && pattern[p] == '*')
                    ++p;
                if (p == pattern.size()) return true;
                star_p = p;
                star_t = t;
                continue;
            }
            const Character c = character_at(text, t);
            if (match_one(pattern, p, c.code)) {
                t += c.size;
                continue;
            }
        }
        if (star_p == kNoStar) return false;
        star_t += character_at(text, star_t).size;
        t = star_t;
        p = star_p;
    }
    while (p < pattern.size() && pattern[p] == '*')
        ++p;
    return p == pattern.size();
}

std::string_view glob_literal_prefix(std::string_view pattern) noexcept {
    const std::size_t at = pattern.find_first_of("*?[\\");
    return pattern.substr(0, at);
}

}  // namespace cache_ext::core
