#pragma once

// One connection to one server, from dialling to its end. It is not made anew: see Link.
//
// It knows nothing of commands but how many replies are due: whoever appends one keeps what belongs to it, in order, and gets the replies in the same
// order through the sink.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "redis/dial.hpp"
#include "redis/reply.hpp"
#include "redis/reply_reader.hpp"
#include "redis/time.hpp"
#include "redis/tls.hpp"
#include "redis/url.hpp"

struct redisContext;

namespace cache_ext::redis {

/// A command as it goes over the wire.
[[nodiscard]] std::string pack(std::span<const std::string_view> command);

struct Target {
    Scheme scheme = Scheme::kTcp;  ///< not kRest
    Endpoint endpoint;
    std::string path;  ///< instead of the endpoint, for kUnix
    std::string ca_file;
    std::string user;
    std::string password;
    int database = 0;
    std::string client_name;
    bool has_to_be_master = false;  ///< else it is as good as one that cannot be reached
    milliseconds connect_timeout{1000};
    milliseconds command_timeout{1000};
};

/// Where replies go.
class ReplySink {
public:
    ReplySink() = default;
    ReplySink(const ReplySink&) = delete;
    ReplySink& operator=(const ReplySink&) = delete;

    /// The next reply. It may append commands to the connection, and may `fail` it.
    virtual void on_reply(Reply&& reply) noexcept = 0;

protected:
    ~ReplySink() = default;
};

class Connection {
public:
    enum class State : std::uint8_t { kDialling, kTls, kGreeting, kUp, kDown };

    /// Begins to connect. Throws std::bad_alloc. The sink outlives this.
    Connection(const Target& target, ReplySink& sink, TimePoint now);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection();

    [[nodiscard]] State state() const noexcept { return state_; }

    /// The socket, -1 where there is none (any more).
    [[nodiscard]] int fd() const noexcept;

    /// How many sockets it has had so far: another one may have the same number.
    [[nodiscard]] std::size_t sockets() const noexcept { return dial_.sockets(); }

    [[nodiscard]] bool wants_read() const noexcept;
    [[nodiscard]] bool wants_write() const noexcept;
    [[nodiscard]] TimePoint next_deadline() const noexcept;

    /// To be called where the socket is ready, where the deadline has passed, after commands were appended. Never waits.
    void service(bool readable, bool writable, TimePoint now) noexcept;

    /// Adds a command, while this is up, whose reply is then due. False: there is no memory.
    [[nodiscard]] bool append(std::string_view packed, TimePoint now) noexcept;

    /// The same for SUBSCRIBE: from now on what the server sends is not matched with commands: each reply goes to the sink as it comes.
    [[nodiscard]] bool append_subscribe(std::string_view packed, TimePoint now) noexcept;

    /// Bytes that the socket has not taken yet.
    [[nodiscard]] std::size_t buffered() const noexcept;

    /// Ends it: state is kDown, no reply comes any more.
    void fail(Verdict verdict, std::string error) noexcept;

    /// Where state is kDown: why, and what that means (kReconnect, kRetryLater or kConfiguration).
    [[nodiscard]] const std::string& error() const noexcept { return error_; }
    [[nodiscard]] Verdict verdict() const noexcept { return verdict_; }

private:
    void dialled(Dial::Step step);
    void attach();
    void shake_hands();
    void greet();
    void greeted(const Reply& reply, TimePoint now);
    void write();
    void read(TimePoint now);
    void handle(Reply& reply, TimePoint now);
    void check_time(TimePoint now);
    [[nodiscard]] TimePoint due() const noexcept;

    struct Free {
        void operator()(redisContext* context) const noexcept;
    };

    enum class Greeting : std::uint8_t { kAuth, kSelect, kName, kPing, kRole };

    Target target_;
    ReplySink& sink_;
    State state_ = State::kDialling;
    Dial dial_;
    std::unique_ptr<Tls> tls_;
    std::unique_ptr<redisContext, Free> context_;
    std::unique_ptr<ReplyReader> reader_;
    std::vector<Greeting> greetings_;  ///< whose replies are due, the first last
    std::size_t replies_due_ = 0;
    bool is_subscribed_ = false;
    bool is_blocked_ = false;  ///< the socket takes no more for now
    bool tls_wants_write_ = false;
    bool has_more_ = false;  ///< something was left unread, to let others have their turn
    TimePoint connect_by_{};
    TimePoint heard_at_{};  ///< the last time of a reply, or when the first one became due
    std::string error_;
    Verdict verdict_ = Verdict::kOk;
};

}  // namespace cache_ext::redis
