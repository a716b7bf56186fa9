#include "redis/cluster.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "redis/answer.hpp"
#include "redis/cluster_map.hpp"
#include "redis/interest_list.hpp"
#include "redis/link.hpp"

namespace cache_ext::redis {

namespace {

constexpr NodeId kNobody = std::numeric_limits<NodeId>::max();
constexpr std::size_t kMostNodes = 1024;
constexpr int kMostRedirects = 8;

/// How long a map of the slots is believed while nothing speaks against it, how long while a server is missing, and how soon it may be asked
/// for again when something does speak against it.
constexpr milliseconds kMapLasts{15000};
constexpr milliseconds kMapSoon{500};
constexpr milliseconds kMapAgain{100};

class ClusterClient final : public Client, public LinkOwner {
public:
    explicit ClusterClient(Options options)
        : options_(std::move(options)), owners_(kSlots, kNobody), under_way_(kSlots) {
        for (const Endpoint& seed : options_.url.endpoints)
            connect(node_of(seed));
    }

    std::span<const Interest> interests() const noexcept override { return interests_.get(); }
    std::uint64_t generation() const noexcept override { return interests_.generation(); }
    TimePoint next_deadline() const noexcept override;
    void service(std::span<const Ready> ready, TimePoint now) noexcept override;
    bool can_take(TimePoint now) const noexcept override;
    bool submit(Command command, std::string_view routing_key, Handler handler,
                TimePoint now) noexcept override;
    bool submit_to(NodeId node, Command command, Handler handler, TimePoint now) noexcept override;
    bool is_cluster() const noexcept override { return true; }
    std::vector<NodeId> primaries() const override;
    std::uint64_t topology() const noexcept override { return topology_; }
    Status status(TimePoint now) const override;
    void close(TimePoint now) noexcept override;

private:
    /// A server that was heard of. Its place is its number; it has a link while one is needed.
    struct Node {
        Endpoint endpoint;
        std::unique_ptr<Link> link;
        bool is_primary = false;
    };

    /// Commands of a slot that were sent and not answered. All are at one server: what would go to another waits until that one has answered,
    /// since it may have to send them on, and then they would come after those sent later.
    struct UnderWay {
        std::uint32_t count = 0;
        NodeId at = kNobody;
    };

    void on_answer(Link& link, Request&& request, Reply&& reply, TimePoint now) noexcept override;
    void on_up(Link& /*link*/, TimePoint now) noexcept override { want_map(now); }
    void on_down(Link& /*link*/) noexcept override { is_map_doubted_ = true; }

    [[nodiscard]] NodeId node_of(const Endpoint& endpoint);
    void connect(NodeId node);
    [[nodiscard]] std::size_t buffered() const noexcept;
    [[nodiscard]] bool is_within_bounds() const noexcept;
    [[nodiscard]] bool hold(Request& request) noexcept;
    [[nodiscard]] bool follow(const Link& link, Request& request, const Reply& reply, TimePoint now);
    void release_held(TimePoint now);
    [[nodiscard]] bool send_held(Request& request, TimePoint now);
    [[nodiscard]] NodeId destination(const Request& request) const noexcept;
    [[nodiscard]] bool must_wait(std::size_t slot, NodeId node) const noexcept;
    void note_sent(std::size_t slot, NodeId node) noexcept;
    void lose_held(int slot, std::string_view why) noexcept;
    void want_map(TimePoint now) noexcept {
        map_due_ = std::min(map_due_, std::max(now, map_asked_at_ + kMapAgain));
    }
    void ask_for_map(TimePoint now);
    void take_map(const Link& link, const Reply& reply, TimePoint now);
    void drop_idle_links(TimePoint now) noexcept;

    Options options_;
    Tally tally_;
    InterestList interests_;
    std::vector<Node> nodes_;
    std::vector<NodeId> owners_;                ///< of each slot
    std::vector<UnderWay> under_way_;           ///< of each slot
    std::map<int, std::vector<Request>> held_;  ///< by slot
    std::size_t held_bytes_ = 0;                ///< of these
    std::uint64_t sequence_ = 0;
    std::uint64_t topology_ = 0;
    std::uint64_t redirects_ = 0;
    std::uint64_t links_made_ = 0;
    bool has_map_ = false;
    bool is_asking_ = false;
    Verdict map_verdict_ = Verdict::kOk;  ///< of the last answer
    bool is_map_doubted_ = false;
    bool is_closed_ = false;
    std::size_t asks_ = 0;
    TimePoint map_due_ = TimePoint::min();
    TimePoint map_asked_at_ =
        TimePoint::min() + std::chrono::hours(1);  // so that something may be added and taken away
};

NodeId ClusterClient::node_of(const Endpoint& endpoint) {
    for (std::size_t i = 0; i < nodes_.size(); ++i)
        if (nodes_[i].endpoint == endpoint) return static_cast<NodeId>(i);
    if (nodes_.size() < kMostNodes) {
        nodes_.push_back({endpoint, nullptr, false});
        return static_cast<NodeId>(nodes_.size() - 1);
    }
    // Addresses come and go. One that has no link is asked for nothing, and what is no primary has no slot.
    const auto unused = std::find_if(nodes_.begin(), nodes_.end(),
                                     [](const Node& node) { return !node.link && !node.is_primary; });
    if (unused == nodes_.end()) return kNobody;
    unused->endpoint = endpoint;
    return static_cast<NodeId>(unused - nodes_.begin());
}

void ClusterClient::connect(NodeId node) {
    if (node == kNobody || nodes_[node].link) return;
    Target target = target_of(options_);
    target.endpoint = nodes_[node].endpoint;
    nodes_[node].link =
        std::make_unique<Link>(std::move(target), options_, options_.seed + ++links_made_, tally_, *this);
}

std::size_t ClusterClient::buffered() const noexcept {
    std::size_t buffered = held_bytes_;
    for (const Node& node : nodes_)
        buffered += node.link ? node.link->buffered() : 0;
    return buffered;
}

bool ClusterClient::is_within_bounds() const noexcept {
    return tally_.in_flight < options_.most_in_flight && buffered() < options_.most_buffered;
}

bool ClusterClient::can_take(TimePoint now) const noexcept {
    return has_map_ && is_within_bounds() && std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& node) {
               return node.is_primary && node.link && node.link->takes(now);
           });
}

bool ClusterClient::submit(Command command, std::string_view routing_key, Handler handler,
                           TimePoint now) noexcept {
    if (command.empty() || !has_map_ || is_closed_ || !is_within_bounds()) return false;
    const std::uint16_t slot = slot_of(routing_key);
    const NodeId owner = owners_[slot];
    if (owner == kNobody || !nodes_[owner].link) return false;
    try {
        Request request;
        request.handler = std::move(handler);
        request.submitted_at = now;
        request.packed = pack(command);
        request.sequence = ++sequence_;
        request.slot = slot;
        if (held_.contains(slot) || must_wait(slot, owner)) {
            if (!hold(request)) return false;
        } else {
            if (!nodes_[owner].link->takes(now)) return false;
            if (!nodes_[owner].link->submit(std::move(request), {}, now)) return false;
            note_sent(slot, owner);
        }
    } catch (...) {
        return false;
    }
    ++tally_.commands;
    ++tally_.in_flight;
    return true;
}

bool ClusterClient::submit_to(NodeId node, Command command, Handler handler, TimePoint now) noexcept {
    if (command.empty() || is_closed_ || node >= nodes_.size() || !is_within_bounds()) return false;
    const Node& there = nodes_[node];
    if (!there.is_primary || !there.link || !there.link->takes(now)) return false;
    try {
        Request request;
        request.handler = std::move(handler);
        request.submitted_at = now;
        if (!there.link->submit(std::move(request), pack(command), now)) return false;
    } catch (...) {
        return false;
    }
    ++tally_.commands;
    ++tally_.in_flight;
    return true;
}

std::vector<NodeId> ClusterClient::primaries() const {
    std::vector<NodeId> result;
    for (std::size_t i = 0; i < nodes_.size(); ++i)
        if (nodes_[i].is_primary) result.push_back(static_cast<NodeId>(i));
    return result;
}

NodeId ClusterClient::destination(const Request& request) const noexcept {
    return request.ask >= 0 ? static_cast<NodeId>(request.ask)
                            : owners_[static_cast<std::size_t>(request.slot)];
}

bool ClusterClient::must_wait(std::size_t slot, NodeId node) const noexcept {
    return under_way_[slot].count > 0 && under_way_[slot].at != node;
}

void ClusterClient::note_sent(std::size_t slot, NodeId node) noexcept {
    ++under_way_[slot].count;
    under_way_[slot].at = node;
}

bool ClusterClient::hold(Request& request) noexcept {
    const int slot = request.slot;
    const std::size_t bytes = request.packed.size();
    try {
        held_[slot].push_back(std::move(request));
        held_bytes_ += bytes;
        return true;
    } catch (...) {
        if (const auto at = held_.find(slot); at != held_.end() && at->second.empty()) held_.erase(at);
        return false;
    }
}

void ClusterClient::on_answer(Link& link, Request&& request, Reply&& reply, TimePoint now) noexcept {
    if (request.is_internal) {
        if (!request.handler) return;  // ASKING
        is_asking_ = false;
        try {
            take_map(link, reply, now);
        } catch (...) {
            want_map(now);
        }
        return;
    }
    if (request.slot < 0) return answer(tally_, request.handler, reply);
    const int slot = request.slot;
    const std::uint32_t left = --under_way_[static_cast<std::size_t>(slot)].count;
    if (reply.verdict == Verdict::kRedirect) {
        try {
            if (follow(link, request, reply, now)) return;
        } catch (...) {
            reply.verdict = Verdict::kLost;
        }
    }
    if (!reply.ok() && (reply.text.starts_with("CLUSTERDOWN") || reply.verdict == Verdict::kReconnect))
        want_map(now);
    // With a connection all that was under way of the slot is lost, and what waited for it is given up too; among that may be some that came before. So
    // they are answered together.
    if (reply.verdict != Verdict::kLost || !hold(request)) answer(tally_, request.handler, reply);
    if (reply.verdict == Verdict::kLost && left == 0) lose_held(slot, reply.text);
}

/// Where a command is redirected: keeps it until it can go there. False: that is not to be followed.
bool ClusterClient::follow(const Link& link, Request& request, const Reply& reply, TimePoint now) {
    const std::optional<Redirect> redirect = parse_redirect(reply.text, link.target().endpoint);
    if (is_closed_ || !redirect || redirect->slot != request.slot || request.redirects >= kMostRedirects)
        return false;
    const NodeId node = node_of(redirect->to);
    if (node == kNobody) return false;
    connect(node);
    request.ask = -1;
    ++request.redirects;
    if (redirect->is_ask) {
        request.ask = static_cast<int>(node);
    } else {
        if (std::exchange(owners_[redirect->slot], node) != node) ++topology_;
        nodes_[node].is_primary = true;
        want_map(now);
    }
    if (!hold(request)) return false;
    ++redirects_;
    return true;
}

/// Sends what was held back for a slot once nothing of the slot is under way, as far as it goes to one server, and gives up what has waited too
/// long.
void ClusterClient::release_held(TimePoint now) {
    std::vector<int> slots;
    for (const auto& [slot, requests] : held_)
        slots.push_back(slot);
    for (const int slot : slots) {
        const auto at = held_.find(slot);
        if (at == held_.end() || under_way_[static_cast<std::size_t>(slot)].count > 0) continue;
        std::vector<Request>& requests = at->second;
        std::sort(requests.begin(), requests.end(),
                  [](const Request& a, const Request& b) { return a.sequence < b.sequence; });
        std::size_t sent = 0;
        while (sent < requests.size() && send_held(requests[sent], now))
            ++sent;
        requests.erase(requests.begin(), requests.begin() + static_cast<std::ptrdiff_t>(sent));
        if (requests.empty()) {
            held_.erase(at);
        } else if (sent == 0 && now >= requests.front().submitted_at + options_.total_timeout) {
            tally_.note_error("a command was redirected to a server that cannot be reached", now);
            lose_held(slot, tally_.last_error);
        }
    }
}

bool ClusterClient::send_held(Request& request, TimePoint now) {
    const auto slot = static_cast<std::size_t>(request.slot);
    const NodeId node = destination(request);
    if (node == kNobody || must_wait(slot, node)) return false;
    if (!nodes_[node].link || !nodes_[node].link->is_up()) return false;
    Link& link = *nodes_[node].link;
    const std::size_t bytes = request.packed.size();
    if (request.ask >= 0) {
        Request asking;
        asking.is_internal = true;
        asking.submitted_at = now;
        if (!link.submit(std::move(asking), "*1\r\n$6\r\nASKING\r\n", now)) return false;
    }
    if (!link.submit(std::move(request), {}, now)) return false;
    held_bytes_ -= bytes;
    note_sent(slot, node);
    return true;
}

void ClusterClient::lose_held(int slot, std::string_view why) noexcept {
    const auto at = held_.find(slot);
    if (at == held_.end()) return;
    std::vector<Request> requests = std::move(at->second);
    held_.erase(at);
    for (const Request& request : requests)
        held_bytes_ -= request.packed.size();
    std::sort(requests.begin(), requests.end(),
              [](const Request& a, const Request& b) { return a.sequence < b.sequence; });
    Reply reply;
    reply.kind = Reply::Kind::kError;
    reply.verdict = Verdict::kLost;
    try {
        reply.text = why;
    } catch (...) {
    }
    for (const Request& request : requests)
        answer(tally_, request.handler, reply);
}

void ClusterClient::ask_for_map(TimePoint now) {
    map_due_ = kNever;
    map_asked_at_ = now;
    // Another one each time: one may be cut off from the others.
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        const std::size_t place = ++asks_ % nodes_.size();
        if (!nodes_[place].link || !nodes_[place].link->is_up()) continue;
        Request request;
        request.is_internal = true;
        request.submitted_at = now;
        request.handler = [](const Reply&) {};  // tells it from ASKING
        if (!nodes_[place].link->submit(std::move(request), "*2\r\n$7\r\nCLUSTER\r\n$5\r\nSLOTS\r\n", now))
            continue;
        is_asking_ = true;
        return;
    }
    // Nobody is there: those whom the settings name may be.
    for (const Endpoint& seed : options_.url.endpoints)
        connect(node_of(seed));
}

void ClusterClient::take_map(const Link& link, const Reply& reply, TimePoint now) {
    std::optional<std::vector<SlotRange>> ranges;
    if (reply.ok()) ranges = parse_slots(reply, link.target().endpoint);
    map_verdict_ = reply.verdict;
    if (!ranges || ranges->empty()) {
        if (reply.ok()) {
            tally_.note_error(
                ranges ? "the cluster has no slots yet" : "CLUSTER SLOTS was answered with something else",
                now);
        } else if (reply.verdict != Verdict::kLost) {
            tally_.note_error(reply.text, now);
        }
        map_due_ = std::min(map_due_, now + kMapAgain);
        return;
    }
    std::vector<NodeId> owners(kSlots, kNobody);
    for (const SlotRange& range : *ranges) {
        const NodeId node = node_of(range.primary);
        if (node != kNobody) nodes_[node].is_primary = true;
        for (std::size_t slot = range.first; slot <= range.last; ++slot)
            owners[slot] = node;
    }
    if (owners != owners_) {
        owners_ = std::move(owners);
        ++topology_;
    }
    for (Node& node : nodes_)
        node.is_primary = false;
    for (const NodeId owner : owners_)
        if (owner != kNobody) nodes_[owner].is_primary = true;
    for (std::size_t i = 0; i < nodes_.size(); ++i)
        if (nodes_[i].is_primary) connect(static_cast<NodeId>(i));
    has_map_ = true;
    // While a part of the cluster is not there, it may get a new primary at any moment.
    const bool is_whole = std::all_of(nodes_.begin(), nodes_.end(), [](const Node& node) {
        return !node.is_primary || (node.link && node.link->is_up());
    });
    map_due_ = std::min(map_due_, now + (is_whole ? kMapLasts : kMapSoon));
}

/// Lets go of servers that are no primaries (any more), once nothing is under way there.
void ClusterClient::drop_idle_links(TimePoint now) noexcept {
    if (!has_map_) return;
    const bool is_any_up = std::any_of(nodes_.begin(), nodes_.end(), [](const Node& node) {
        return node.is_primary && node.link && node.link->is_up();
    });
    if (!is_any_up) return;
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        Node& node = nodes_[i];
        if (!node.link || node.is_primary || node.link->in_flight() > 0) continue;
        const bool is_asked = std::any_of(held_.begin(), held_.end(), [i](const auto& slot) {
            return std::any_of(slot.second.begin(), slot.second.end(),
                               [i](const Request& request) { return request.ask == static_cast<int>(i); });
        });
        if (is_asked) continue;
        node.link->close(now);
        node.link.reset();
    }
}

void ClusterClient::service(std::span<const Ready> ready, TimePoint now) noexcept {
    if (is_closed_) return;
    // Nodes may be added meanwhile.
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
        if (!nodes_[i].link) continue;
        Link& link = *nodes_[i].link;
        const Ready own = ready_for(link, ready);
        link.service(own.readable, own.writable, now);
    }
    if (std::exchange(is_map_doubted_, false)) want_map(now);
    try {
        if (now >= map_due_ && !is_asking_) ask_for_map(now);
        // Nobody could be asked.
        if (map_due_ == kNever && !is_asking_) map_due_ = now + kMapSoon;
        release_held(now);
    } catch (...) {
        map_due_ = std::min(map_due_, now + kMapAgain);
    }
    drop_idle_links(now);
    interests_.update([this](auto&& see) {
        for (const Node& node : nodes_)
            if (node.link) see(*node.link);
    });
}

TimePoint ClusterClient::next_deadline() const noexcept {
    if (is_closed_) return kNever;
    TimePoint deadline = is_asking_ ? kNever : map_due_;
    for (const Node& node : nodes_)
        if (node.link) deadline = std::min(deadline, node.link->next_deadline());
    for (const auto& [slot, requests] : held_) {
        if (under_way_[static_cast<std::size_t>(slot)].count > 0) continue;
        deadline = std::min(deadline, requests.front().submitted_at + options_.total_timeout);
    }
    return deadline;
}

Status ClusterClient::status(TimePoint now) const {
    Status status;
    tally_.report(status);
    status.redirects = redirects_;
    status.buffered_bytes = buffered();
    const Link* shown = nullptr;
    for (const Node& node : nodes_) {
        if (!node.link) continue;
        if (shown == nullptr) shown = node.link.get();
        if (!node.is_primary) continue;
        if (node.link->is_up()) {
            ++status.nodes_up;
            status.up_since = std::max(status.up_since, node.link->up_since());
        } else {
            shown = node.link.get();  // the one that there is something to be said of
        }
    }
    status.nodes = static_cast<int>(primaries().size());
    status.state = is_closed_ ? State::kClosed : State::kConnecting;
    if (is_closed_) return status;
    if (has_map_ && status.nodes_up == status.nodes) {
        status.state = can_take(now) ? State::kUp : State::kOpen;
    } else if (shown != nullptr) {
        status.state = shown->is_up() ? State::kConnecting : shown->state(now);
        status.breaker = shown->breaker(now);
        if (map_verdict_ == Verdict::kConfiguration) status.state = State::kMisconfigured;
    }
    return status;
}

void ClusterClient::close(TimePoint now) noexcept {
    if (std::exchange(is_closed_, true)) return;
    for (std::size_t i = 0; i < nodes_.size(); ++i)
        if (nodes_[i].link) nodes_[i].link->close(now);
    while (!held_.empty())
        lose_held(held_.begin()->first, "the client was closed");
    interests_.update([](auto&& /*see*/) {});
}

}  // namespace

std::unique_ptr<Client> make_cluster(Options options) {
    return std::make_unique<ClusterClient>(std::move(options));
}

}  // namespace cache_ext::redis
