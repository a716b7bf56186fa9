#include "redis/client.hpp"

#include <utility>

#include "redis/cluster.hpp"
#include "redis/single.hpp"
#include "redis/unavailable.hpp"

namespace cache_ext::redis {

std::unique_ptr<Client> Client::make(Options options) {
    switch (options.url.scheme) {
        case Scheme::kTls:
            if (!has_tls()) return make_unavailable(kNoTls);
            [[fallthrough]];
        case Scheme::kTcp:
        case Scheme::kUnix:
            return options.url.is_cluster ? make_cluster(std::move(options))
                                          : make_single(std::move(options));
        case Scheme::kRest:
            break;
    }
    return make_unavailable("https:// is not supported");
}

std::size_t for_each_primary(Client& client, Command command,
                             const std::function<void(NodeId, const Reply&)>& handler,
                             TimePoint now) noexcept {
    std::size_t taken = 0;
    try {
        for (const NodeId node : client.primaries()) {
            const auto with_number = [handler, node](const Reply& reply) { handler(node, reply); };
            if (client.submit_to(node, command, with_number, now)) ++taken;
        }
    } catch (...) {
        // Without memory for the rest, those taken are what there is.
    }
    return taken;
}

const char* to_text(State state) noexcept {
    switch (state) {
        case State::kConnecting:
            return "connecting";
        case State::kUp:
            return "up";
        case State::kWaiting:
            return "waiting";
        case State::kOpen:
            return "open";
        case State::kMisconfigured:
            return "misconfigured";
        case State::kClosed:
            return "closed";
    }
    return "";
}

}  // namespace cache_ext::redis
