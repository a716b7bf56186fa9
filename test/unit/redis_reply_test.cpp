// Replies out of bytes, and what they mean.
#include "redis/reply.hpp"
#include "redis/reply_reader.hpp"

#include <gtest/gtest.h>

#include <random>

namespace cache_ext::redis {
namespace {

using Item = ReplyReader::Item;
using Kind = Reply::Kind;

TEST(RedisVerdict, of_errors) {
    struct Case {
        const char* text;
        Verdict verdict;
    };
    for (const Case& one : {
             Case{"OOM command not allowed when used memory > 'maxmemory'.", Verdict::kRetryLater},
             Case{"LOADING Redis is loading the dataset in memory", Verdict::kRetryLater},
             Case{"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                  Verdict::kRetryLater},
             Case{"CLUSTERDOWN The cluster is down", Verdict::kRetryLater},
             Case{"TRYAGAIN Multiple keys request during rehashing of slot", Verdict::kRetryLater},
             Case{"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
                  Verdict::kRetryLater},
             Case{"MISCONF Redis is configured to save RDB snapshots, but", Verdict::kRetryLater},
             Case{"NOREPLICAS Not enough good replicas to write.", Verdict::kRetryLater},
             Case{"ERR max daily request limit exceeded. Limit: 10000, Usage: 10000.", Verdict::kRetryLater},
             Case{"READONLY You can't write against a read only replica.", Verdict::kReconnect},
             Case{"ERR max number of clients reached", Verdict::kReconnect},
             Case{"ERR Protocol error: invalid multibulk length", Verdict::kReconnect},
             Case{"NOAUTH Authentication required.", Verdict::kConfiguration},
             Case{"WRONGPASS invalid username-password pair or user is disabled.", Verdict::kConfiguration},
             Case{"NOPERM this user has no permissions to run the 'get' command", Verdict::kConfiguration},
             Case{"DENIED Redis is running in protected mode because", Verdict::kConfiguration},
             Case{"ERR invalid password", Verdict::kConfiguration},
             Case{"ERR Client sent AUTH, but no password is set", Verdict::kConfiguration},
             Case{"ERR DB index is out of range", Verdict::kConfiguration},
             Case{"MOVED 3999 127.0.0.1:6381", Verdict::kRedirect},
             Case{"ASK 3999 127.0.0.1:6381", Verdict::kRedirect},
             Case{"WRONGTYPE Operation against a key holding the wrong kind of value", Verdict::kPermanent},
             Case{"ERR unknown command 'FOO'", Verdict::kPermanent},
             Case{"NOSCRIPT No matching script. Please use EVAL.", Verdict::kPermanent},
             Case{"CROSSSLOT Keys in request don't hash to the same slot", Verdict::kPermanent},
             Case{"ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not "
                  "allowed",
                  Verdict::kRetryLater},
             Case{"ERR Error running script (call to f_1): @user_script:1: WRONGTYPE", Verdict::kPermanent},
             Case{"OOM", Verdict::kRetryLater},
             Case{"OOMPH", Verdict::kPermanent},
             Case{"", Verdict::kPermanent},
         })
        EXPECT_EQ(judge(one.text), one.verdict) << one.text;
}

/// All replies in the bytes, and how it ended.
std::pair<std::vector<Reply>, Item> read(std::string_view bytes, std::size_t piece = SIZE_MAX) {
    ReplyReader reader;
    std::vector<Reply> replies;
    Reply reply;
    Item item = Item::kMore;
    for (std::size_t at = 0; at < bytes.size() && item != Item::kBroken;
         at += std::min(piece, bytes.size() - at)) {
        EXPECT_TRUE(reader.feed(bytes.substr(at, piece)));
        while ((item = reader.next(reply)) == Item::kReply)
            replies.push_back(std::move(reply));
    }
    return {std::move(replies), item};
}

TEST(RedisReply, of_each_kind) {
    const std::string whole =
        std::string("+OK\r\n-WRONGTYPE no\r\n:-42\r\n$5\r\na") + '\0' + "b\r\n\r\n" +
        "$-1\r\n*-1\r\n$0\r\n\r\n*0\r\n*3\r\n:1\r\n*2\r\n$1\r\nx\r\n*1\r\n$-1\r\n-OOM full\r\n";
    for (const std::size_t piece : {SIZE_MAX, std::size_t{1}, std::size_t{7}}) {
        const auto [replies, end] = read(whole, piece);
        EXPECT_EQ(end, Item::kMore);
        ASSERT_EQ(replies.size(), 9U);
        EXPECT_EQ(replies[0].kind, Kind::kStatus);
        EXPECT_EQ(replies[0].text, "OK");
        EXPECT_EQ(replies[1].kind, Kind::kError);
        EXPECT_EQ(replies[1].verdict, Verdict::kPermanent);
        EXPECT_EQ(replies[1].text, "WRONGTYPE no");
        EXPECT_EQ(replies[2].integer, -42);
        EXPECT_EQ(replies[3].text, std::string("a\0b\r\n", 5));
        EXPECT_EQ(replies[4].kind, Kind::kNil);
        EXPECT_EQ(replies[5].kind, Kind::kNil);
        EXPECT_EQ(replies[6].kind, Kind::kString);
        EXPECT_EQ(replies[7].kind, Kind::kArray);
        ASSERT_EQ(replies[8].elements.size(), 3U);
        EXPECT_EQ(replies[8].elements[1].elements.at(0).text, "x");
        EXPECT_EQ(replies[8].elements[1].elements.at(1).elements.at(0).kind, Kind::kNil);
        EXPECT_EQ(replies[8].elements[2].verdict, Verdict::kRetryLater);
        EXPECT_TRUE(replies[8].ok());
    }
}

TEST(RedisReply, half_of_one) {
    for (const char* bytes :
         {"+OK", "+OK\r", "$5\r\nabc", "$", "*2\r\n:1\r\n", "*2\r\n*1\r\n:1\r\n", "$5\r\nabcde"}) {
        const auto [replies, end] = read(bytes);
        EXPECT_TRUE(replies.empty()) << bytes;
        EXPECT_EQ(end, Item::kMore) << bytes;
    }
}

TEST(RedisReply, garbage) {
    for (const char* bytes :
         {"HTTP/1.1 400 Bad Request\r\n\r\n", "\r\n", "$abc\r\n", "*-2\r\n", "$-7\r\n", "\x16\x03\x01",
          ":\r\n", "$99999999999999999999\r\n", "*99999999999999999999\r\n", ":12x\r\n"}) {
        const auto [replies, end] = read(bytes);
        EXPECT_TRUE(replies.empty()) << bytes;
        EXPECT_EQ(end, Item::kBroken) << bytes;
    }
}

TEST(RedisReply, arrays_too_deep) {
    std::string bytes;
    for (int i = 0; i < 1000; ++i)
        bytes += "*1\r\n";
    EXPECT_EQ(read(bytes).second, Item::kBroken);
}

TEST(RedisReply, a_claim_of_many_elements_takes_no_memory) {
    // Sixteen gigabytes of pointers, if it were believed.
    const auto [replies, end] = read("*2147483000\r\n:1\r\n:2\r\n");
    EXPECT_TRUE(replies.empty());
    EXPECT_NE(end, Item::kReply);
}

TEST(RedisReply, too_large) {
    ReplyReader reader;
    Reply reply;
    ASSERT_TRUE(reader.feed("$2000000000\r\n"));
    const std::string piece(1 << 20, 'x');
    Item item = Item::kMore;
    int pieces = 0;
    for (; item == Item::kMore && pieces < 1000; ++pieces) {
        ASSERT_TRUE(reader.feed(piece));
        item = reader.next(reply);
    }
    EXPECT_EQ(item, Item::kBroken);
    EXPECT_EQ(pieces, 64);
    EXPECT_STREQ(reader.error(), "a reply is too large, or too deep");

    ReplyReader another;
    ASSERT_TRUE(another.feed("*2000000000\r\n"));
    std::string elements;
    for (int i = 0; i < 10'000; ++i)
        elements += ":1\r\n";
    for (item = Item::kMore; item == Item::kMore; item = another.next(reply))
        ASSERT_TRUE(another.feed(elements));
    EXPECT_EQ(item, Item::kBroken);
    EXPECT_STREQ(another.error(), "a reply is too large, or too deep");
}

TEST(RedisReply, the_next_one_has_a_budget_of_its_own) {
    ReplyReader reader;
    Reply reply;
    const std::string text(30 << 20, 'x');
    const std::string one = "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
    for (int i = 0; i < 4; ++i) {
        ASSERT_TRUE(reader.feed(one));
        ASSERT_EQ(reader.next(reply), Item::kReply);
        EXPECT_EQ(reply.text.size(), text.size());
    }
}

TEST(RedisReply, whole_ones_with_bytes_changed) {
    const std::string good = "*3\r\n:1\r\n*2\r\n$1\r\nx\r\n$-1\r\n-OOM full\r\n+OK\r\n$3\r\nabc\r\n";
    std::mt19937 random(5);
    for (int i = 0; i < 20'000; ++i) {
        std::string bytes = good + good;
        for (int changes = 0; changes < 3; ++changes)
            bytes[random() % bytes.size()] = static_cast<char>(random());
        const auto whole = read(bytes);
        const auto pieces = read(bytes, 1 + random() % 5);
        EXPECT_LE(whole.first.size(), 20U);
        EXPECT_EQ(whole.first.size(), pieces.first.size()) << "what it says does not hang on how it arrives";
    }
}

}  // namespace
}  // namespace cache_ext::redis
