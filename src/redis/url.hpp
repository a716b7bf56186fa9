#pragma once

// Where Redis is, as one text.
//
//   redis://[[user]:password@]host[:port][,host[:port]…][/database]    TCP; port 6379 unless given
//   rediss://…                                                         the same through TLS
//   redis-sentinel://[[user]:password@]host[:port][,host[:port]…][/database]?master=NAME    the master that these sentinels name; port 26379
//   rediss-sentinel://…                                                both the sentinels and the master through TLS
//   unix:/path   unix:///path                                          a socket in the file system
//   https://host[:port]                                                Upstash's REST interface; its token is given apart
//
// Parameters follow a `?`, with `&` in between:
//
//   cluster=1      (redis, rediss) the host is a node of a Redis Cluster. Several hosts mean the same
//   sentinel_user=…, sentinel_password=…   (sentinels) what they want; user and password in front are the master's
//   cacert=/path   (rediss, rediss-sentinel) the certificates to trust, instead of the system's
//   db=n, user=…, password=…   (unix) what the other forms have in front of the host and after it
//
// An IPv6 address stands in brackets. In user, password and paths `%XX` is a byte. `http://` is taken for a loopback address only
// (a REST proxy on this machine), since the token goes with every request.
//
// Any bytes may be parsed. No message holds a part of what was parsed, so no password gets into one, wherever it was put.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cache_ext::redis {

enum class Scheme : std::uint8_t { kTcp, kTls, kUnix, kRest };

struct Endpoint {
    std::string host;  ///< a name or an address, without brackets
    std::uint16_t port = 0;
    friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

struct Url {
    Scheme scheme = Scheme::kTcp;
    std::vector<Endpoint> endpoints;  ///< one; several only for a cluster or sentinels; none for a socket
    std::string path;                 ///< of the socket
    std::string user;                 ///< empty: Redis' default user
    std::string password;             ///< empty: no AUTH
    std::string ca_file;              ///< empty: the system's certificates
    int database = 0;
    bool is_cluster = false;
    bool is_sentinel = false;  ///< the endpoints are sentinels
    std::string master;        ///< the name of what they watch
    std::string sentinel_user;
    std::string sentinel_password;  ///< empty: no AUTH there
    bool is_plain_http = false;     ///< kRest only
};

struct ParsedUrl {
    std::optional<Url> url;
    std::string error;  ///< where there is no url: what is wrong, as a clause in the server's message style
};

[[nodiscard]] ParsedUrl parse_url(std::string_view text);

/// The URL again, fit to be shown: `***` in place of the password, and bytes that need it encoded.
[[nodiscard]] std::string masked(const Url& url);

/// Whether a text can be a bearer's token: nothing in it ends a header or a word.
[[nodiscard]] bool is_token(std::string_view text) noexcept;

/// The endpoint as `host:port`, with brackets where they are needed.
[[nodiscard]] std::string to_text(const Endpoint& endpoint);

/// `host:port`, or nothing where the text is not that. Used for what a cluster's nodes say of each other, too.
[[nodiscard]] std::optional<Endpoint> parse_endpoint(std::string_view text, std::uint16_t default_port);

/// The same hosts and ports (and master of sentinels), or the same path: what decides whether a password given for one may go to the other.
[[nodiscard]] bool same_place(const Url& a, const Url& b) noexcept;

}  // namespace cache_ext::redis
