#include "core/offers.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace cache_ext::core {
namespace {

std::vector<std::string> take(Offers& offers, std::uint32_t database) {
    std::vector<std::string> keys;
    offers.take(database, [&keys](std::string_view key) { keys.emplace_back(key); });
    return keys;
}

TEST(Offers, AreTakenOnceInTheirOrder) {
    const auto offers = std::make_unique<Offers>();
    EXPECT_FALSE(offers->any());
    offers->add(1, "a");
    offers->add(1, "");
    offers->add(1, "b");
    EXPECT_TRUE(offers->any());
    EXPECT_EQ(take(*offers, 1), (std::vector<std::string>{"a", "", "b"}));
    EXPECT_FALSE(offers->any());
    EXPECT_TRUE(take(*offers, 1).empty());
}

TEST(Offers, OfOtherDatabasesStay) {
    const auto offers = std::make_unique<Offers>();
    offers->add(1, "one");
    offers->add(2, "two");
    offers->add(1, "three");
    EXPECT_TRUE(offers->any_of(1));
    EXPECT_TRUE(offers->any_of(2));
    EXPECT_FALSE(offers->any_of(3));
    EXPECT_EQ(take(*offers, 1), (std::vector<std::string>{"one", "three"}));
    EXPECT_FALSE(offers->any_of(1));
    EXPECT_TRUE(offers->any_of(2));
    EXPECT_EQ(take(*offers, 2), std::vector<std::string>{"two"});
}

/// A database for which nobody comes must not keep others from being heard.
TEST(Offers, OlderOnesMakeRoom) {
    const auto offers = std::make_unique<Offers>();
    for (int i = 0; i < 10'000; ++i)
        offers->add(1, "nobody comes for this one, number " + std::to_string(i));
    offers->add(2, "newest");
    EXPECT_EQ(take(*offers, 2), std::vector<std::string>{"newest"});
    const std::vector<std::string> rest = take(*offers, 1);
    ASSERT_GT(rest.size(), 100U);
    EXPECT_EQ(rest.back(), "nobody comes for this one, number 9999");
    for (std::size_t i = 0; i < rest.size(); ++i) {
        EXPECT_EQ(rest[i], "nobody comes for this one, number " + std::to_string(10'000 - rest.size() + i));
    }
}

TEST(Offers, AKeyThatIsTooLongIsLeftOut) {
    const auto offers = std::make_unique<Offers>();
    offers->add(1, "kept");
    offers->add(1, std::string(Offers::kBytes, 'x'));
    EXPECT_EQ(take(*offers, 1), std::vector<std::string>{"kept"});
}

}  // namespace
}  // namespace cache_ext::core
