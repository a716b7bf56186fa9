#include "redis/url.hpp"

#include <gtest/gtest.h>

#include <array>

namespace cache_ext::redis {
namespace {

Url parsed(std::string_view text) {
    const ParsedUrl result = parse_url(text);
    EXPECT_TRUE(result.url.has_value()) << text << ": " << result.error;
    EXPECT_TRUE(result.error.empty());
    return result.url.value_or(Url{});
}

std::string error_of(std::string_view text) {
    const ParsedUrl result = parse_url(text);
    EXPECT_FALSE(result.url.has_value()) << text;
    return result.error;
}

TEST(RedisUrl, host_alone) {
    const Url url = parsed("redis://cache.example.com");
    EXPECT_EQ(url.scheme, Scheme::kTcp);
    ASSERT_EQ(url.endpoints.size(), 1U);
    EXPECT_EQ(url.endpoints[0], (Endpoint{"cache.example.com", 6379}));
    EXPECT_EQ(url.database, 0);
    EXPECT_FALSE(url.is_cluster);
    EXPECT_TRUE(url.user.empty() && url.password.empty());
}

TEST(RedisUrl, all_parts) {
    const Url url = parsed("rediss://app:s%3Acr%40t@10.0.0.7:6380/3?cacert=/etc/ssl/own.pem");
    EXPECT_EQ(url.scheme, Scheme::kTls);
    EXPECT_EQ(url.user, "app");
    EXPECT_EQ(url.password, "s:cr@t");
    EXPECT_EQ(url.endpoints[0], (Endpoint{"10.0.0.7", 6380}));
    EXPECT_EQ(url.database, 3);
    EXPECT_EQ(url.ca_file, "/etc/ssl/own.pem");
}

TEST(RedisUrl, password_alone) {
    const Url url = parsed("redis://:secret@host");
    EXPECT_TRUE(url.user.empty());
    EXPECT_EQ(url.password, "secret");
    EXPECT_EQ(parsed("redis://:a:b@c@host").password, "a:b@c") << "the last @ counts";
}

TEST(RedisUrl, scheme_in_any_case) { EXPECT_EQ(parsed("REDISS://host").scheme, Scheme::kTls); }

TEST(RedisUrl, ipv6_in_brackets) {
    EXPECT_EQ(parsed("redis://[::1]:7000/1").endpoints[0], (Endpoint{"::1", 7000}));
    EXPECT_EQ(parsed("redis://:pw@[2001:db8::7]").endpoints[0], (Endpoint{"2001:db8::7", 6379}));
    EXPECT_EQ(parsed("redis://[fe80::1%25eth0]").endpoints[0].host, "fe80::1%eth0");
    EXPECT_EQ(to_text(Endpoint{"::1", 7000}), "[::1]:7000");
    EXPECT_NE(error_of("redis://::1"), "");
    EXPECT_NE(error_of("redis://[::1"), "");
    EXPECT_NE(error_of("redis://[::g]"), "");
    EXPECT_NE(error_of("redis://[]"), "");
    EXPECT_NE(error_of("redis://[::1]7000"), "");
    EXPECT_NE(error_of("redis://[fe80::1%25a/b]"), "");
}

TEST(RedisUrl, unix_socket) {
    for (const char* text : {"unix:/run/redis/redis.sock", "unix:///run/redis/redis.sock"}) {
        const Url url = parsed(text);
        EXPECT_EQ(url.scheme, Scheme::kUnix);
        EXPECT_EQ(url.path, "/run/redis/redis.sock");
        EXPECT_TRUE(url.endpoints.empty());
    }
    const Url url = parsed("unix:/tmp/a%20b?db=2&user=app&password=p%26w");
    EXPECT_EQ(url.path, "/tmp/a b");
    EXPECT_EQ(url.database, 2);
    EXPECT_EQ(url.user, "app");
    EXPECT_EQ(url.password, "p&w");
    EXPECT_NE(error_of("unix:relative"), "");
    EXPECT_NE(error_of("unix:/" + std::string(120, 'x')), "");
    EXPECT_NE(error_of("unix:/a?db=-1"), "");
    EXPECT_NE(error_of("unix:/a?cluster=1"), "");
}

TEST(RedisUrl, cluster) {
    const Url several = parsed("redis://:pw@a:7000,b,[::1]:7002");
    EXPECT_TRUE(several.is_cluster);
    ASSERT_EQ(several.endpoints.size(), 3U);
    EXPECT_EQ(several.endpoints[1], (Endpoint{"b", 6379}));
    EXPECT_EQ(several.endpoints[2], (Endpoint{"::1", 7002}));
    EXPECT_TRUE(parsed("redis://a?cluster=1").is_cluster);
    EXPECT_FALSE(parsed("redis://a?cluster=0").is_cluster);
    EXPECT_EQ(error_of("redis://a,b/1"), "a cluster has no database but 0");
    EXPECT_NE(error_of("redis://a,,b"), "");
    EXPECT_NE(error_of("redis://a?cluster=perhaps"), "");
    std::string many = "redis://a";
    for (int i = 0; i < 200; ++i)
        many += ",a";
    EXPECT_EQ(error_of(many), "it names too many hosts");
}

TEST(RedisUrl, sentinels) {
    const Url url = parsed(
        "redis-sentinel://app:s%40t@a,[::1]:26380,10.0.0.3:1/"
        "4?master=my%20master&sentinel_user=s&sentinel_password=p%26w");
    EXPECT_EQ(url.scheme, Scheme::kTcp);
    EXPECT_TRUE(url.is_sentinel);
    EXPECT_FALSE(url.is_cluster);
    EXPECT_EQ(url.endpoints, (std::vector<Endpoint>{{"a", 26379}, {"::1", 26380}, {"10.0.0.3", 1}}));
    EXPECT_EQ(url.master, "my master");
    EXPECT_EQ(url.database, 4);
    EXPECT_EQ(url.user, "app");
    EXPECT_EQ(url.password, "s@t");
    EXPECT_EQ(url.sentinel_user, "s");
    EXPECT_EQ(url.sentinel_password, "p&w");
    EXPECT_TRUE(parsed("redis-sentinel://a?master=m").sentinel_password.empty());
    const Url tls = parsed("rediss-sentinel://a?cacert=/c&master=m");
    EXPECT_EQ(tls.scheme, Scheme::kTls);
    EXPECT_TRUE(tls.is_sentinel);
    EXPECT_EQ(tls.ca_file, "/c");
    const std::string nameless = "it does not name the master that the sentinels watch (\"?master=name\")";
    EXPECT_EQ(error_of("redis-sentinel://a"), nameless);
    EXPECT_EQ(error_of("redis-sentinel://a?master="), nameless);
    EXPECT_EQ(error_of("redis-sentinel://a?master=m&sentinel_user=s"),
              "it has a user for the sentinels, but no password");
    const std::string unknown = "it has a parameter that this kind of URL does not take";
    EXPECT_EQ(error_of("redis-sentinel://a?master=m&cluster=1"), unknown);
    EXPECT_EQ(error_of("redis-sentinel://a?master=m&cacert=/c"), unknown);
    EXPECT_EQ(error_of("redis://a?master=m"), unknown);
    EXPECT_EQ(error_of("redis://a?sentinel_password=p"), unknown);
    EXPECT_EQ(error_of("unix:/a?master=m"), unknown);
    EXPECT_EQ(error_of("redis-sentinel://?master=m"), "a host is missing");
    EXPECT_EQ(error_of("redis-sentinel://a/x?master=m"), "the database is not a number, 0 or more");
    EXPECT_EQ(error_of("redis-sentinel://a?master=%00"), "it contains a zero byte");
    EXPECT_EQ(error_of("redis-sentinel://a?master=" + std::string(2000, 'm')), "a part of it is too long");
}

TEST(RedisUrl, rest) {
    const Url url = parsed("https://eu1-some-name-123.upstash.io");
    EXPECT_EQ(url.scheme, Scheme::kRest);
    EXPECT_EQ(url.endpoints[0], (Endpoint{"eu1-some-name-123.upstash.io", 443}));
    EXPECT_FALSE(url.is_plain_http);
    EXPECT_TRUE(parsed("http://127.0.0.1:8079").is_plain_http);
    EXPECT_EQ(parsed("http://localhost").endpoints[0].port, 80);
    EXPECT_NE(error_of("http://example.com"), "") << "the token would go in the clear";
    EXPECT_NE(error_of("http://127.0.0.1.example.com"), "");
    EXPECT_NE(error_of("https://user:token@a.upstash.io"), "");
    EXPECT_NE(error_of("https://a.upstash.io/path"), "");
    EXPECT_NE(error_of("https://a,b"), "");
}

TEST(RedisUrl, mistakes) {
    EXPECT_EQ(error_of(""), "it is empty");
    EXPECT_EQ(error_of("host:6379"),
              "it does not begin with redis://, rediss://, redis-sentinel://, unix: or https://");
    EXPECT_EQ(error_of("redis://"), "a host is missing");
    EXPECT_EQ(error_of("redis://:6379"), "a host is missing");
    EXPECT_EQ(error_of("redis://a:0"), "a port is not a number from 1 to 65535");
    EXPECT_EQ(error_of("redis://a:65536"), "a port is not a number from 1 to 65535");
    EXPECT_EQ(error_of("redis://a:"), "a port is not a number from 1 to 65535");
    EXPECT_EQ(error_of("redis://a:+1"), "a port is not a number from 1 to 65535");
    EXPECT_EQ(error_of("redis://a/x"), "the database is not a number, 0 or more");
    EXPECT_EQ(error_of("redis://a/99999999999999999999"), "the database is not a number, 0 or more");
    EXPECT_EQ(error_of("redis://a/1?cacert=/x"), "it has a parameter that this kind of URL does not take");
    EXPECT_EQ(error_of("rediss://a?cacert=x"), "the parameter \"cacert\" is not an absolute path");
    EXPECT_EQ(error_of("redis://a?cluster"), "a parameter has no value");
    EXPECT_EQ(error_of("redis://:%zz@a"), "a \"%\" is not followed by two hexadecimal digits");
    EXPECT_EQ(error_of("redis://:%4@a"), "a \"%\" is not followed by two hexadecimal digits");
    EXPECT_EQ(error_of("redis://:%00@a"), "it contains a zero byte");
    EXPECT_EQ(error_of(std::string_view("redis://:a\0b@c", 14)), "it contains a zero byte");
    EXPECT_EQ(error_of("redis://a b"), "a host contains a character that is not allowed there");
    EXPECT_EQ(error_of("redis://a\r\nb"), "a host contains a character that is not allowed there");
    EXPECT_EQ(error_of("redis://" + std::string(9000, 'a')), "it is too long");
    EXPECT_NE(error_of("redis://" + std::string(300, 'a')), "");
}

TEST(RedisUrl, a_password_is_in_no_message) {
    constexpr std::array kWrong = {
        "redis://app:Xyzzy/word@host",
        "redis://app:Xyzzy#1@host",
        "redis://Xyzzy@host",
        "redis://app:Xyzzy@host:port",
        "redis://app:Xyzzy@",
        "redis://app:Xyzzy@[host",
        "redis://app:%Xyzzy@host",
        "redis://app:Xyzzy@host/db",
        "unix:/a?Xyzzy=1",
        "unix:/a?password=%Xyzzy",
        "unix:/a?Xyzzy",
        "Xyzzy",
        "https://Xyzzy@host",
        "rediss://a?cacert=Xyzzy",
        "redis://app:Xyzzy?x@host",
        "redis://app:Xyzzy@host,b,c,,d:ef",
        "redis-sentinel://app:Xyzzy@host",
        "redis-sentinel://host?sentinel_password=Xyzzy",
        "redis-sentinel://host?master=m&sentinel_password=%Xyzzy",
        "redis-sentinel://host?master=m&Xyzzy=1",
    };
    for (const char* text : kWrong) {
        const std::string error = error_of(text);
        EXPECT_FALSE(error.empty()) << text;
        EXPECT_EQ(error.find("Xyzzy"), std::string::npos) << text;
    }
}

TEST(RedisUrl, masked) {
    EXPECT_EQ(masked(parsed("redis://app:Xyzzy@host:6380/3")), "redis://app:***@host:6380/3");
    EXPECT_EQ(masked(parsed("redis://:Xyzzy@host")), "redis://:***@host:6379");
    EXPECT_EQ(masked(parsed("redis://a%3Ab:Xyzzy@host")), "redis://a%3Ab:***@host:6379");
    EXPECT_EQ(masked(parsed("unix:/a%20b?password=Xyzzy&db=1")), "unix:/a%20b?db=1&password=***");
    EXPECT_EQ(masked(parsed("rediss://a,b:1?cacert=/c%26d")), "rediss://a:6379,b:1?cacert=/c%26d");
    EXPECT_EQ(masked(parsed("redis://a?cluster=1")), "redis://a:6379?cluster=1");
    EXPECT_EQ(masked(parsed("redis-sentinel://a:Xyzzy@h,i:1/2?sentinel_password=Xyzzy&master=m")),
              "redis-sentinel://a:***@h:26379,i:1/2?master=m&sentinel_password=***");
    EXPECT_EQ(
        masked(parsed("rediss-sentinel://h?master=%26&cacert=/c&sentinel_password=Xyzzy&sentinel_user=u%3D")),
        "rediss-sentinel://h:26379?master=%26&sentinel_user=u%3D&sentinel_password=***&cacert=/c");
    EXPECT_EQ(masked(parsed("https://x.upstash.io")), "https://x.upstash.io:443");
}

TEST(RedisUrl, masked_means_the_same_but_for_the_password) {
    for (const char* text :
         {"redis://app:%2A%2A%2A@[fe80::1%25eth0]:1/3", "unix:/a%25b?user=u&password=***&db=9",
          "redis-sentinel://u:***@a,b/1?master=m%20n&sentinel_user=v&sentinel_password=***", "unix:////a",
          "rediss://u%40:***@a,b,c?cacert=/x", "redis://h?cluster=yes", "https://h:8443"}) {
        const Url url = parsed(text);
        const Url again = parsed(masked(url));
        EXPECT_EQ(masked(again), masked(url));
        EXPECT_TRUE(same_place(url, again));
        EXPECT_EQ(url.user, again.user);
        EXPECT_EQ(url.database, again.database);
        EXPECT_EQ(url.is_cluster, again.is_cluster);
        EXPECT_EQ(url.ca_file, again.ca_file);
        EXPECT_EQ(url.is_sentinel, again.is_sentinel);
        EXPECT_EQ(url.master, again.master);
        EXPECT_EQ(url.sentinel_user, again.sentinel_user);
    }
}

TEST(RedisUrl, same_place) {
    EXPECT_TRUE(same_place(parsed("redis://u:p@h/1"), parsed("redis://:q@h:6379/2")));
    EXPECT_FALSE(same_place(parsed("redis://h"), parsed("redis://h2")));
    EXPECT_FALSE(same_place(parsed("redis://h"), parsed("redis://h:1")));
    EXPECT_FALSE(same_place(parsed("rediss://h"), parsed("redis://h"))) << "it would go in the clear";
    EXPECT_FALSE(same_place(parsed("unix:/a"), parsed("unix:/b")));
    const Url sentinel = parsed("redis-sentinel://h:1?master=m&sentinel_password=p");
    EXPECT_TRUE(same_place(sentinel, parsed("redis-sentinel://u:p@h:1/3?master=m")));
    EXPECT_FALSE(same_place(sentinel, parsed("redis-sentinel://h:1?master=n")));
    EXPECT_FALSE(same_place(sentinel, parsed("rediss-sentinel://h:1?master=m")));
    EXPECT_FALSE(same_place(sentinel, parsed("redis://h:1")));
}

TEST(RedisUrl, endpoints_that_a_cluster_names) {
    EXPECT_EQ(parse_endpoint("10.0.0.1:7001", 6379), (Endpoint{"10.0.0.1", 7001}));
    EXPECT_EQ(parse_endpoint("host", 6379), (Endpoint{"host", 6379}));
    EXPECT_FALSE(parse_endpoint("", 6379));
    EXPECT_FALSE(parse_endpoint("a:b", 6379));
    EXPECT_FALSE(parse_endpoint("a;b:1", 6379));
}

}  // namespace
}  // namespace cache_ext::redis
