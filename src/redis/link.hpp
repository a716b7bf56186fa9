#pragma once

// A server, and the connection to it, which is made anew whenever it is lost: after a back-off, and after a longer pause once the breaker is open.
// Keeps what belongs to each command until its reply has come, or is lost.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "redis/backoff.hpp"
#include "redis/breaker.hpp"
#include "redis/client.hpp"
#include "redis/connection.hpp"
#include "redis/driven.hpp"
#include "redis/sentinel.hpp"
#include "redis/status.hpp"

namespace cache_ext::redis {

/// A command under way.
struct Request {
    Handler handler;
    TimePoint submitted_at{};
    bool is_internal = false;  ///< the client's own, which counts for nobody
    // For a cluster:
    std::string packed;          ///< to send it to another server; empty: it will not be
    std::uint64_t sequence = 0;  ///< in the order of submission
    int slot = -1;
    int redirects = 0;
    int ask = -1;  ///< the node that is to be asked this once
};

class Link;

/// Whose the servers are.
class LinkOwner {
public:
    LinkOwner() = default;
    LinkOwner(const LinkOwner&) = delete;
    LinkOwner& operator=(const LinkOwner&) = delete;

    /// A command was answered, or is lost. May submit others.
    virtual void on_answer(Link& link, Request&& request, Reply&& reply, TimePoint now) noexcept = 0;

    /// Something came that answers no command: a connection that is subscribed.
    virtual void on_push(Link& /*link*/, Reply&& /*reply*/) noexcept {}

    /// The connection is up; or it is no more (before its commands are answered as lost), or an attempt failed.
    virtual void on_up(Link& /*link*/, TimePoint /*now*/) noexcept {}
    virtual void on_down(Link& /*link*/) noexcept {}

protected:
    ~LinkOwner() = default;
};

/// The target that the options tell of, with the first endpoint; for sentinels, the master, wherever it is.
[[nodiscard]] Target target_of(const Options& options);

/// Counts what happens, for the status of all links of a client together.
struct Tally {
    std::uint64_t commands = 0;
    std::uint64_t replies = 0;
    std::uint64_t errors = 0;
    std::uint64_t lost = 0;
    std::uint64_t connections = 0;
    std::uint64_t in_flight = 0;
    std::uint64_t round_trip_ns = 0;
    std::string last_error;
    TimePoint last_error_at{};

    void note_error(std::string_view text, TimePoint now) noexcept;
    void note_reply(Duration since_submission) noexcept;

    /// Puts all but the state and the nodes into a status.
    void report(Status& status) const;
};

class Link final : public ReplySink {
public:
    /// Owner, options and tally outlive it. Where the options name sentinels, these are asked for the server's address before each attempt.
    Link(Target target, const Options& options, std::uint64_t seed, Tally& tally, LinkOwner& owner);

    /// Another server instead, at the next attempt.
    void set_endpoint(const Endpoint& endpoint);

    [[nodiscard]] bool is_up() const noexcept;
    [[nodiscard]] bool takes(TimePoint now) const noexcept { return is_up() && breaker_.allows(now); }

    /// Sends a command: `packed`, or what the request itself holds where that is empty. False: it was not taken, and the request is as it was.
    /// The bounds are the owner's to look after.
    [[nodiscard]] bool submit(Request&& request, std::string_view packed, TimePoint now) noexcept;

    /// Subscribes: what comes from now on goes to on_push.
    [[nodiscard]] bool subscribe(std::string_view packed, TimePoint now) noexcept;
    [[nodiscard]] bool ping_subscribed(TimePoint now) noexcept;

    void service(bool readable, bool writable, TimePoint now) noexcept;
    [[nodiscard]] TimePoint next_deadline() const noexcept;

    /// No socket: nothing to wait for.
    [[nodiscard]] std::optional<Interest> interest() const noexcept;

    /// Differs whenever the socket is another one.
    [[nodiscard]] std::uint64_t socket_serial() const noexcept;

    /// Gives the connection up, answers what is under way as lost, and tries no more. Not from within on_answer and on_push.
    void close(TimePoint now) noexcept;

    /// Gives the connection up as one that failed: kReconnect, kRetryLater or kConfiguration.
    void fail(Verdict verdict, std::string_view why, TimePoint now) noexcept;

    [[nodiscard]] State state(TimePoint now) const noexcept;
    [[nodiscard]] Breaker::State breaker(TimePoint now) const noexcept { return breaker_.state(now); }
    [[nodiscard]] TimePoint up_since() const noexcept { return up_since_; }
    [[nodiscard]] std::size_t buffered() const noexcept { return connection_ ? connection_->buffered() : 0; }
    [[nodiscard]] std::size_t in_flight() const noexcept { return requests_.size(); }
    [[nodiscard]] const Target& target() const noexcept { return target_; }

    void on_reply(Reply&& reply) noexcept override;

private:
    void attempt(TimePoint now);
    void connect(const Target& target, TimePoint now);
    void serve(bool readable, bool writable, TimePoint now) noexcept;
    void search(TimePoint now);
    void take_address(const Reply& reply) noexcept;
    [[nodiscard]] std::string why_it_is_down() const;
    void settle(TimePoint now) noexcept;
    void lose(TimePoint now, std::string_view why) noexcept;

    Target target_;
    const Options& options_;
    Tally& tally_;
    LinkOwner& owner_;
    Backoff backoff_;
    Breaker breaker_;
    std::optional<Connection> connection_;
    std::deque<Request> requests_;
    std::uint64_t connects_ = 0;
    std::optional<Sentinels> sentinels_;
    bool is_searching_ = false;      ///< the connection is one to a sentinel
    bool has_asked_ = false;         ///< which was asked
    std::optional<Endpoint> found_;  ///< what it answered
    bool was_up_ = false;            ///< the owner knows of it
    bool is_forsaken_ = false;       ///< by its replicas, it says
    bool is_subscribed_ = false;
    bool is_closed_ = false;
    bool is_serviced_ = false;  ///< the connection is at work: it cannot be taken away
    Verdict last_verdict_ = Verdict::kOk;
    TimePoint retry_at_ = TimePoint::min();
    TimePoint up_since_{};
    TimePoint now_{};  ///< while it is serviced
};

}  // namespace cache_ext::redis
