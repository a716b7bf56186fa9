#pragma once

// A client of Redis for one process with an event loop of its own: a single server, a Cluster, or Upstash's REST interface, all behind
// the same calls.
//
// It keeps connections up by itself: an attempt that fails is repeated after a back-off; after several in a row a breaker keeps it
// quiet for a while. Commands are pipelined: many may be under way, and those with the same routing key (in a cluster: with keys of the same slot) are done
// and answered in the order of their submission, redirections included.
//
// Every command that was taken is answered exactly once, while the client lives. When a connection is lost, or a reply does not come in
// time, all its commands without a reply are answered with Verdict::kLost, in their order: each may have been done or not. Sending it again is the
// caller's, and so is making that harmless. The client never sends a command twice by itself, but where the server has said that it did not do it (MOVED, ASK).
//
// Handlers are called from `service` and `close` only, never from `submit`. A handler may call `submit`, `submit_to` and what is const; not `service`,
// `close` or the destructor. It must neither throw (an exception is dropped) nor jump past its caller, as a server's ERROR does: it notes
// what came, and the work follows after `service`.
//
// Names of hosts are looked up with getaddrinfo, which may block this process for as long as its resolver takes (by default up to some 10 s where
// no name server answers); addresses and sockets never block.
//
// What the caller may not submit, since connections are shared and made anew: SELECT, AUTH, HELLO, CLIENT REPLY, MULTI and what belongs to it,
// SUBSCRIBE and its kin (see Subscriber), MONITOR, QUIT, and whatever blocks (BLPOP, XREAD BLOCK, WAIT).
//
// Nothing that is noexcept fails for lack of memory: a command is not taken then, or a connection is given up. The other functions may throw
// std::bad_alloc, and no other exception.

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "redis/backoff.hpp"
#include "redis/breaker.hpp"
#include "redis/driven.hpp"
#include "redis/features.hpp"
#include "redis/reply.hpp"
#include "redis/status.hpp"
#include "redis/url.hpp"

namespace cache_ext::redis {

struct Options {
    Url url;
    std::string token;                      ///< for Scheme::kRest
    std::string client_name = "cache_ext";  ///< CLIENT SETNAME; empty: none
    milliseconds connect_timeout{
        1000};  ///< from the first packet until the server has taken password and database
    milliseconds command_timeout{1000};  ///< without any reply, while at least one is due
    milliseconds total_timeout{
        10000};  ///< from a command's submission to its answer, redirections and connecting included
    std::size_t most_buffered =
        1 << 20;  ///< bytes of commands waiting for the sockets, above which can_take says no
    std::size_t most_in_flight = 10000;  ///< commands without an answer, likewise
    BackoffOptions backoff;
    BreakerOptions breaker;
    std::uint64_t seed = 0;  ///< for the jitter
};

/// A command and its arguments, any bytes: {"SET", "key", "value"}.
using Command = std::span<const std::string_view>;

/// Gets the answer to one command. It is copied and called once.
using Handler = std::function<void(const Reply&)>;

/// A server that holds a part of the keys. The same number means the same server while `topology` is the same.
using NodeId = std::uint32_t;

class Client : public Driven {
public:
    /// A client for what the URL names. It connects at the first `service`. Never null: what cannot work (rediss:// without a TLS library)
    /// is a client that says so in its status and takes nothing.
    [[nodiscard]] static std::unique_ptr<Client> make(Options options);

    /// Whether a command can be taken now: connected, the breaker lets it through, and less is under way than the options say. A `submit`
    /// where this is false is refused; the bounds are looked at before a command, so a single large one passes.
    [[nodiscard]] virtual bool can_take(TimePoint now) const noexcept = 0;

    /// Takes a command. False: it was not taken, and the handler will not be called.
    ///
    /// `routing_key` tells where it belongs: any of its keys. In a cluster all keys of a command must be of one slot (see slot_of); splitting is
    /// the caller's. A command without keys (PUBLISH, say) may be given any text; the same text means the same order.
    [[nodiscard]] virtual bool submit(Command command, std::string_view routing_key, Handler handler,
                                      TimePoint now) noexcept = 0;

    /// The same for a server of `primaries`, whatever the keys: for SCAN, DBSIZE and the like. One that is not there any more: answered with kLost.
    [[nodiscard]] virtual bool submit_to(NodeId node, Command command, Handler handler,
                                         TimePoint now) noexcept = 0;

    /// Whether it is a cluster, where all keys of a command have to be of one slot. A cluster may be of one server.
    [[nodiscard]] virtual bool is_cluster() const noexcept { return false; }

    /// The servers that hold all the keys together, as far as it is known. Empty: not known yet. One, unless it is a cluster.
    [[nodiscard]] virtual std::vector<NodeId> primaries() const = 0;

    /// Differs from what it was when keys may have moved to other servers. A SCAN over all primaries has seen every key if this is the same
    /// before and after.
    [[nodiscard]] virtual std::uint64_t topology() const noexcept = 0;

    [[nodiscard]] virtual Status status(TimePoint now) const = 0;

    /// Closes all connections and answers what is under way with kLost. Nothing is taken any more. The destructor closes too, without answering.
    virtual void close(TimePoint now) noexcept = 0;
};

/// Sends the command to every primary; `handler` gets each one's answer with its number. Returns how many took it.
std::size_t for_each_primary(Client& client, Command command,
                             const std::function<void(NodeId, const Reply&)>& handler,
                             TimePoint now) noexcept;

/// The slot of a key in a cluster, 0 to 16383: of the part within the first braces, if there is one, else of all of it. Keys are to be of one slot
/// where one command names them. A client that is no cluster's does not mind.
[[nodiscard]] std::uint16_t slot_of(std::string_view key) noexcept;

}  // namespace cache_ext::redis
