#include "redis/json.hpp"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <utility>

namespace cache_ext::redis {

namespace {

constexpr int kDeepest = 32;

/// The length of the well-formed UTF-8 sequence that the text begins with (RFC 3629: nothing longer than needed, no surrogates); 0: there is none.
std::size_t utf8_length(std::string_view text) noexcept {
    const auto byte = [&](std::size_t i) -> unsigned {
        return i < text.size() ? static_cast<unsigned char>(text[i]) : 0;
    };
    const auto follows = [&](std::size_t i) { return (byte(i) & 0xc0U) == 0x80; };
    const unsigned first = byte(0);
    if (text.empty()) return 0;
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        if (!follows(1) || !follows(2) || (first == 0xe0 && byte(1) < 0xa0) ||
            (first == 0xed && byte(1) > 0x9f))
            return 0;
        return 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (!follows(1) || !follows(2) || !follows(3) || (first == 0xf0 && byte(1) < 0x90) ||
            (first == 0xf4 && byte(1) > 0x8f))
            return 0;
        return 4;
    }
    return 0;
}

void append_utf8(std::string& to, std::uint32_t code) {
    const auto put = [&](std::uint32_t byte) { to.push_back(static_cast<char>(byte)); };
    if (code < 0x80) {
        put(code);
    } else if (code < 0x800) {
        put(0xc0 | code >> 6);
        put(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        put(0xe0 | code >> 12);
        put(0x80 | (code >> 6 & 0x3f));
        put(0x80 | (code & 0x3f));
    } else {
        put(0xf0 | code >> 18);
        put(0x80 | (code >> 12 & 0x3f));
        put(0x80 | (code >> 6 & 0x3f));
        put(0x80 | (code & 0x3f));
    }
}

class Parser {
public:
    explicit Parser(std::string_view text) : rest_(text) {}

    bool whole(Reply& value) {
        if (!parse(value, 0)) return false;
        skip_space();
        return rest_.empty();
    }

private:
    void skip_space() noexcept {
        const std::size_t at = rest_.find_first_not_of(" \t\r\n");
        rest_.remove_prefix(at == std::string_view::npos ? rest_.size() : at);
    }

    bool take(std::string_view what) noexcept {
        if (!rest_.starts_with(what)) return false;
        rest_.remove_prefix(what.size());
        return true;
    }

    bool parse(Reply& value, int depth) {
        skip_space();
        if (depth > kDeepest || rest_.empty()) return false;
        switch (rest_.front()) {
            case 'n':
                return take("null");
            case 't':
                return integer(value, 1) && take("true");
            case 'f':
                return integer(value, 0) && take("false");
            case '"':
                value.kind = Reply::Kind::kString;
                return string(value.text);
            case '[':
                return array(value, depth);
            case '{':
                return object(value, depth);
            default:
                return number(value);
        }
    }

    static bool integer(Reply& value, long long number) noexcept {
        value.kind = Reply::Kind::kInteger;
        value.integer = number;
        return true;
    }

    bool array(Reply& value, int depth) {
        value.kind = Reply::Kind::kArray;
        rest_.remove_prefix(1);
        skip_space();
        if (take("]")) return true;
        do {
            if (!parse(value.elements.emplace_back(), depth + 1)) return false;
            skip_space();
        } while (take(","));
        return take("]");
    }

    bool object(Reply& value, int depth) {
        value.kind = Reply::Kind::kArray;
        rest_.remove_prefix(1);
        skip_space();
        if (take("}")) return true;
        do {
            skip_space();
            Reply& name = value.elements.emplace_back();
            name.kind = Reply::Kind::kString;
            if (!string(name.text)) return false;
            skip_space();
            if (!take(":") || !parse(value.elements.emplace_back(), depth + 1)) return false;
            skip_space();
        } while (take(","));
        return take("}");
    }

    bool number(Reply& value) {
        std::size_t at = 0;
        const auto digits = [&] {
            const std::size_t begin = at;
            while (at < rest_.size() && rest_[at] >= '0' && rest_[at] <= '9')
                ++at;
            return at > begin;
        };
        if (rest_.front() == '-') ++at;
        const std::size_t first = at;
        if (!digits() || (rest_[first] == '0' && at > first + 1)) return false;
        bool is_whole = true;
        if (at < rest_.size() && rest_[at] == '.') {
            is_whole = false;
            ++at;
            if (!digits()) return false;
        }
        if (at < rest_.size() && (rest_[at] == 'e' || rest_[at] == 'E')) {
            is_whole = false;
            ++at;
            if (at < rest_.size() && (rest_[at] == '+' || rest_[at] == '-')) ++at;
            if (!digits()) return false;
        }
        const std::string_view text = rest_.substr(0, at);
        rest_.remove_prefix(at);
        long long whole = 0;
        if (is_whole && std::from_chars(text.data(), text.data() + text.size(), whole).ec == std::errc{})
            return integer(value, whole);
        value.kind = Reply::Kind::kString;
        value.text = text;
        return true;
    }

    bool hex(std::uint32_t& code) noexcept {
        if (rest_.size() < 4) return false;
        const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + 4, code, 16);
        const bool is_good = error == std::errc{} && end == rest_.data() + 4 && rest_.front() != '-';
        rest_.remove_prefix(4);
        return is_good;
    }

    bool escape(std::string& to) {
        if (rest_.empty()) return false;
        const char c = rest_.front();
        rest_.remove_prefix(1);
        switch (c) {
            case '"':
            case '\\':
            case '/':
                to.push_back(c);
                return true;
            case 'b':
                to.push_back('\b');
                return true;
            case 'f':
                to.push_back('\f');
                return true;
            case 'n':
                to.push_back('\n');
                return true;
            case 'r':
                to.push_back('\r');
                return true;
            case 't':
                to.push_back('\t');
                return true;
            case 'u':
                break;
            default:
                return false;
        }
        std::uint32_t code = 0;
        if (!hex(code)) return false;
        if (code >= 0xdc00 && code <= 0xdfff) return false;
        if (code >= 0xd800 && code <= 0xdbff) {
            std::uint32_t low = 0;
            if (!take("\\u") || !hex(low) || low < 0xdc00 || low > 0xdfff) return false;
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        }
        append_utf8(to, code);
        return true;
    }

    bool string(std::string& to) {
        if (!take("\"")) return false;
        while (!rest_.empty()) {
            const auto c = static_cast<unsigned char>(rest_.front());
            if (c == '"') return take("\"");
            if (c < 0x20) return false;
            if (c == '\\') {
                rest_.remove_prefix(1);
                if (!escape(to)) return false;
                continue;
            }
            const std::size_t length = utf8_length(rest_);
            if (length == 0) return false;
            to.append(rest_.substr(0, length));
            rest_.remove_prefix(length);
        }
        return false;
    }

    std::string_view rest_;
};

}  // namespace

bool append_json(std::string& to, std::string_view text) {
    static constexpr std::string_view kHex = "0123456789abcdef";
    const std::size_t before = to.size();
    to.push_back('"');
    while (!text.empty()) {
        const std::size_t length = utf8_length(text);
        if (length == 0) {
            to.resize(before);
            return false;
        }
        const auto c = static_cast<unsigned char>(text.front());
        if (c == '"' || c == '\\') {
            to.push_back('\\');
            to.push_back(text.front());
        } else if (c < 0x20) {
            to.append("\\u00");
            to.push_back(kHex[c >> 4]);
            to.push_back(kHex[c & 15]);
        } else {
            to.append(text.substr(0, length));
        }
        text.remove_prefix(length);
    }
    to.push_back('"');
    return true;
}

std::string readable_json(std::string_view text) {
    std::string readable;
    readable.reserve(text.size());
    // Four digits from `at` on; nothing: that is no code.
    const auto code_at = [text](std::size_t at) -> std::optional<std::uint32_t> {
        if (at + 4 > text.size()) return std::nullopt;
        std::uint32_t code = 0;
        const auto [end, error] = std::from_chars(text.data() + at, text.data() + at + 4, code, 16);
        if (error != std::errc{} || end != text.data() + at + 4) return std::nullopt;
        return code;
    };
    for (std::size_t at = 0; at < text.size();) {
        if (text[at] != '\\') {
            const std::size_t length = text[at] == '\0' ? 0 : utf8_length(text.substr(at));
            if (length == 0) readable.push_back('?');
            readable.append(text.substr(at, length));
            at += std::max<std::size_t>(length, 1);
            continue;
        }
        std::optional<std::uint32_t> code;
        if (at + 1 < text.size() && text[at + 1] == 'u') code = code_at(at + 2);
        if (!code || (*code > 0 && *code < 0x80)) {
            // Some other escape, or one that may be needed.
            const bool is_escape = at + 1 < text.size() && text[at + 1] > ' ';
            const std::size_t length = code ? 6 : is_escape ? 2 : 1;
            readable.append(text.substr(at, length));
            at += length;
            continue;
        }
        at += 6;
        const bool is_high = *code >= 0xd800 && *code <= 0xdbff;
        const std::optional<std::uint32_t> low =
            is_high && text.substr(at).starts_with("\\u") ? code_at(at + 2) : std::nullopt;
        if (low && *low >= 0xdc00 && *low <= 0xdfff) {
            append_utf8(readable, 0x10000 + ((*code - 0xd800) << 10) + (*low - 0xdc00));
            at += 6;
        } else if (*code == 0 || (*code >= 0xd800 && *code <= 0xdfff)) {
            readable.push_back('?');
        } else {
            append_utf8(readable, *code);
        }
    }
    return readable;
}

std::optional<Reply> parse_json(std::string_view text) {
    Reply value;
    if (!Parser(text).whole(value)) return std::nullopt;
    return value;
}

const Reply* member(const Reply& object, std::string_view name) noexcept {
    if (object.kind != Reply::Kind::kArray) return nullptr;
    for (std::size_t i = 0; i + 1 < object.elements.size(); i += 2)
        if (object.elements[i].text == name) return &object.elements[i + 1];
    return nullptr;
}

}  // namespace cache_ext::redis
