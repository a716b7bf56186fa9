#include "redis/json.hpp"

#include <gtest/gtest.h>

namespace cache_ext::redis {
namespace {

using Kind = Reply::Kind;

Reply parsed(std::string_view text) {
    const std::optional<Reply> value = parse_json(text);
    EXPECT_TRUE(value) << text;
    return value.value_or(Reply{});
}

TEST(RedisJson, values) {
    EXPECT_EQ(parsed("null").kind, Kind::kNil);
    EXPECT_EQ(parsed(" true ").integer, 1);
    EXPECT_EQ(parsed("false").kind, Kind::kInteger);
    EXPECT_EQ(parsed("-42").integer, -42);
    EXPECT_EQ(parsed("9223372036854775807").integer, INT64_MAX);
    EXPECT_EQ(parsed("9223372036854775808").text, "9223372036854775808");
    EXPECT_EQ(parsed("1.5e-3").text, "1.5e-3");
    EXPECT_EQ(parsed("0").integer, 0);
    EXPECT_EQ(parsed("[]").kind, Kind::kArray);
    const Reply nested = parsed("[1, [\"two\", null, []], {\"a\": {\"b\": 3}}]");
    ASSERT_EQ(nested.elements.size(), 3U);
    EXPECT_EQ(nested.elements[1].elements[0].text, "two");
    const Reply* a = member(nested.elements[2], "a");
    ASSERT_NE(a, nullptr);
    ASSERT_NE(member(*a, "b"), nullptr);
    EXPECT_EQ(member(*a, "b")->integer, 3);
    EXPECT_EQ(member(*a, "c"), nullptr);
    EXPECT_EQ(member(parsed("\"a\""), "a"), nullptr);
}

TEST(RedisJson, texts) {
    EXPECT_EQ(parsed(R"("a\"\\\/\b\f\n\r\t")").text, "a\"\\/\b\f\n\r\t");
    EXPECT_EQ(parsed(R"("\u0041\u00e9\u20ac\ud83d\ude00")").text, "A\u00e9\u20ac\U0001f600");
    EXPECT_EQ(parsed(R"("\u0000")").text, std::string(1, '\0'));
    EXPECT_EQ(parsed("\"\u00e9\u20ac\U0001f600\"").text, "\u00e9\u20ac\U0001f600");
}

TEST(RedisJson, mistakes) {
    for (const char* text : {"",
                             " ",
                             "nul",
                             "nulll",
                             "tru",
                             "01",
                             "-",
                             "1.",
                             ".5",
                             "1e",
                             "+1",
                             "[1,]",
                             "[1 2]",
                             "[",
                             "]",
                             "[[]",
                             "{\"a\"}",
                             "{\"a\":}",
                             "{a:1}",
                             "{\"a\":1,}",
                             "\"",
                             "\"a",
                             "\"\\x\"",
                             "\"\\u12\"",
                             "\"\\u12g4\"",
                             "\"\\ud800\"",
                             "\"\\udc00\"",
                             "\"\\ud800\\u0041\"",
                             "\"\n\"",
                             "\"\xff\"",
                             "\"\xc0\x80\"",
                             "\"\xed\xa0\x80\"",
                             "\"\xf4\x90\x80\x80\"",
                             "1 1",
                             "\"\\u-123\"",
                             "'a'"})
        EXPECT_FALSE(parse_json(text)) << text;
    EXPECT_FALSE(parse_json(std::string(100'000, '[')));
    EXPECT_FALSE(parse_json(std::string(1000, '[') + std::string(1000, ']')));
    EXPECT_TRUE(parse_json(std::string(30, '[') + std::string(30, ']')));
}

TEST(RedisJson, what_is_wrong_with_one_name_is_no_more_than_a_question_mark) {
    for (const auto& [text, readable] : std::initializer_list<std::pair<std::string, std::string>>{
             {R"({"keys": ["a", "b"], "n": 1})", R"({"keys": ["a", "b"], "n": 1})"},
             {R"(["\u00e9\u20ac\ud83d\ude00"])", "[\"\u00e9\u20ac\U0001f600\"]"},
             {R"(["\u0000", "\ud800", "\udc00", "\ud800x", "\ud800\u0041"])",
              R"(["?", "?", "?", "?x", "?\u0041"])"},
             {R"(["\u0022\u005c\n\"\\\\u0000"])", R"(["\u0022\u005c\n\"\\\\u0000"])"},
             {"[\"a\xff\", \"\xc3\", \"\xed\xa0\x80\"]", R"(["a?", "?", "???"])"},
             {std::string("a\0b", 3), "a?b"},
             {R"(\u12)", R"(\u12)"},
             {"\\", "\\"},
             {"", ""}})
        EXPECT_EQ(readable_json(text), readable);
}

TEST(RedisJson, written_and_read) {
    for (const std::string& text : {std::string(), std::string("plain"), std::string("\"\\/\b\n\x1f\x7f"),
                                    std::string("a\0b", 3), std::string("\u00e9\u20ac\U0001f600")}) {
        std::string json = "before";
        ASSERT_TRUE(append_json(json, text));
        EXPECT_EQ(parsed(json.substr(6)).text, text);
    }
    std::string json = "before";
    EXPECT_FALSE(append_json(json, "a\xff"));
    EXPECT_FALSE(append_json(json, "\xe2\x82"));
    EXPECT_EQ(json, "before");
}

}  // namespace
}  // namespace cache_ext::redis
