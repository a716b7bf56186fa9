#include "core/glob.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <random>
#include <string>

#include "glob_naive.hpp"

namespace cache_ext::core {
namespace {

TEST(Glob, literals_match_themselves_only) {
    EXPECT_TRUE(glob_match("", ""));
    EXPECT_TRUE(glob_match("user:1", "user:1"));
    EXPECT_FALSE(glob_match("user:1", "user:12"));
    EXPECT_FALSE(glob_match("user:12", "user:1"));
    EXPECT_FALSE(glob_match("user:1", "User:1"));
    EXPECT_FALSE(glob_match("", "a"));
    EXPECT_FALSE(glob_match("a", ""));
}

TEST(Glob, a_star_matches_any_characters_and_none) {
    EXPECT_TRUE(glob_match("*", ""));
    EXPECT_TRUE(glob_match("*", "anything"));
    EXPECT_TRUE(glob_match("user:*", "user:"));
    EXPECT_TRUE(glob_match("user:*", "user:1:name"));
    EXPECT_FALSE(glob_match("user:*", "use"));
    EXPECT_TRUE(glob_match("*:name", "user:1:name"));
    EXPECT_FALSE(glob_match("*:name", "user:1:names"));
    EXPECT_TRUE(glob_match("a*b*c", "a-b-b-c"));
    EXPECT_FALSE(glob_match("a*b*c", "a-c-b"));
    EXPECT_TRUE(glob_match("***a***", "bab"));
}

TEST(Glob, a_star_gives_way_to_a_later_occurrence) {
    EXPECT_TRUE(glob_match("*ab", "aab"));
    EXPECT_TRUE(glob_match("*aab*", "aaaab"));
    EXPECT_TRUE(glob_match("*a?c", "abcaxc"));
}

TEST(Glob, a_question_mark_is_one_character) {
    EXPECT_TRUE(glob_match("?", "a"));
    EXPECT_FALSE(glob_match("?", ""));
    EXPECT_FALSE(glob_match("?", "ab"));
    EXPECT_TRUE(glob_match("a?c", "abc"));
}

TEST(Glob, a_character_is_a_code_point_when_the_bytes_are_utf8) {
    EXPECT_TRUE(glob_match("?", "\u00e9"));
    EXPECT_TRUE(glob_match("?", "\u20ac"));
    EXPECT_TRUE(glob_match("?", "\U0001f600"));
    EXPECT_FALSE(glob_match("??", "\u00e9"));
    EXPECT_TRUE(glob_match("*\u00e9*", "caf\u00e9s"));
    EXPECT_TRUE(glob_match("[\u03b1-\u03c9]", "\u03bb"));
    EXPECT_FALSE(glob_match("[\u03b1-\u03c9]", "l"));
    EXPECT_TRUE(glob_match("[!a-z]", "\U0001f600"));
    EXPECT_TRUE(glob_match("\\\u00e9", "\u00e9"));
}

TEST(Glob, a_stray_byte_is_a_character_of_its_own) {
    EXPECT_TRUE(glob_match("?", "\xff"));
    EXPECT_TRUE(glob_match("??", "\xc3("));
    EXPECT_TRUE(glob_match("?", "\xc3"));                 // cut off
    EXPECT_TRUE(glob_match("??", "\xc0\x80"));            // overlong
    EXPECT_TRUE(glob_match("???", "\xe0\x80\x80"));       // overlong
    EXPECT_TRUE(glob_match("???", "\xed\xa0\x80"));       // surrogate
    EXPECT_TRUE(glob_match("????", "\xf4\x90\x80\x80"));  // beyond the last code point
    EXPECT_TRUE(glob_match("\xe9*", "\xe9t\xe9"));        // Latin-1
    EXPECT_TRUE(glob_match("[\xe0-\xef]", "\xe9"));
    EXPECT_FALSE(glob_match("\xc3*", "\u00e9"));  // half a character is not a prefix of it
    EXPECT_FALSE(glob_match("\u00ff", "\xff"));
}

TEST(Glob, a_zero_byte_is_a_character_like_any_other) {
    const std::string_view text("a\0b", 3);
    EXPECT_TRUE(glob_match("a?b", text));
    EXPECT_TRUE(glob_match(text, text));
    EXPECT_FALSE(glob_match("a", text));
}

TEST(Glob, a_set_matches_one_of_its_characters) {
    EXPECT_TRUE(glob_match("[abc]", "b"));
    EXPECT_FALSE(glob_match("[abc]", "d"));
    EXPECT_FALSE(glob_match("[abc]", ""));
    EXPECT_TRUE(glob_match("[a-cx-z]", "y"));
    EXPECT_FALSE(glob_match("[a-cx-z]", "m"));
    EXPECT_TRUE(glob_match("user:[0-9]", "user:7"));
    EXPECT_TRUE(glob_match("[*?]", "*"));
    EXPECT_FALSE(glob_match("[*?]", "a"));
}

TEST(Glob, a_set_can_be_negated_both_ways) {
    for (const char* pattern : {"[!a-c]", "[^a-c]"}) {
        EXPECT_TRUE(glob_match(pattern, "d"));
        EXPECT_FALSE(glob_match(pattern, "b"));
        EXPECT_FALSE(glob_match(pattern, ""));
    }
    EXPECT_TRUE(glob_match("[a!]", "!"));
    EXPECT_TRUE(glob_match("[a^]", "^"));
}

TEST(Glob, a_bracket_first_and_a_dash_at_an_end_stand_for_themselves) {
    EXPECT_TRUE(glob_match("[]]", "]"));
    EXPECT_TRUE(glob_match("[]a]", "a"));
    EXPECT_TRUE(glob_match("[!]]", "a"));
    EXPECT_FALSE(glob_match("[!]]", "]"));
    EXPECT_TRUE(glob_match("[-a]", "-"));
    EXPECT_TRUE(glob_match("[a-]", "-"));
    EXPECT_FALSE(glob_match("[a-]", "b"));
    EXPECT_TRUE(glob_match("]", "]"));
    EXPECT_TRUE(glob_match("a-z", "a-z"));
}

TEST(Glob, a_backslash_takes_the_meaning_away) {
    EXPECT_TRUE(glob_match("\\*", "*"));
    EXPECT_FALSE(glob_match("\\*", "a"));
    EXPECT_TRUE(glob_match("\\[a]", "[a]"));
    EXPECT_TRUE(glob_match("\\a", "a"));
    EXPECT_TRUE(glob_match("\\\\", "\\"));
    EXPECT_TRUE(glob_match("[\\]]", "]"));
    EXPECT_TRUE(glob_match("[a\\-z]", "-"));
    EXPECT_FALSE(glob_match("[a\\-z]", "m"));
    EXPECT_TRUE(glob_match("[\\!a]", "!"));
    EXPECT_TRUE(glob_match("[a-\\z]", "m"));
}

TEST(Glob, an_invalid_pattern_is_reported_with_its_position) {
    const auto expect = [](std::string_view pattern, GlobError error, std::size_t position) {
        const GlobCheck check = glob_check(pattern);
        EXPECT_EQ(check.error, error) << pattern;
        EXPECT_EQ(check.position, position) << pattern;
        EXPECT_EQ(glob_valid(pattern), error == GlobError::kNone);
    };
    expect("a[", GlobError::kUnclosedSet, 1);
    expect("[]", GlobError::kUnclosedSet, 0);
    expect("[!]", GlobError::kUnclosedSet, 0);
    expect("[^", GlobError::kUnclosedSet, 0);
    expect("x[a-", GlobError::kUnclosedSet, 1);
    expect("x[a-\\", GlobError::kUnclosedSet, 1);
    expect("[a\\]", GlobError::kUnclosedSet, 0);
    expect("[a][b", GlobError::kUnclosedSet, 3);
    expect("ab\\", GlobError::kTrailingBackslash, 2);
    expect("ab\\\\\\", GlobError::kTrailingBackslash, 4);
    expect("x[bz-a]", GlobError::kReversedRange, 3);
    for (const char* valid :
         {"", "*", "a]", "[a]", "[]]", "[a-]", "\\[", "\\\\", "[[]", "[a-a]", "\\\u00e9[a]"}) {
        expect(valid, GlobError::kNone, 0);
    }
}

TEST(Glob, an_invalid_pattern_matches_nothing) {
    for (const char* pattern :
         {"[", "a[", "[a", "[]", "[!]", "\\", "a\\", "*\\", "*[", "[z-a]", "*[z-a]*", "[a\\]"}) {
        for (const char* text : {"", "a", "[", "\\", "a[", "a\\", "b]", "[a", "z-a"}) {
            EXPECT_FALSE(glob_match(pattern, text)) << pattern << " " << text;
        }
    }
}

TEST(Glob, the_literal_prefix_ends_at_the_first_special_character) {
    EXPECT_EQ(glob_literal_prefix("user:*"), "user:");
    EXPECT_EQ(glob_literal_prefix("user:?"), "user:");
    EXPECT_EQ(glob_literal_prefix("user:[0-9]"), "user:");
    EXPECT_EQ(glob_literal_prefix("user\\:1"), "user");
    EXPECT_EQ(glob_literal_prefix("*"), "");
    EXPECT_EQ(glob_literal_prefix(""), "");
    EXPECT_EQ(glob_literal_prefix("user:1]"), "user:1]");
}

TEST(Glob, a_pattern_without_special_characters_is_literal) {
    EXPECT_TRUE(glob_is_literal(""));
    EXPECT_TRUE(glob_is_literal("user:1]"));
    for (const char* pattern : {"*", "a?", "[a]", "\\a"})
        EXPECT_FALSE(glob_is_literal(pattern));
}

TEST(Glob, many_stars_take_no_exponential_time) {
    std::string pattern;
    for (int i = 0; i < 50; ++i)
        pattern += "*a";
    pattern += "*b";
    const std::string text(2000, 'a');
    const auto start = std::chrono::steady_clock::now();
    EXPECT_FALSE(glob_match(pattern, text));
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

// Short inputs from an alphabet that makes special cases frequent. Exact-size heap copies let
// AddressSanitizer see a read past the end.
TEST(Glob, agrees_with_the_recursive_definition) {
    std::mt19937 random(11);
    constexpr char kLetters[] = "**??[[]]!^--\\\\aabbcz\xc3\xa9\xe2\x82\xac\xff\0";
    const std::string_view alphabet(kLetters, sizeof kLetters - 1);
    const auto draw = [&](std::size_t longest, std::string_view from) {
        std::string s;
        const std::size_t size = random() % (longest + 1);
        while (s.size() < size)
            s.push_back(from[random() % from.size()]);
        return s;
    };
    int matches = 0;
    for (int i = 0; i < 200000; ++i) {
        const std::string pattern = draw(9, i % 2 ? alphabet : alphabet.substr(0, 20));
        const std::string text = draw(7, i % 3 ? alphabet.substr(8) : alphabet.substr(14, 4));
        const std::unique_ptr<char[]> p(new char[pattern.size()]);
        const std::unique_ptr<char[]> t(new char[text.size()]);
        pattern.copy(p.get(), pattern.size());
        text.copy(t.get(), text.size());
        const std::string_view pattern_view(p.get(), pattern.size());
        const std::string_view text_view(t.get(), text.size());
        const bool expected = naive::match(pattern, text);
        ASSERT_EQ(glob_match(pattern_view, text_view), expected)
            << testing::PrintToString(pattern) << " on " << testing::PrintToString(text);
        ASSERT_EQ(glob_valid(pattern_view), naive::parse(pattern).has_value())
            << testing::PrintToString(pattern);
        if (expected) {
            ++matches;
            ASSERT_TRUE(text.starts_with(glob_literal_prefix(pattern)));
        }
    }
    EXPECT_GT(matches, 3000);
}

}  // namespace
}  // namespace cache_ext::core
