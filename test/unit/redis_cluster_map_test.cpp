#include "redis/cluster_map.hpp"

#include <gtest/gtest.h>

#include "redis/client.hpp"
#include "redis/reply_reader.hpp"

namespace cache_ext::redis {
namespace {

TEST(RedisSlot, of_keys) {
    // What CLUSTER KEYSLOT says.
    EXPECT_EQ(slot_of("123456789"), 12739) << "the specification's example: 0x31C3";
    EXPECT_EQ(slot_of("foo"), 12182);
    EXPECT_EQ(slot_of(""), 0);
    EXPECT_EQ(slot_of("user1000"), 3443);
}

TEST(RedisSlot, of_the_part_in_braces) {
    EXPECT_EQ(slot_of("{user1000}.following"), slot_of("user1000"));
    EXPECT_EQ(slot_of("{user1000}.followers"), slot_of("user1000"));
    EXPECT_EQ(slot_of("foo{bar}{zap}"), slot_of("bar"));
    EXPECT_EQ(slot_of("foo{{bar}}zap"), slot_of("{bar"));
    // No tag: nothing in the braces, or no end.
    EXPECT_NE(slot_of("foo{}{bar}"), slot_of("bar"));
    EXPECT_NE(slot_of("foo{bar"), slot_of("bar"));
    EXPECT_NE(slot_of("foo}bar{"), slot_of(""));
}

std::optional<std::vector<SlotRange>> slots(std::string_view bytes) {
    ReplyReader reader;
    EXPECT_TRUE(reader.feed(bytes));
    Reply reply;
    EXPECT_EQ(reader.next(reply), ReplyReader::Item::kReply);
    return parse_slots(reply, {"asked", 7000});
}

TEST(RedisClusterMap, of_slots) {
    const auto map = slots(
        "*4\r\n"
        "*4\r\n:0\r\n:5460\r\n*3\r\n$9\r\n127.0.0.1\r\n:7001\r\n$2\r\nid\r\n*3\r\n$9\r\n127.0.0.1\r\n:"
        "7005\r\n$2\r\nid\r\n"
        "*3\r\n:5461\r\n:10922\r\n*4\r\n$3\r\n::1\r\n:7002\r\n$2\r\nid\r\n*0\r\n"
        "*3\r\n:10923\r\n:16000\r\n*3\r\n$0\r\n\r\n:7003\r\n$2\r\nid\r\n"
        "*3\r\n:16001\r\n:16383\r\n*3\r\n$1\r\n?\r\n:7004\r\n$2\r\nid\r\n");
    ASSERT_TRUE(map);
    ASSERT_EQ(map->size(), 3U) << "one's host is not known yet";
    EXPECT_EQ((*map)[0].first, 0);
    EXPECT_EQ((*map)[0].last, 5460);
    EXPECT_EQ((*map)[0].primary, (Endpoint{"127.0.0.1", 7001}));
    EXPECT_EQ((*map)[1].primary, (Endpoint{"::1", 7002}));
    EXPECT_EQ((*map)[2].primary, (Endpoint{"asked", 7003})) << "the one that was asked leaves out its own";
}

TEST(RedisClusterMap, is_checked) {
    EXPECT_TRUE(slots("*0\r\n").has_value());
    for (const char* bytes : {
             "+OK\r\n",
             "*1\r\n:1\r\n",
             "*1\r\n*2\r\n:0\r\n:1\r\n",
             "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
             "*1\r\n*3\r\n:-1\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
             "*1\r\n*3\r\n:5\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
             "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:70000\r\n",
             "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n",
             "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$3\r\na b\r\n:1\r\n",
             "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\na\r\n",
             "*1\r\n*3\r\n$1\r\n0\r\n:1\r\n*2\r\n$1\r\na\r\n:1\r\n",
         })
        EXPECT_FALSE(slots(bytes)) << bytes;
}

TEST(RedisClusterMap, redirects) {
    const Endpoint asked{"asked", 7000};
    const auto moved = parse_redirect("MOVED 3999 127.0.0.1:6381", asked);
    ASSERT_TRUE(moved);
    EXPECT_FALSE(moved->is_ask);
    EXPECT_EQ(moved->slot, 3999);
    EXPECT_EQ(moved->to, (Endpoint{"127.0.0.1", 6381}));
    const auto ask = parse_redirect("ASK 0 ::1:6381", asked);
    ASSERT_TRUE(ask);
    EXPECT_TRUE(ask->is_ask);
    EXPECT_EQ(ask->to, (Endpoint{"::1", 6381}));
    EXPECT_EQ(parse_redirect("MOVED 1 :6381", asked)->to, (Endpoint{"asked", 6381}));
    for (const char* text :
         {"", "MOVED", "MOVED ", "MOVED x a:1", "MOVED 16384 a:1", "MOVED -1 a:1", "MOVED 1 a", "MOVED 1 a:0",
          "MOVED 1 a:99999", "MOVED 1a:1", "MOVED 1 a b:1", "MOVEDX 1 a:1", "ERR 1 a:1"})
        EXPECT_FALSE(parse_redirect(text, asked)) << text;
}

}  // namespace
}  // namespace cache_ext::redis
