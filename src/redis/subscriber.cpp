#include "redis/subscriber.hpp"

#include <algorithm>
#include <utility>

#include "redis/interest_list.hpp"
#include "redis/link.hpp"

namespace cache_ext::redis {

namespace {

/// How long nothing may be heard before the server is asked whether it is still there.
constexpr milliseconds kSilence{5000};

class LinkSubscriber final : public Subscriber, private LinkOwner {
public:
    LinkSubscriber(Options options, const std::vector<std::string>& channels, Listener listener)
        : options_(std::move(options)),
          channels_(channels.size()),
          listener_(std::move(listener)),
          link_(target_of(options_), options_, options_.seed, tally_, *this) {
        std::vector<std::string_view> command = {"SUBSCRIBE"};
        command.insert(command.end(), channels.begin(), channels.end());
        packed_ = pack(command);
    }

    std::span<const Interest> interests() const noexcept override { return interests_.get(); }
    std::uint64_t generation() const noexcept override { return interests_.generation(); }

    TimePoint next_deadline() const noexcept override {
        const TimePoint deadline = link_.next_deadline();
        return link_.is_up() && !is_asked_ ? std::min(deadline, heard_at_ + kSilence) : deadline;
    }

    void service(std::span<const Ready> ready, TimePoint now) noexcept override {
        now_ = now;
        const Ready own = ready_for(link_, ready);
        link_.service(own.readable, own.writable, now);
        if (link_.is_up() && !is_asked_ && now >= heard_at_ + kSilence)
            is_asked_ = link_.ping_subscribed(now);
        // What has just been said goes at once: nothing else would call before its answer is overdue.
        if (link_.is_up()) link_.service(false, false, now);
        interests_.update([this](auto&& see) { see(link_); });
    }

    bool is_subscribed() const noexcept override { return is_subscribed_; }

    Status status(TimePoint now) const override {
        Status status;
        tally_.report(status);
        status.state = link_.state(now);
        if (status.state == State::kUp && !is_subscribed_) status.state = State::kConnecting;
        status.breaker = link_.breaker(now);
        status.up_since = link_.up_since();
        status.nodes = 1;
        status.nodes_up = is_subscribed_ ? 1 : 0;
        return status;
    }

    void close(TimePoint now) noexcept override {
        link_.close(now);
        interests_.update([this](auto&& see) { see(link_); });
    }

private:
    void on_up(Link& link, TimePoint now) noexcept override {
        confirmed_ = 0;
        heard(now);
        if (!link.subscribe(packed_, now)) link.fail(Verdict::kReconnect, "out of memory", now);
    }

    void on_down(Link& link) noexcept override {
        is_asked_ = false;
        if (std::exchange(is_subscribed_, false)) tell(listener_.lost);
        // Any of a cluster's nodes will do.
        if (!options_.url.is_cluster) return;
        try {
            link.set_endpoint(options_.url.endpoints[++endpoint_ % options_.url.endpoints.size()]);
        } catch (...) {
            // Then the same again.
        }
    }

    void on_answer(Link& /*link*/, Request&& /*request*/, Reply&& /*reply*/,
                   TimePoint /*now*/) noexcept override {}

    void on_push(Link& link, Reply&& reply) noexcept override {
        heard(now_);
        if (!reply.ok()) {
            const bool is_settings = reply.verdict == Verdict::kConfiguration;
            return link.fail(is_settings ? Verdict::kConfiguration : Verdict::kReconnect, reply.text, now_);
        }
        if (reply.kind != Reply::Kind::kArray || reply.elements.empty()) return;
        const std::string& kind = reply.elements.front().text;
        if (kind == "message" && reply.elements.size() == 3 && is_subscribed_) {
            ++tally_.replies;
            tell(listener_.message, reply.elements[1].text, reply.elements[2].text);
        } else if (kind == "subscribe" && !is_subscribed_ && ++confirmed_ == channels_) {
            is_subscribed_ = true;
            tell(listener_.subscribed);
        } else if (kind == "unsubscribe") {
            // Who loses the right to a channel is told so.
            link.fail(Verdict::kReconnect, "the server has ended the subscription", now_);
        }
    }

    void heard(TimePoint now) noexcept {
        heard_at_ = now;
        is_asked_ = false;
    }

    template <class Function, class... Arguments>
    static void tell(const Function& function, const Arguments&... arguments) noexcept {
        try {
            if (function) function(arguments...);
        } catch (...) {
            // As with a client's handlers.
        }
    }

    Options options_;
    std::size_t channels_;
    Listener listener_;
    std::string packed_;
    Tally tally_;
    InterestList interests_;
    Link link_;
    std::size_t confirmed_ = 0;
    std::size_t endpoint_ = 0;
    bool is_subscribed_ = false;
    bool is_asked_ = false;
    TimePoint heard_at_{};
    TimePoint now_{};
};

/// One that can never work, and tells why.
class UnavailableSubscriber final : public Subscriber {
public:
    explicit UnavailableSubscriber(std::string why) {
        status_.state = State::kMisconfigured;
        status_.last_error = std::move(why);
    }

    std::span<const Interest> interests() const noexcept override { return {}; }
    std::uint64_t generation() const noexcept override { return 0; }
    TimePoint next_deadline() const noexcept override { return kNever; }
    void service(std::span<const Ready> /*ready*/, TimePoint /*now*/) noexcept override {}
    bool is_subscribed() const noexcept override { return false; }
    Status status(TimePoint /*now*/) const override { return status_; }
    void close(TimePoint /*now*/) noexcept override { status_.state = State::kClosed; }

private:
    Status status_;
};

}  // namespace

std::unique_ptr<Subscriber> Subscriber::make(Options options, const std::vector<std::string>& channels,
                                             Listener listener) {
    if (options.url.scheme == Scheme::kRest)
        return std::make_unique<UnavailableSubscriber>(
            "the REST interface has no SUBSCRIBE: listening needs a redis:// or rediss:// URL");
    if (options.url.scheme == Scheme::kTls && !has_tls())
        return std::make_unique<UnavailableSubscriber>(kNoTls);
    if (channels.empty()) return std::make_unique<UnavailableSubscriber>("there is no channel to listen on");
    return std::make_unique<LinkSubscriber>(std::move(options), channels, std::move(listener));
}

}  // namespace cache_ext::redis
