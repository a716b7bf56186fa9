#include "redis/cluster_map.hpp"

#include <charconv>

namespace cache_ext::redis {

namespace {

/// A cluster has at most a thousand nodes; its slots may be in pieces.
constexpr std::size_t kMostRanges = 65536;

/// Nodes write an IPv6 address without brackets.
std::optional<Endpoint> endpoint_of(std::string_view host, std::string_view port, const Endpoint& asked) {
    std::string text;
    if (host.empty()) host = asked.host;
    const bool is_ipv6 = host.find(':') != std::string_view::npos;
    if (is_ipv6) text += '[';
    text += host;
    if (is_ipv6) text += ']';
    text += ':';
    text += port;
    return parse_endpoint(text, 0);
}

bool is_slot(const Reply& reply) noexcept {
    return reply.kind == Reply::Kind::kInteger && reply.integer >= 0 && reply.integer < kSlots;
}

}  // namespace

std::optional<std::vector<SlotRange>> parse_slots(const Reply& reply, const Endpoint& asked) {
    if (reply.kind != Reply::Kind::kArray || reply.elements.size() > kMostRanges) return std::nullopt;
    std::vector<SlotRange> ranges;
    for (const Reply& row : reply.elements) {
        if (row.elements.size() < 3 || !is_slot(row.elements[0]) || !is_slot(row.elements[1]) ||
            row.elements[0].integer > row.elements[1].integer || row.elements[2].elements.size() < 2)
            return std::nullopt;
        const Reply& host = row.elements[2].elements[0];
        const Reply& port = row.elements[2].elements[1];
        if (port.kind != Reply::Kind::kInteger) return std::nullopt;
        // "?": nobody knows its name yet.
        if (host.text == "?") continue;
        std::optional<Endpoint> primary = endpoint_of(host.text, std::to_string(port.integer), asked);
        if (!primary) return std::nullopt;
        ranges.push_back({static_cast<std::uint16_t>(row.elements[0].integer),
                          static_cast<std::uint16_t>(row.elements[1].integer), std::move(*primary)});
    }
    return ranges;
}

std::optional<Redirect> parse_redirect(std::string_view error, const Endpoint& asked) {
    Redirect redirect;
    if (error.starts_with("MOVED ")) {
        error.remove_prefix(6);
    } else if (error.starts_with("ASK ")) {
        error.remove_prefix(4);
        redirect.is_ask = true;
    } else {
        return std::nullopt;
    }
    const auto [end, failure] = std::from_chars(error.data(), error.data() + error.size(), redirect.slot);
    if (failure != std::errc{} || redirect.slot >= kSlots) return std::nullopt;
    error.remove_prefix(static_cast<std::size_t>(end - error.data()));
    const std::size_t colon = error.rfind(':');
    if (!error.starts_with(' ') || colon == std::string_view::npos) return std::nullopt;
    std::optional<Endpoint> to = endpoint_of(error.substr(1, colon - 1), error.substr(colon + 1), asked);
    if (!to) return std::nullopt;
    redirect.to = std::move(*to);
    return redirect;
}

}  // namespace cache_ext::redis
