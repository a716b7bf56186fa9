#include "redis/link.hpp"

#include <algorithm>
#include <utility>

namespace cache_ext::redis {

namespace {

/// A connection that has been up for so long was a good one: after its loss the back-off begins anew.
constexpr milliseconds kGoodFor{5000};
/// A master without replicas may stay one for hours, and else do all that it is told.
constexpr milliseconds kForsakenPause{1000};

}  // namespace

Target target_of(const Options& options) {
    Target target;
    target.scheme = options.url.scheme;
    if (!options.url.endpoints.empty()) target.endpoint = options.url.endpoints.front();
    target.path = options.url.path;
    target.ca_file = options.url.ca_file;
    target.user = options.url.user;
    target.password = options.url.password;
    target.database = options.url.database;
    target.has_to_be_master = options.url.is_sentinel;
    target.client_name = options.client_name;
    target.connect_timeout = options.connect_timeout;
    target.command_timeout = options.command_timeout;
    return target;
}

void Tally::note_error(std::string_view text, TimePoint now) noexcept {
    last_error_at = now;
    try {
        last_error = text;
    } catch (...) {
        last_error = "out of memory";
    }
}

void Tally::note_reply(Duration since_submission) noexcept {
    const auto ns = static_cast<std::int64_t>(std::chrono::nanoseconds(since_submission).count());
    const auto sample = static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0));
    round_trip_ns = round_trip_ns == 0 ? sample : round_trip_ns - round_trip_ns / 8 + sample / 8;
}

void Tally::report(Status& status) const {
    status.commands = commands;
    status.replies = replies;
    status.errors = errors;
    status.lost = lost;
    status.connections = connections;
    status.in_flight = in_flight;
    status.round_trip = std::chrono::microseconds(round_trip_ns / 1000);
    status.last_error = last_error;
    status.last_error_at = last_error_at;
}

Link::Link(Target target, const Options& options, std::uint64_t seed, Tally& tally, LinkOwner& owner)
    : target_(std::move(target)),
      options_(options),
      tally_(tally),
      owner_(owner),
      backoff_(options.backoff, seed),
      breaker_(options.breaker) {
    if (options.url.is_sentinel) sentinels_.emplace(options);
}

void Link::set_endpoint(const Endpoint& endpoint) { target_.endpoint = endpoint; }

bool Link::is_up() const noexcept {
    return connection_ && !is_searching_ && connection_->state() == Connection::State::kUp;
}

bool Link::submit(Request&& request, std::string_view packed, TimePoint now) noexcept {
    if (!is_up()) return false;
    try {
        requests_.push_back(std::move(request));
    } catch (...) {
        return false;
    }
    if (!connection_->append(packed.empty() ? std::string_view(requests_.back().packed) : packed, now)) {
        request = std::move(requests_.back());
        requests_.pop_back();
        return false;
    }
    if (!requests_.back().is_internal) breaker_.attempt();
    return true;
}

bool Link::subscribe(std::string_view packed, TimePoint now) noexcept {
    is_subscribed_ = is_up() && connection_->append_subscribe(packed, now);
    return is_subscribed_;
}

bool Link::ping_subscribed(TimePoint now) noexcept {
    return is_subscribed_ && is_up() && connection_->append("*1\r\n$4\r\nPING\r\n", now);
}

void Link::service(bool readable, bool writable, TimePoint now) noexcept {
    now_ = now;
    try {
        if (!connection_ && !is_closed_ && now >= retry_at_ && breaker_.allows(now)) attempt(now);
        if (!connection_) return;
        serve(readable, writable, now);
        search(now);
    } catch (...) {
        connection_.reset();
        breaker_.failed(now);
        retry_at_ = now + options_.backoff.longest;
        return tally_.note_error("out of memory", now);
    }
    settle(now);
    if (is_up() && !requests_.empty() && now >= requests_.front().submitted_at + options_.total_timeout)
        fail(Verdict::kReconnect, "a command was not answered in time", now);
}

void Link::serve(bool readable, bool writable, TimePoint now) noexcept {
    is_serviced_ = true;
    connection_->service(readable, writable, now);
    is_serviced_ = false;
}

void Link::attempt(TimePoint now) {
    breaker_.attempt();
    is_searching_ = sentinels_.has_value();
    if (!is_searching_) return connect(target_, now);
    sentinels_->begin();
    has_asked_ = false;
    connect(sentinels_->next(), now);
}

void Link::connect(const Target& target, TimePoint now) {
    ++connects_;
    connection_.emplace(target, *this, now);
}

/// Goes on with the sentinel that is connected, with the next one, or with the server that it named.
void Link::search(TimePoint now) {
    while (is_searching_) {
        if (connection_->state() == Connection::State::kUp && !has_asked_) {
            has_asked_ = connection_->append(sentinels_->question(), now);
            if (!has_asked_) connection_->fail(Verdict::kReconnect, "out of memory");
            serve(false, false, now);
        }
        if (found_) {
            is_searching_ = false;
            target_.endpoint = *std::exchange(found_, std::nullopt);
            return connect(target_, now);
        }
        if (connection_->state() != Connection::State::kDown) return;
        sentinels_->failed(connection_->verdict(), connection_->error());
        if (!sentinels_->has_more()) return;
        has_asked_ = false;
        connect(sentinels_->next(), now);
    }
}

void Link::take_address(const Reply& reply) noexcept {
    try {
        Verdict verdict = Verdict::kOk;
        std::string error;
        found_ = sentinels_->read(reply, verdict, error);
        if (!found_) connection_->fail(verdict, std::move(error));
    } catch (...) {
        connection_->fail(Verdict::kReconnect, "out of memory");
    }
}

/// Where it is not always the same server, of which of them that is said.
std::string Link::why_it_is_down() const {
    if (is_searching_) return sentinels_->error();
    return (sentinels_ ? "master " + to_text(target_.endpoint) + ": " : "") + connection_->error();
}

/// Looks what has become of the connection.
void Link::settle(TimePoint now) noexcept {
    if (!connection_) return;
    if (is_up() && !was_up_) {
        was_up_ = true;
        up_since_ = now;
        last_verdict_ = Verdict::kOk;
        ++tally_.connections;
        // Where it was open, this is the attempt that closes it; else the first command decides whether all is well.
        if (breaker_.state(now) != Breaker::State::kClosed) breaker_.succeeded();
        owner_.on_up(*this, now);
    }
    // The owner may have given it up at once.
    if (!connection_ || connection_->state() != Connection::State::kDown) return;
    const bool was_up = std::exchange(was_up_, false);
    last_verdict_ = is_searching_ ? sentinels_->verdict() : connection_->verdict();
    if (sentinels_ && !is_searching_ && !was_up) sentinels_->misled();
    if (was_up && now - up_since_ >= kGoodFor) backoff_.succeeded();
    breaker_.failed(now);
    retry_at_ = now + (std::exchange(is_forsaken_, false) ? kForsakenPause : backoff_.next());
    try {
        tally_.note_error(why_it_is_down(), now);
    } catch (...) {
        tally_.note_error("out of memory", now);
    }
    is_subscribed_ = is_searching_ = false;
    connection_.reset();
    owner_.on_down(*this);
    lose(now, tally_.last_error);
}

void Link::lose(TimePoint now, std::string_view why) noexcept {
    // What handlers submit meanwhile is not taken here: there is no connection.
    std::deque<Request> lost = std::move(requests_);
    requests_ = {};
    for (Request& request : lost) {
        Reply reply;
        reply.kind = Reply::Kind::kError;
        reply.verdict = Verdict::kLost;
        try {
            reply.text = why;
        } catch (...) {
        }
        owner_.on_answer(*this, std::move(request), std::move(reply), now);
    }
}

void Link::on_reply(Reply&& reply) noexcept {
    if (is_searching_) return take_address(reply);
    if (is_subscribed_) return owner_.on_push(*this, std::move(reply));
    // The connection sees to it that there is one.
    Request request = std::move(requests_.front());
    requests_.pop_front();
    // A master whose replicas have left it may have been replaced: the sentinels know.
    if (sentinels_ && reply.verdict == Verdict::kRetryLater &&
        reply.text.find("NOREPLICAS") != std::string::npos) {
        reply.verdict = Verdict::kReconnect;
        is_forsaken_ = true;
    }
    // What the client asks for itself says nothing of whether commands are done.
    if (request.is_internal && reply.verdict != Verdict::kReconnect)
        return owner_.on_answer(*this, std::move(request), std::move(reply), now_);
    tally_.note_reply(now_ - request.submitted_at);
    switch (reply.verdict) {
        case Verdict::kRetryLater:
            breaker_.failed(now_);
            tally_.note_error(reply.text, now_);
            break;
        case Verdict::kConfiguration:
            tally_.note_error(reply.text, now_);
            breaker_.succeeded();
            break;
        case Verdict::kReconnect:
            // Noted with the connection's end.
            try {
                connection_->fail(Verdict::kReconnect, "the server says: " + reply.text);
            } catch (...) {
                connection_->fail(Verdict::kReconnect, "out of memory");
            }
            break;
        default:
            breaker_.succeeded();
            backoff_.succeeded();
            break;
    }
    owner_.on_answer(*this, std::move(request), std::move(reply), now_);
}

TimePoint Link::next_deadline() const noexcept {
    if (is_closed_) return kNever;
    if (!connection_) {
        const TimePoint breaker = breaker_.retry_at();
        return breaker == kNever ? retry_at_ : std::max(retry_at_, breaker);
    }
    TimePoint deadline = connection_->next_deadline();
    if (!requests_.empty())
        deadline = std::min(deadline, requests_.front().submitted_at + options_.total_timeout);
    return deadline;
}

std::optional<Interest> Link::interest() const noexcept {
    if (!connection_ || connection_->fd() < 0) return std::nullopt;
    return Interest{connection_->fd(), connection_->wants_read(), connection_->wants_write()};
}

std::uint64_t Link::socket_serial() const noexcept {
    return connects_ << 16 | (connection_ ? connection_->sockets() & 0xffff : 0);
}

void Link::close(TimePoint now) noexcept {
    if (std::exchange(is_closed_, true)) return;
    const bool was_up = std::exchange(was_up_, false);
    connection_.reset();
    is_subscribed_ = false;
    if (was_up) owner_.on_down(*this);
    lose(now, "the client was closed");
}

void Link::fail(Verdict verdict, std::string_view why, TimePoint now) noexcept {
    if (!connection_) return;
    try {
        connection_->fail(verdict, std::string(why));
    } catch (...) {
        connection_->fail(verdict, "out of memory");
    }
    if (!is_serviced_) settle(now);
}

State Link::state(TimePoint now) const noexcept {
    if (is_closed_) return State::kClosed;
    if (is_up()) return breaker_.allows(now) ? State::kUp : State::kOpen;
    if (last_verdict_ == Verdict::kConfiguration) return State::kMisconfigured;
    if (connection_) return State::kConnecting;
    if (breaker_.state(now) == Breaker::State::kOpen) return State::kOpen;
    return last_verdict_ == Verdict::kOk ? State::kConnecting : State::kWaiting;
}

}  // namespace cache_ext::redis
