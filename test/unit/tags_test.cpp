#include "core/tags.hpp"

#include <gtest/gtest.h>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

/// The region's own tag table and allocator, used by themselves.
class Tags : public testing::Test {
protected:
    TestRegion r;
    TagTable& tags = r.store().tags();

    Ref acquire(std::string_view text, std::uint64_t space = 0) {
        return tags.acquire(r.base(), r.allocator(), r.tag(text, space));
    }
    void release(Ref ref) { tags.release(r.base(), r.allocator(), ref); }
    Version slot_version(Ref ref) { return r.base().at<TagSlot>(ref)->version.load(); }
};

TEST_F(Tags, a_stamp_without_a_slot_is_remembered_by_the_cell) {
    tags.stamp(r.base(), r.tag("users"), 7);
    EXPECT_EQ(tags.cell(r.base(), r.tag("users").hash), 7u);
    EXPECT_EQ(tags.version(r.base(), r.tag("users")), 7u);
    EXPECT_EQ(tags.slot_count(), 0u);
}

TEST_F(Tags, a_new_slot_begins_with_what_its_cell_knows) {
    tags.stamp(r.base(), r.tag("users"), 7);
    const Ref slot = acquire("users");
    EXPECT_EQ(slot_version(slot), 7u);
    release(slot);
}

TEST_F(Tags, a_stamp_raises_cell_and_slot) {
    const Ref slot = acquire("users");
    tags.stamp(r.base(), r.tag("users"), 9);
    EXPECT_EQ(slot_version(slot), 9u);
    EXPECT_EQ(tags.cell(r.base(), r.tag("users").hash), 9u);
    release(slot);
}

TEST_F(Tags, versions_are_never_lowered) {
    const Ref slot = acquire("users");
    tags.stamp(r.base(), r.tag("users"), 9);
    tags.stamp(r.base(), r.tag("users"), 5);
    EXPECT_EQ(slot_version(slot), 9u);
    EXPECT_EQ(tags.cell(r.base(), r.tag("users").hash), 9u);
    release(slot);
}

TEST_F(Tags, a_freed_slot_forgets_nothing) {
    Ref slot = acquire("users");
    tags.stamp(r.base(), r.tag("users"), 9);
    release(slot);
    EXPECT_EQ(tags.slot_count(), 0u);
    EXPECT_EQ(tags.version(r.base(), r.tag("users")), 9u);
    slot = acquire("users");
    EXPECT_EQ(slot_version(slot), 9u);
    release(slot);
}

TEST_F(Tags, a_stamp_while_no_slot_is_there_is_found_by_the_next_one) {
    release(acquire("users"));
    tags.stamp(r.base(), r.tag("users"), 11);
    const Ref slot = acquire("users");
    EXPECT_EQ(slot_version(slot), 11u);
    release(slot);
}

TEST_F(Tags, a_slot_is_shared_and_counted) {
    const Ref first = acquire("users");
    const std::size_t used = r.allocator().used_bytes();
    EXPECT_EQ(acquire("users"), first);
    EXPECT_EQ(tags.slot_count(), 1u);
    EXPECT_EQ(r.allocator().used_bytes(), used);
    release(first);
    EXPECT_EQ(tags.find(r.base(), r.tag("users")), first);
    release(first);
    EXPECT_EQ(tags.find(r.base(), r.tag("users")), 0u);
}

TEST_F(Tags, the_same_text_in_two_spaces_is_two_tags) {
    const Ref here = acquire("users", 0);
    const Ref there = acquire("users", 1);
    EXPECT_NE(here, there);
    tags.stamp(r.base(), r.tag("users", 1), 4);
    EXPECT_EQ(slot_version(here), 0u);
    EXPECT_EQ(slot_version(there), 4u);
    release(here);
    release(there);
}

TEST_F(Tags, another_tag_with_the_same_cell_raises_only_the_cell) {
    const Ref slot = acquire("users");
    TagName other = r.tag("others");
    other.hash = r.tag("users").hash;  // as if the hashes collided in full
    tags.stamp(r.base(), other, 6);
    EXPECT_EQ(slot_version(slot), 0u) << "a live entry is not lost to a collision";
    EXPECT_EQ(tags.version(r.base(), r.tag("users")), 0u);
    EXPECT_EQ(tags.version(r.base(), other), 6u);
    release(slot);
}

TEST_F(Tags, many_slots_in_one_chain_come_and_go_in_any_order) {
    std::vector<std::string> texts;
    std::vector<Ref> slots;
    for (int i = 0; i < 300; ++i) {
        texts.push_back("tag-" + std::to_string(i));
        TagName name = r.tag(texts.back());
        name.hash = 12345 + 64 * static_cast<std::uint64_t>(i % 3) * 1'000'000'007ULL;
        slots.push_back(tags.acquire(r.base(), r.allocator(), name));
        ASSERT_NE(slots.back(), 0u);
    }
    for (const int step : {7, 1}) {
        for (std::size_t i = 0; i < slots.size(); i += static_cast<std::size_t>(step)) {
            if (slots[i] == 0) continue;
            release(slots[i]);
            slots[i] = 0;
        }
    }
    EXPECT_EQ(tags.slot_count(), 0u);
    r.audit();
}

TEST_F(Tags, an_empty_tag_and_one_of_the_longest_size_are_tags) {
    const std::string longest(kMaxTagBytes, 'x');
    const Ref empty = acquire("");
    const Ref full = acquire(longest);
    EXPECT_EQ(tags.find(r.base(), r.tag("")), empty);
    EXPECT_EQ(tags.find(r.base(), r.tag(longest)), full);
    EXPECT_EQ(r.base().at<TagSlot>(full)->text(), longest);
    release(empty);
    release(full);
}

TEST_F(Tags, without_memory_there_is_no_slot_and_no_trace) {
    r.allocator().fail_after(0);
    EXPECT_EQ(acquire("users"), 0u);
    r.allocator().fail_after(-1);
    EXPECT_EQ(tags.slot_count(), 0u);
    r.audit();
}

}  // namespace
}  // namespace cache_ext::core
