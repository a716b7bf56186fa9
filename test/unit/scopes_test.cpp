#include "core/scopes.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "region_fixture.hpp"

namespace cache_ext::core {
namespace {

/// A scope table of its own, in memory of a region's allocator.
class Scopes : public testing::Test {
protected:
    static constexpr std::uint32_t kHeads = 4;  // few, so that chains are long
    Scopes() {
        const Ref heads = r.allocator().allocate(r.base(), kHeads * sizeof(Ref));
        const Ref owner_heads = r.allocator().allocate(r.base(), kHeads * sizeof(Ref));
        std::memset(r.base().at<void>(heads), 0, kHeads * sizeof(Ref));
        std::memset(r.base().at<void>(owner_heads), 0, kHeads * sizeof(Ref));
        table.init(heads, owner_heads, kHeads);
        used_before = r.allocator().used_bytes();
    }
    Ref acquire(const Scope& scope, Version floor = 0) {
        return table.acquire(r.base(), r.allocator(), scope, floor);
    }
    void release(Ref ref) { table.release(r.base(), r.allocator(), ref); }
    ScopeNode& node(Ref ref) { return *r.base().at<ScopeNode>(ref); }
    OwnerNode& owner(Ref scope) { return *r.base().at<OwnerNode>(node(scope).owner); }

    TestRegion r;
    ScopeTable table;
    std::size_t used_before = 0;
};

TEST_F(Scopes, a_node_lives_as_long_as_it_has_entries) {
    const Ref a = acquire(shared_scope(1));
    EXPECT_EQ(acquire(shared_scope(1)), a);
    EXPECT_EQ(table.scope_count(), 1u);
    release(a);
    EXPECT_EQ(table.scope_count(), 1u);
    release(a);
    EXPECT_EQ(table.scope_count(), 0u);
    EXPECT_EQ(r.allocator().used_bytes(), used_before);
}

TEST_F(Scopes, of_one_owner_share_its_node) {
    const Ref a = acquire(private_scope(1, 9)), b = acquire(private_scope(2, 9)),
              c = acquire(private_scope(3, 8));
    EXPECT_EQ(node(a).owner, node(b).owner);
    EXPECT_NE(node(a).owner, node(c).owner);
    EXPECT_EQ(table.private_entries(), 3u);
    release(a);
    EXPECT_NE(table.find_owner(r.base(), id_of(2'000'009)), 0u);
    release(b);
    EXPECT_EQ(table.find_owner(r.base(), id_of(2'000'009)), 0u);
    release(c);
    EXPECT_EQ(table.private_entries(), 0u);
    EXPECT_EQ(r.allocator().used_bytes(), used_before);
}

TEST_F(Scopes, account_for_scope_owner_and_all) {
    const Ref a = acquire(private_scope(1, 9)), b = acquire(private_scope(2, 9)),
              c = acquire(shared_scope(3));
    table.account(r.base(), a, 100);
    table.account(r.base(), b, 50);
    table.account(r.base(), c, 1000);
    EXPECT_EQ(owner(a).bytes, 150u);
    EXPECT_EQ(table.private_bytes(), 150u);
    EXPECT_EQ(node(c).bytes, 1000u);
    table.account(r.base(), a, -100);
    EXPECT_EQ(owner(b).bytes, 50u);
    EXPECT_EQ(table.private_bytes(), 50u);
}

TEST_F(Scopes, floors_rise_in_one_space_only) {
    const Ref a = acquire(shared_scope(1, 5), 3), b = acquire(shared_scope(2, 5), 20),
              c = acquire(shared_scope(3, 6), 3);
    const Id128 space = id_of(1'000'005);
    table.raise_floors(r.base(), &space, 10);
    EXPECT_EQ(node(a).floor.load(), 10u);
    EXPECT_EQ(node(b).floor.load(), 20u);
    EXPECT_EQ(node(c).floor.load(), 3u);
}

TEST_F(Scopes, the_largest_of_a_few_owners_is_found) {
    EXPECT_EQ(table.large_owner(r.base()), 0u);
    std::vector<Ref> refs;
    for (unsigned i = 0; i < 10; ++i) {
        refs.push_back(acquire(private_scope(i, i)));
        table.account(r.base(), refs.back(), i == 6 ? 1000 : 10);
    }
    for (int i = 0; i < 8; ++i)
        EXPECT_EQ(table.large_owner(r.base()), node(refs[6]).owner);
}

TEST_F(Scopes, an_owners_entries_are_linked_in_the_order_they_came) {
    const Ref scope = acquire(private_scope(1, 1));
    std::vector<OwnerLinks> links(5);
    const auto at = [&](Ref ref) -> OwnerLinks& { return links[ref]; };
    for (Ref e = 1; e <= 4; ++e)
        table.link(r.base(), scope, e, at);
    EXPECT_EQ(owner(scope).oldest, 1u);
    EXPECT_EQ(owner(scope).newest, 4u);
    table.unlink(r.base(), scope, 2, at);
    EXPECT_EQ(links[1].newer, 3u);
    EXPECT_EQ(links[3].older, 1u);
    table.unlink(r.base(), scope, 1, at);
    EXPECT_EQ(owner(scope).oldest, 3u);
    table.unlink(r.base(), scope, 4, at);
    EXPECT_EQ(owner(scope).newest, 3u);
    table.unlink(r.base(), scope, 3, at);
    EXPECT_EQ(owner(scope).newest, 0u);
    EXPECT_EQ(owner(scope).oldest, 0u);
}

TEST_F(Scopes, without_memory_there_is_no_trace) {
    for (int n = 0; n < 2; ++n) {
        r.allocator().fail_after(n);
        EXPECT_EQ(acquire(private_scope(1, 1)), 0u);
        r.allocator().fail_after(-1);
        EXPECT_EQ(table.scope_count(), 0u);
        EXPECT_EQ(table.private_entries(), 0u);
        EXPECT_EQ(r.allocator().used_bytes(), used_before);
        EXPECT_EQ(table.find_owner(r.base(), id_of(2'000'001)), 0u);
    }
}

TEST_F(Scopes, many_in_one_chain_come_and_go_in_any_order) {
    std::vector<Ref> refs;
    for (unsigned i = 0; i < 200; ++i)
        refs.push_back(acquire(i % 2 == 0 ? shared_scope(i) : private_scope(i, i % 7)));
    for (const std::size_t step : {3U, 2U, 1U}) {
        for (std::size_t i = 0; i < refs.size(); i += step) {
            if (refs[i] != 0) release(std::exchange(refs[i], 0));
        }
    }
    EXPECT_EQ(table.scope_count(), 0u);
    EXPECT_EQ(table.private_bytes(), 0u);
    EXPECT_EQ(r.allocator().used_bytes(), used_before);
    EXPECT_TRUE(r.allocator().check(r.base()));
}

}  // namespace
}  // namespace cache_ext::core
