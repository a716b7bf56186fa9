// Parses any bytes as a URL of Redis; what parses is shown without its password, and means the same when it is parsed again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "redis/url.hpp"

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace cache_ext::redis;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const ParsedUrl parsed = parse_url(text);
    require(parsed.url.has_value() == parsed.error.empty());
    if (!parsed.url) return 0;

    const Url& url = *parsed.url;
    require((url.scheme == Scheme::kUnix) == url.endpoints.empty());
    for (const Endpoint& endpoint : url.endpoints) {
        require(!endpoint.host.empty() && endpoint.port != 0);
        require(endpoint.host.find_first_of(std::string_view(" /@\r\n\0", 6)) == std::string::npos);
    }
    require(url.password.empty() || url.scheme != Scheme::kRest);

    // With the password swapped for another the shown text is the same.
    const std::string shown = masked(url);
    Url other = url;
    if (!other.password.empty()) other.password = "another";
    if (!other.sentinel_password.empty()) other.sentinel_password = "another";
    require(masked(other) == shown);
    const ParsedUrl again = parse_url(shown);
    require(again.url.has_value());
    require(masked(*again.url) == shown && same_place(*again.url, url) && again.url->user == url.user &&
            again.url->database == url.database && again.url->is_cluster == url.is_cluster &&
            again.url->is_sentinel == url.is_sentinel && again.url->sentinel_user == url.sentinel_user);
    require(url.is_sentinel == !url.master.empty() && !(url.is_sentinel && url.is_cluster));
    return 0;
}
