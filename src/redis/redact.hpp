#pragma once

#include <string>
#include <string_view>

namespace cache_ext::redis {

/// The text with `***` wherever it holds the secret: what a server says may repeat what it was sent.
[[nodiscard]] inline std::string redacted(std::string text, std::string_view secret) {
    if (secret.empty()) return text;
    for (std::size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + 3))
        text.replace(at, secret.size(), "***");
    return text;
}

}  // namespace cache_ext::redis
