#include "pg/body_names.hpp"

extern "C" {
#include "parser/scansup.h"
}

namespace cache_ext::pg {

namespace {

bool is_letter(char c) noexcept {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           static_cast<unsigned char>(c) >= 0x80;
}
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_space(char c) noexcept { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

void BodyNames::skip_space() noexcept {
    for (;;) {
        if (is_space(*at_)) {
            ++at_;
        } else if (at_[0] == '-' && at_[1] == '-') {
            while (*at_ != '\0' && *at_ != '\n' && *at_ != '\r')
                ++at_;
        } else if (at_[0] == '/' && at_[1] == '*') {
            // They nest.
            int depth = 0;
            do {
                const bool begins = at_[0] == '/' && at_[1] == '*';
                const bool ends = at_[0] == '*' && at_[1] == '/';
                depth += static_cast<int>(begins) - static_cast<int>(ends);
                at_ += begins || ends ? 2 : 1;
            } while (depth > 0 && *at_ != '\0');
        } else {
            return;
        }
    }
}

void BodyNames::skip_string(bool has_escapes) noexcept {
    for (++at_; *at_ != '\0'; ++at_) {
        if (has_escapes && *at_ == '\\' && at_[1] != '\0') {
            ++at_;
        } else if (*at_ == '\'') {
            ++at_;
            if (*at_ != '\'') return;
        }
    }
}

/// Or the dollar alone, if nothing is quoted by it.
void BodyNames::skip_dollar_quoted() noexcept {
    const char* tag = at_++;
    while (is_letter(*at_) || (is_digit(*at_) && at_ > tag + 1))
        ++at_;
    if (*at_ != '$') {
        at_ = tag + 1;
        return;
    }
    const auto bytes = static_cast<std::size_t>(++at_ - tag);
    while (*at_ != '\0' && std::strncmp(at_, tag, bytes) != 0)
        ++at_;
    if (*at_ != '\0') at_ += bytes;
}

const char* BodyNames::read_quoted() {
    char* const name = pstrdup(at_ + 1);
    char* end = name;
    for (++at_; *at_ != '\0'; ++at_) {
        if (*at_ == '"' && *++at_ != '"') break;
        *end++ = *at_;
    }
    *end = '\0';
    truncate_identifier(name, static_cast<int>(end - name), false);
    return name;
}

void BodyNames::look_behind(BodyName& found) noexcept {
    const char* const here = at_;
    found.literal = {};
    skip_space();
    found.is_called = *at_ == '(';
    if (found.is_called) {
        ++at_;
        skip_space();
        const char* const begin = at_;
        if (*begin == '\'') {
            skip_string(true);
            const auto bytes = static_cast<std::size_t>(at_ - begin);
            skip_space();
            // Not one that something else is appended to.
            if (bytes >= 2 && (*at_ == ',' || *at_ == ')')) found.literal = {begin + 1, bytes - 2};
        }
    }
    at_ = here;
}

bool BodyNames::next(BodyName& found) {
    for (;;) {
        skip_space();
        const char c = *at_;
        if (c == '\0') return false;
        if (c == '\'') {
            skip_string(false);
        } else if (c == '$') {
            skip_dollar_quoted();
        } else if (c == '"') {
            found.name = read_quoted();
            look_behind(found);
            return true;
        } else if (is_letter(c)) {
            const char* const begin = at_;
            while (is_letter(*at_) || is_digit(*at_) || *at_ == '$')
                ++at_;
            const auto bytes = static_cast<int>(at_ - begin);
            if (*at_ == '\'' && bytes == 1) {
                // What stands before a string and says of what kind it is.
                skip_string(c == 'e' || c == 'E');
                continue;
            }
            found.name = downcase_truncate_identifier(begin, bytes, false);
            look_behind(found);
            return true;
        } else if (is_digit(c)) {
            while (is_letter(*at_) || is_digit(*at_))
                ++at_;
        } else {
            ++at_;
        }
    }
}

}  // namespace cache_ext::pg
