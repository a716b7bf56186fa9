#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace cache_ext::redis {

/// The text with `***` wherever it holds the secret, or the beginning of one that was cut off: what a server says may repeat what it was sent, and Redis does so without line breaks and
/// up to a length.
[[nodiscard]] inline std::string redacted(std::string text, std::string_view secret) {
    constexpr std::size_t kTelling = 8;
    const auto is_same = [](char said, char sent) {
        return said == sent || (said == ' ' && (sent == '\r' || sent == '\n'));
    };
    const std::size_t least = std::min(secret.size(), kTelling);
    for (std::size_t at = 0; least > 0 && at + least <= text.size(); ++at) {
        const auto begin = text.begin() + static_cast<std::ptrdiff_t>(at);
        const auto end = std::mismatch(begin, text.end(), secret.begin(), secret.end(), is_same).first;
        if (end - begin < static_cast<std::ptrdiff_t>(least)) continue;
        text.replace(begin, end, "***");
        at += 2;
    }
    return text;
}

}  // namespace cache_ext::redis
