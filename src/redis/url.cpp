#include "redis/url.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace cache_ext::redis {

namespace {

constexpr std::size_t kLongest = 8192;
constexpr std::size_t kMostEndpoints = 32;
constexpr std::size_t kLongestText = 1024;  // a user, a path
constexpr std::size_t kLongestHost = 253;
constexpr std::size_t kLongestSocketPath = 107;  // what sockaddr_un holds
constexpr std::uint16_t kRedisPort = 6379;
constexpr std::uint16_t kSentinelPort = 26379;

/// What is wrong, thrown to parse_url within this file. The texts are constants: nothing of the input gets into them.
struct Mistake {
    const char* message;
};

int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::string decoded(std::string_view text) {
    std::string result;
    result.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '%') {
            const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
            const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
            if (high < 0 || low < 0) throw Mistake{"a \"%\" is not followed by two hexadecimal digits"};
            c = static_cast<char>(high * 16 + low);
            i += 2;
        }
        if (c == '\0') throw Mistake{"it contains a zero byte"};
        result.push_back(c);
    }
    return result;
}

std::string encoded(std::string_view text, std::string_view also_plain) {
    static constexpr std::string_view kHex = "0123456789ABCDEF";
    std::string result;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                              c == '-' || c == '_' || c == '.' || c == '~' ||
                              also_plain.find(c) != std::string_view::npos;
        if (is_plain) {
            result.push_back(c);
        } else {
            result.push_back('%');
            result.push_back(kHex[byte >> 4]);
            result.push_back(kHex[byte & 15]);
        }
    }
    return result;
}

template <class Number>
std::optional<Number> number(std::string_view text, Number least, Number most) noexcept {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    if (value < least || value > most) return std::nullopt;
    return value;
}

bool is_ipv6(std::string_view text) {
    // A zone, as in fe80::1%eth0, is an interface's name.
    const std::size_t zone = text.find('%');
    if (zone != std::string_view::npos) {
        const std::string_view name = text.substr(zone + 1);
        if (name.empty() || name.size() > 15 || !std::all_of(name.begin(), name.end(), [](char c) {
                return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '.' || c == '-' || c == '_';
            }))
            return false;
    }
    std::array<unsigned char, 16> address{};
    return inet_pton(AF_INET6, std::string(text.substr(0, zone)).c_str(), address.data()) == 1;
}

bool is_host_name(std::string_view text) noexcept {
    return !text.empty() && text.size() <= kLongestHost && text.front() != '-' &&
           std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '-' || c == '_';
           });
}

Endpoint endpoint_of(std::string_view text, std::uint16_t default_port) {
    Endpoint endpoint{{}, default_port};
    std::string_view port;
    bool has_port = false;
    if (text.starts_with('[')) {
        const std::size_t end = text.find(']');
        if (end == std::string_view::npos) throw Mistake{"a \"[\" has no \"]\""};
        endpoint.host = decoded(text.substr(1, end - 1));
        if (!is_ipv6(endpoint.host)) throw Mistake{"what is in the brackets is not an IPv6 address"};
        const std::string_view rest = text.substr(end + 1);
        has_port = !rest.empty();
        if (has_port && !rest.starts_with(':'))
            throw Mistake{"something other than a port follows the \"]\""};
        if (has_port) port = rest.substr(1);
    } else {
        const std::size_t colon = text.find(':');
        has_port = colon != std::string_view::npos;
        if (has_port) {
            port = text.substr(colon + 1);
            if (port.find(':') != std::string_view::npos)
                throw Mistake{"a host has more than one \":\" (an IPv6 address stands in brackets)"};
        }
        endpoint.host = text.substr(0, colon);
        if (endpoint.host.empty()) throw Mistake{"a host is missing"};
        if (!is_host_name(endpoint.host))
            throw Mistake{"a host contains a character that is not allowed there"};
    }
    if (has_port) {
        const auto value = number<int>(port, 1, 65535);
        if (!value) throw Mistake{"a port is not a number from 1 to 65535"};
        endpoint.port = static_cast<std::uint16_t>(*value);
    }
    return endpoint;
}

std::vector<Endpoint> endpoints_of(std::string_view text, std::uint16_t default_port) {
    std::vector<Endpoint> endpoints;
    for (;;) {
        const std::size_t comma = text.find(',');
        if (endpoints.size() == kMostEndpoints) throw Mistake{"it names too many hosts"};
        endpoints.push_back(endpoint_of(text.substr(0, comma), default_port));
        if (comma == std::string_view::npos) return endpoints;
        text.remove_prefix(comma + 1);
    }
}

int database_of(std::string_view text) {
    const auto value = number<int>(text, 0, 1'000'000);
    if (!value) throw Mistake{"the database is not a number, 0 or more"};
    return *value;
}

bool flag_of(std::string_view text) {
    if (text == "1" || text == "true" || text == "on" || text == "yes") return true;
    if (text == "0" || text == "false" || text == "off" || text == "no") return false;
    throw Mistake{"the parameter \"cluster\" is neither 1 nor 0"};
}

void read_parameters(std::string_view query, Url& url) {
    while (!query.empty()) {
        const std::size_t end = query.find('&');
        const std::string_view parameter = query.substr(0, end);
        query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
        const std::size_t equals = parameter.find('=');
        if (equals == std::string_view::npos) throw Mistake{"a parameter has no value"};
        const std::string_view name = parameter.substr(0, equals);
        const std::string value = decoded(parameter.substr(equals + 1));
        const bool is_network = url.scheme == Scheme::kTcp || url.scheme == Scheme::kTls;
        if (name == "cluster" && is_network && !url.is_sentinel) {
            // Several hosts are a cluster's, whatever this says.
            url.is_cluster = flag_of(value) || url.is_cluster;
        } else if (name == "cacert" && url.scheme == Scheme::kTls) {
            if (!value.starts_with('/')) throw Mistake{"the parameter \"cacert\" is not an absolute path"};
            url.ca_file = value;
        } else if (name == "master" && url.is_sentinel) {
            url.master = value;
        } else if (name == "sentinel_user" && url.is_sentinel) {
            url.sentinel_user = value;
        } else if (name == "sentinel_password" && url.is_sentinel) {
            url.sentinel_password = value;
        } else if (name == "db" && url.scheme == Scheme::kUnix) {
            url.database = database_of(value);
        } else if (name == "user" && url.scheme == Scheme::kUnix) {
            url.user = value;
        } else if (name == "password" && url.scheme == Scheme::kUnix) {
            url.password = value;
        } else {
            throw Mistake{"it has a parameter that this kind of URL does not take"};
        }
    }
}

/// Takes `user:password@` off the authority. What the rest may contain has no "@", so the last one counts: a password may hold others.
void read_user(std::string_view& authority, Url& url) {
    const std::size_t at = authority.rfind('@');
    if (at == std::string_view::npos) return;
    const std::string_view user = authority.substr(0, at);
    authority.remove_prefix(at + 1);
    if (url.scheme == Scheme::kRest)
        throw Mistake{"an https:// URL takes no user or password; its token is a setting of its own"};
    const std::size_t colon = user.find(':');
    url.user = decoded(user.substr(0, colon));
    if (colon != std::string_view::npos) url.password = decoded(user.substr(colon + 1));
}

bool is_loopback(std::string_view host) {
    std::array<unsigned char, 4> address{};
    return host == "localhost" || host == "::1" ||
           (inet_pton(AF_INET, std::string(host).c_str(), address.data()) == 1 && address[0] == 127);
}

bool take_scheme(std::string_view& text, std::string_view scheme) noexcept {
    const auto same = [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; };
    if (text.size() < scheme.size() ||
        !std::equal(scheme.begin(), scheme.end(), text.begin(), [&](char b, char a) { return same(a, b); }))
        return false;
    text.remove_prefix(scheme.size());
    return true;
}

Url url_of(std::string_view text) {
    Url url;
    if (text.empty()) throw Mistake{"it is empty"};
    if (text.size() > kLongest) throw Mistake{"it is too long"};
    if (take_scheme(text, "redis://")) {
        url.scheme = Scheme::kTcp;
    } else if (take_scheme(text, "rediss://")) {
        url.scheme = Scheme::kTls;
    } else if (take_scheme(text, "redis-sentinel://")) {
        url.scheme = Scheme::kTcp;
        url.is_sentinel = true;
    } else if (take_scheme(text, "rediss-sentinel://")) {
        url.scheme = Scheme::kTls;
        url.is_sentinel = true;
    } else if (take_scheme(text, "unix://") || take_scheme(text, "unix:")) {
        url.scheme = Scheme::kUnix;
    } else if (take_scheme(text, "https://")) {
        url.scheme = Scheme::kRest;
    } else if (take_scheme(text, "http://")) {
        url.scheme = Scheme::kRest;
        url.is_plain_http = true;
    } else {
        throw Mistake{"it does not begin with redis://, rediss://, redis-sentinel://, unix: or https://"};
    }
    if (text.find('#') != std::string_view::npos)
        throw Mistake{"it contains a \"#\" (in a password, write %23)"};

    const std::size_t question = text.find('?');
    const std::string_view query =
        question == std::string_view::npos ? std::string_view() : text.substr(question + 1);
    text = text.substr(0, question);

    if (url.scheme == Scheme::kUnix) {
        url.path = decoded(text);
        if (!url.path.starts_with('/')) throw Mistake{"the path of the socket is not an absolute one"};
        if (url.path.size() > kLongestSocketPath) throw Mistake{"the path of the socket is too long"};
    } else {
        const std::size_t slash = text.find('/');
        std::string_view authority = text.substr(0, slash);
        const std::string_view path =
            slash == std::string_view::npos ? std::string_view() : text.substr(slash + 1);
        read_user(authority, url);
        const std::uint16_t port = url.is_sentinel               ? kSentinelPort
                                   : url.scheme != Scheme::kRest ? kRedisPort
                                   : url.is_plain_http           ? 80
                                                                 : 443;
        url.endpoints = endpoints_of(authority, port);
        if (url.scheme == Scheme::kRest) {
            if (!path.empty()) throw Mistake{"an https:// URL takes no path"};
            if (url.endpoints.size() > 1) throw Mistake{"an https:// URL takes one host"};
            if (url.is_plain_http && !is_loopback(url.endpoints.front().host))
                throw Mistake{
                    "http:// is for a loopback address only, since the token goes with every request: use "
                    "https://"};
        } else {
            if (!path.empty()) url.database = database_of(path);
            url.is_cluster = url.endpoints.size() > 1 && !url.is_sentinel;
        }
    }
    read_parameters(query, url);
    if (url.is_sentinel && url.master.empty())
        throw Mistake{"it does not name the master that the sentinels watch (\"?master=name\")"};
    for (const std::string* part : {&url.user, &url.ca_file, &url.master, &url.sentinel_user})
        if (part->size() > kLongestText) throw Mistake{"a part of it is too long"};
    if (url.sentinel_password.empty() && !url.sentinel_user.empty())
        throw Mistake{"it has a user for the sentinels, but no password"};
    if (url.password.empty() && !url.user.empty())
        throw Mistake{"it has a user, but no password (a password alone is written \":password@\")"};
    if (url.is_cluster && url.database != 0) throw Mistake{"a cluster has no database but 0"};
    return url;
}

}  // namespace

ParsedUrl parse_url(std::string_view text) {
    try {
        return {url_of(text), {}};
    } catch (const Mistake& mistake) {
        return {std::nullopt, mistake.message};
    }
}

std::optional<Endpoint> parse_endpoint(std::string_view text, std::uint16_t default_port) {
    try {
        return endpoint_of(text, default_port);
    } catch (const Mistake&) {
        return std::nullopt;
    }
}

bool is_token(std::string_view text) noexcept {
    return !text.empty() && std::none_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f;
    });
}

std::string to_text(const Endpoint& endpoint) {
    const bool needs_brackets = endpoint.host.find(':') != std::string::npos;
    std::string text = needs_brackets ? "[" + endpoint.host + "]" : endpoint.host;
    text += ':';
    text += std::to_string(endpoint.port);
    return text;
}

std::string masked(const Url& url) {
    std::string text;
    char separator = '?';
    const auto parameter = [&](std::string_view name, std::string_view value) {
        text += separator;
        text += name;
        text += '=';
        text += value;
        separator = '&';
    };
    if (url.scheme == Scheme::kUnix) {
        // Of several slashes two are the scheme's.
        text = (url.path.starts_with("//") ? "unix://" : "unix:") + encoded(url.path, "/");
        if (url.database != 0) parameter("db", std::to_string(url.database));
        if (!url.user.empty()) parameter("user", encoded(url.user, ""));
        if (!url.password.empty()) parameter("password", "***");
        return text;
    }
    switch (url.scheme) {
        case Scheme::kTls:
            text = url.is_sentinel ? "rediss-sentinel://" : "rediss://";
            break;
        case Scheme::kRest:
            text = url.is_plain_http ? "http://" : "https://";
            break;
        case Scheme::kTcp:
        case Scheme::kUnix:
            text = url.is_sentinel ? "redis-sentinel://" : "redis://";
            break;
    }
    if (!url.password.empty()) text += encoded(url.user, "") + ":***@";
    for (std::size_t i = 0; i < url.endpoints.size(); ++i) {
        if (i > 0) text += ',';
        Endpoint endpoint = url.endpoints[i];
        // The percent sign of a zone.
        if (endpoint.host.find(':') != std::string::npos) endpoint.host = encoded(endpoint.host, ":");
        text += to_text(endpoint);
    }
    if (url.database != 0) text += "/" + std::to_string(url.database);
    if (url.is_cluster && url.endpoints.size() == 1) parameter("cluster", "1");
    if (url.is_sentinel) parameter("master", encoded(url.master, ""));
    if (!url.sentinel_user.empty()) parameter("sentinel_user", encoded(url.sentinel_user, ""));
    if (!url.sentinel_password.empty()) parameter("sentinel_password", "***");
    if (!url.ca_file.empty()) parameter("cacert", encoded(url.ca_file, "/"));
    return text;
}

bool same_place(const Url& a, const Url& b) noexcept {
    // A password that went through TLS does not go over the same wire without it.
    return a.scheme == b.scheme && a.is_plain_http == b.is_plain_http && a.path == b.path &&
           a.endpoints == b.endpoints && a.is_sentinel == b.is_sentinel && a.master == b.master;
}

}  // namespace cache_ext::redis
