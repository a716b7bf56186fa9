#include "core/patterns.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

class Patterns : public testing::Test {
protected:
    Patterns() { ring.init(1); }
    std::unique_ptr<PatternRing> owned = std::make_unique<PatternRing>();
    PatternRing& ring = *owned;

    bool allows(Version birth, std::string_view key, std::uint64_t space = 0, std::uint64_t scope = 0) {
        return ring.allows(birth, id_of(space), id_of(100 + scope), key);
    }
    void add(Version version, std::string_view pattern, std::uint64_t space = 0) {
        ring.add(version, id_of(space), nullptr, pattern);
    }
};

TEST_F(Patterns, nothing_is_forbidden_at_first) { EXPECT_TRUE(allows(1, "any")); }

TEST_F(Patterns, a_pattern_forbids_what_was_born_before_it_and_matches) {
    add(5, "user:*");
    EXPECT_FALSE(allows(4, "user:1"));
    EXPECT_TRUE(allows(4, "post:1"));
    EXPECT_TRUE(allows(5, "user:1"));
    EXPECT_TRUE(allows(6, "user:1"));
}

TEST_F(Patterns, another_space_is_not_concerned) {
    add(5, "*", 0);
    EXPECT_FALSE(allows(4, "k", 0));
    EXPECT_TRUE(allows(4, "k", 1));
}

TEST_F(Patterns, one_of_a_scope_concerns_that_scope_only) {
    const Id128 scope = id_of(100);
    ring.add(5, id_of(0), &scope, "*");
    EXPECT_FALSE(allows(4, "k", 0, 0));
    EXPECT_TRUE(allows(4, "k", 0, 1));
}

TEST_F(Patterns, all_that_the_ring_holds_are_remembered) {
    for (std::uint32_t i = 0; i < PatternRing::kRing; ++i)
        add(10 + i, "p" + std::to_string(i) + ":*");
    for (std::uint32_t i = 0; i < PatternRing::kRing; ++i) {
        const std::string key = "p" + std::to_string(i) + ":k";
        EXPECT_FALSE(allows(10 + i - 1, key)) << i;
        EXPECT_TRUE(allows(10 + i, key)) << i;
    }
    EXPECT_TRUE(allows(2, "other"));
}

TEST_F(Patterns, a_dropped_one_becomes_a_floor) {
    for (std::uint32_t i = 0; i <= PatternRing::kRing; ++i)
        add(10 + i, "p" + std::to_string(i));
    EXPECT_FALSE(allows(9, "whatever"));
    EXPECT_TRUE(allows(10, "whatever"));
    EXPECT_FALSE(allows(10, "p1"));
}

TEST_F(Patterns, versions_may_arrive_in_any_order) {
    add(20, "a*");
    add(12, "b*");
    EXPECT_FALSE(allows(11, "bb"));
    EXPECT_TRUE(allows(12, "bb"));
    EXPECT_FALSE(allows(19, "aa"));
    for (std::uint32_t i = 0; i < PatternRing::kRing; ++i)
        add(30, "z");
    EXPECT_FALSE(allows(19, "q"));
    EXPECT_TRUE(allows(20, "q"));
}

TEST_F(Patterns, one_too_long_to_be_kept_counts_as_dropped) {
    add(5, std::string(kMaxKeyBytes + 1, '*'));
    EXPECT_FALSE(allows(4, "k"));
    EXPECT_TRUE(allows(5, "k"));
}

TEST_F(Patterns, one_of_the_longest_size_is_kept) {
    add(5, std::string(kMaxKeyBytes, 'k'));
    EXPECT_TRUE(allows(4, "k"));
    EXPECT_FALSE(allows(4, std::string(kMaxKeyBytes, 'k')));
}

}  // namespace
}  // namespace cache_ext::core
