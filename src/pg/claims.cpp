#include "pg/claims.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace cache_ext::pg {

namespace {

constexpr std::array<std::string_view, 5> kIgnoredClaims{"exp", "iat", "jti", "nbf", "session_id"};
constexpr std::string_view kSubject = "sub";

using Member = std::pair<std::string, std::string>;  // name, canonical value

// The canonical form: each value begins with a byte that names its type; what has a length is preceded by
// it. So no two values have the same form.
void append_length(std::string& out, std::uint64_t length) {
    for (int shift = 0; shift < 64; shift += 8) {
        out.push_back(static_cast<char>(length >> shift & 0xff));
    }
}

void append_text(std::string& out, char type, std::string_view text) {
    out.push_back(type);
    append_length(out, text.size());
    out += text;
}

/// Sorts by name, the last of duplicates kept, and appends all for which `keep` is true.
template <class Keep>
void append_object(std::string& out, std::vector<Member>& members, Keep keep) {
    std::stable_sort(members.begin(), members.end(),
                     [](const Member& left, const Member& right) { return left.first < right.first; });
    std::string body;
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < members.size(); ++i) {
        const bool is_last = i + 1 == members.size() || members[i].first != members[i + 1].first;
        if (is_last && keep(members[i].first)) {
            append_text(body, 'k', members[i].first);
            body += members[i].second;
            ++count;
        }
    }
    out.push_back('o');
    append_length(out, count);
    out += body;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// A recursive-descent parser; each method returns false where the text is not what it reads.
class Parser {
public:
    Parser(std::string_view text, bool utf8) : text_(text), utf8_(utf8) {}

    bool document(std::vector<Member>& members) {
        skip_space();
        if (!take('{') || !object(members, 1)) {
            return false;
        }
        skip_space();
        return position_ == text_.size();
    }

private:
    [[nodiscard]] char peek() const { return position_ < text_.size() ? text_[position_] : '\0'; }

    bool take(char c) {
        if (position_ < text_.size() && text_[position_] == c) {
            ++position_;
            return true;
        }
        return false;
    }

    bool take(std::string_view word) {
        if (text_.substr(position_, word.size()) != word) {
            return false;
        }
        position_ += word.size();
        return true;
    }

    void skip_space() {
        constexpr std::string_view kSpace = " \t\n\r";
        while (position_ < text_.size() && kSpace.find(text_[position_]) != std::string_view::npos) {
            ++position_;
        }
    }

    bool value(std::string& out, int depth) {
        skip_space();
        switch (peek()) {
            case '{': {
                ++position_;
                std::vector<Member> members;
                if (depth >= kMaxClaimsDepth || !object(members, depth + 1)) {
                    return false;
                }
                append_object(out, members, [](const std::string&) { return true; });
                return true;
            }
            case '[':
                ++position_;
                return depth < kMaxClaimsDepth && array(out, depth + 1);
            case '"': {
                std::string content;
                if (!string(content)) {
                    return false;
                }
                append_text(out, 's', content);
                return true;
            }
            case 't':
            case 'f':
            case 'n':
                out.push_back(peek() == 'n' ? 'z' : peek());
                return take("true") || take("false") || take("null");
            default:
                return number(out);
        }
    }

    /// After the opening brace.
    bool object(std::vector<Member>& members, int depth) {
        skip_space();
        if (take('}')) {
            return true;
        }
        do {
            skip_space();
            Member& member = members.emplace_back();
            if (!string(member.first)) {
                return false;
            }
            skip_space();
            if (!take(':') || !value(member.second, depth)) {
                return false;
            }
            skip_space();
        } while (take(','));
        return take('}');
    }

    /// After the opening bracket.
    bool array(std::string& out, int depth) {
        std::string body;
        std::uint64_t count = 0;
        skip_space();
        if (!take(']')) {
            do {
                if (!value(body, depth)) {
                    return false;
                }
                ++count;
                skip_space();
            } while (take(','));
            if (!take(']')) {
                return false;
            }
        }
        out.push_back('a');
        append_length(out, count);
        out += body;
        return true;
    }

    bool digits() {
        const std::size_t start = position_;
        while (is_digit(peek())) {
            ++position_;
        }
        return position_ > start;
    }

    bool number(std::string& out) {
        const std::size_t start = position_;
        take('-');
        if (!take('0') && !digits()) {
            return false;
        }
        if (take('.') && !digits()) {
            return false;
        }
        if (take('e') || take('E')) {
            if (!take('+')) {
                take('-');
            }
            if (!digits()) {
                return false;
            }
        }
        append_text(out, 'n', text_.substr(start, position_ - start));
        return true;
    }

    bool string(std::string& out) {
        if (!take('"')) {
            return false;
        }
        while (position_ < text_.size()) {
            const char c = text_[position_++];
            if (c == '"') {
                return true;
            }
            if (static_cast<unsigned char>(c) < 0x20) {
                return false;
            }
            if (c != '\\') {
                out.push_back(c);
            } else if (!escape(out)) {
                return false;
            }
        }
        return false;
    }

    /// After the backslash.
    bool escape(std::string& out) {
        constexpr std::string_view kEscapes = "\"\\/bfnrt";
        constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
        if (position_ >= text_.size()) {
            return false;
        }
        const char c = text_[position_++];
        if (c == 'u') {
            return unicode_escape(out);
        }
        const std::size_t which = kEscapes.find(c);
        if (which == std::string_view::npos) {
            return false;
        }
        out.push_back(kMeanings[which]);
        return true;
    }

    /// After the u.
    bool unicode_escape(std::string& out) {
        std::uint32_t code = 0;
        if (!hex4(code) || code == 0 || (code >= 0xdc00 && code <= 0xdfff)) {
            return false;
        }
        if (code >= 0xd800 && code <= 0xdbff) {
            std::uint32_t low = 0;
            if (!take("\\u") || !hex4(low) || low < 0xdc00 || low > 0xdfff) {
                return false;
            }
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        if (code < 0x80) {
            out.push_back(static_cast<char>(code));
            return true;
        }
        if (!utf8_) {
            return false;
        }
        const auto continuation = [&](int shift) {
            out.push_back(static_cast<char>(0x80 | (code >> shift & 0x3f)));
        };
        if (code < 0x800) {
            out.push_back(static_cast<char>(0xc0 | code >> 6));
        } else if (code < 0x10000) {
            out.push_back(static_cast<char>(0xe0 | code >> 12));
            continuation(6);
        } else {
            out.push_back(static_cast<char>(0xf0 | code >> 18));
            continuation(12);
            continuation(6);
        }
        continuation(0);
        return true;
    }

    bool hex4(std::uint32_t& code) {
        if (text_.size() - position_ < 4) {
            return false;
        }
        code = 0;
        for (int i = 0; i < 4; ++i) {
            const char c = text_[position_++];
            const char lower = static_cast<char>(c | 0x20);
            if (is_digit(c)) {
                code = code << 4 | static_cast<std::uint32_t>(c - '0');
            } else if (lower >= 'a' && lower <= 'f') {
                code = code << 4 | static_cast<std::uint32_t>(lower - 'a' + 10);
            } else {
                return false;
            }
        }
        return true;
    }

    std::string_view text_;
    std::size_t position_ = 0;
    bool utf8_;
};

bool contains(const auto& names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::optional<CanonicalClaims> canonical_claims(std::string_view json, const ClaimsFilter& filter,
                                                bool utf8) {
    std::vector<Member> members;
    if (!Parser{json, utf8}.document(members)) {
        return std::nullopt;
    }
    CanonicalClaims claims;
    append_object(claims.scope, members, [&](const std::string& name) {
        return filter.all ? !contains(kIgnoredClaims, name) : contains(filter.names, name);
    });
    for (const Member& member : members) {
        if (member.first == kSubject) {
            claims.subject = member.second;
        }
    }
    return claims;
}

}  // namespace cache_ext::pg
