// A glob matcher written for obviousness, to compare the real one with: the pattern is parsed into tokens,
// the text into characters, and the match is the recursive definition. Exponential; for short inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace cache_ext::core::naive {

inline std::vector<std::uint32_t> characters(std::string_view s) {
    std::vector<std::uint32_t> codes;
    for (std::size_t i = 0; i < s.size();) {
        std::uint32_t code = 0x110000u + static_cast<unsigned char>(s[i]);
        std::size_t size = 1;
        for (std::size_t n = 1; n <= 4 && i + n <= s.size(); ++n) {
            // Encode every candidate of this length back and see whether it gives these bytes.
            const auto b = [&](std::size_t k) { return static_cast<unsigned char>(s[i + k]) & 0xffu; };
            const std::uint32_t guess =
                n == 1   ? b(0)
                : n == 2 ? (b(0) & 0x1f) << 6 | (b(1) & 0x3f)
                : n == 3 ? (b(0) & 0x0f) << 12 | (b(1) & 0x3f) << 6 | (b(2) & 0x3f)
                         : (b(0) & 0x07) << 18 | (b(1) & 0x3f) << 12 | (b(2) & 0x3f) << 6 | (b(3) & 0x3f);
            std::vector<std::uint32_t> bytes;
            if (guess < 0x80) {
                bytes = {guess};
            } else if (guess < 0x800) {
                bytes = {0xc0 | guess >> 6, 0x80 | (guess & 0x3f)};
            } else if (guess < 0x10000) {
                if (guess >= 0xd800 && guess < 0xe000) continue;
                bytes = {0xe0 | guess >> 12, 0x80 | (guess >> 6 & 0x3f), 0x80 | (guess & 0x3f)};
            } else {
                if (guess > 0x10ffff) continue;
                bytes = {0xf0 | guess >> 18, 0x80 | (guess >> 12 & 0x3f), 0x80 | (guess >> 6 & 0x3f),
                         0x80 | (guess & 0x3f)};
            }
            bool same = bytes.size() == n;
            for (std::size_t k = 0; same && k < n; ++k)
                same = bytes[k] == b(k);
            if (same) {
                code = guess;
                size = n;
                break;
            }
        }
        codes.push_back(code);
        i += size;
    }
    return codes;
}

struct Token {
    bool star = false;
    bool outside = false;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges;
};

// Nothing if the pattern is invalid.
inline std::optional<std::vector<Token>> parse(std::string_view pattern) {
    const std::vector<std::uint32_t> p = characters(pattern);
    std::vector<Token> tokens;
    std::size_t i = 0;
    while (i < p.size()) {
        Token token;
        const std::uint32_t c = p[i++];
        if (c == '*') {
            token.star = true;
        } else if (c == '?') {
            token.outside = true;
        } else if (c == '\\') {
            if (i == p.size()) return std::nullopt;
            token.ranges.emplace_back(p[i], p[i]);
            ++i;
        } else if (c == '[') {
            if (i < p.size() && (p[i] == '!' || p[i] == '^')) {
                token.outside = true;
                ++i;
            }
            for (bool opening = true;; opening = false) {
                if (i == p.size()) return std::nullopt;
                if (p[i] == ']' && !opening) break;
                if (p[i] == '\\' && ++i == p.size()) return std::nullopt;
                const std::uint32_t from = p[i++];
                std::uint32_t to = from;
                if (i + 1 < p.size() && p[i] == '-' && p[i + 1] != ']') {
                    ++i;
                    if (p[i] == '\\' && ++i == p.size()) return std::nullopt;
                    to = p[i++];
                    if (to < from) return std::nullopt;
                }
                token.ranges.emplace_back(from, to);
            }
            ++i;
        } else {
            token.ranges.emplace_back(c, c);
        }
        tokens.push_back(std::move(token));
    }
    return tokens;
}

inline bool match_from(const std::vector<Token>& tokens, std::size_t k,
                       const std::vector<std::uint32_t>& text, std::size_t t) {
    if (k == tokens.size()) return t == text.size();
    const Token& token = tokens[k];
    if (token.star) {
        return match_from(tokens, k + 1, text, t) || (t < text.size() && match_from(tokens, k, text, t + 1));
    }
    if (t == text.size()) return false;
    bool found = false;
    for (const auto& [from, to] : token.ranges)
        found = found || (from <= text[t] && text[t] <= to);
    return found != token.outside && match_from(tokens, k + 1, text, t + 1);
}

inline bool match(std::string_view pattern, std::string_view text) {
    const auto tokens = parse(pattern);
    return tokens && match_from(*tokens, 0, characters(text), 0);
}

}  // namespace cache_ext::core::naive
