#include "core/scopes.hpp"

#include "core/racy_copy.hpp"
#include "core/tags.hpp"

namespace cache_ext::core {

namespace {

/// Adds to a count that a reader whose entry has gone may be looking at.
template <class T>
void add(T& count, std::int64_t n) noexcept {
    store_relaxed(count, static_cast<T>(count + static_cast<T>(n)));
}

}  // namespace

void ScopeTable::init(Ref scope_heads, Ref owner_heads, std::uint32_t head_count) noexcept {
    scope_heads_ = scope_heads;
    owner_heads_ = owner_heads;
    head_count_ = head_count;
    scopes_ = 0;
    owners_ = 0;
    search_ = 0;
    private_entries_ = 0;
    private_bytes_ = 0;
}

Ref ScopeTable::find(Base base, const Id128& id) const noexcept {
    Ref ref = scope_head(base, id);
    while (ref != 0 && !(base.at<ScopeNode>(ref)->id == id))
        ref = base.at<ScopeNode>(ref)->next;
    return ref;
}

Ref ScopeTable::find_owner(Base base, const Id128& id) const noexcept {
    Ref ref = owner_head(base, id);
    while (ref != 0 && !(base.at<OwnerNode>(ref)->id == id))
        ref = base.at<OwnerNode>(ref)->next;
    return ref;
}

Ref ScopeTable::acquire(Base base, Allocator& allocator, const Scope& scope, Version floor) noexcept {
    Ref ref = find(base, scope.id);
    if (ref == 0) {
        ref = allocator.allocate(base, sizeof(ScopeNode));
        if (ref == 0) return 0;
        Ref owner = 0;
        if (scope.is_private) {
            owner = find_owner(base, scope.owner);
            if (owner == 0) {
                owner = allocator.allocate(base, sizeof(OwnerNode));
                if (owner == 0) {
                    allocator.free(base, ref);
                    return 0;
                }
                auto* node = base.at<OwnerNode>(owner);
                const OwnerNode fresh{scope.owner, 0, 0, 0, owner_head(base, scope.owner), 0};
                racy_store(node, &fresh, sizeof fresh);
                owner_head(base, scope.owner) = owner;
                ++owners_;
            }
            add(base.at<OwnerNode>(owner)->scopes, 1);
        }
        auto* node = base.at<ScopeNode>(ref);
        store_relaxed(node->id.hi, scope.id.hi);
        store_relaxed(node->id.lo, scope.id.lo);
        store_relaxed(node->space.hi, scope.space.hi);
        store_relaxed(node->space.lo, scope.space.lo);
        node->floor.store(floor, std::memory_order_relaxed);
        store_relaxed(node->bytes, std::uint64_t{0});
        store_relaxed(node->entries, std::uint32_t{0});
        store_relaxed(node->owner, owner);
        store_relaxed(node->next, scope_head(base, scope.id));
        scope_head(base, scope.id) = ref;
        ++scopes_;
    }
    auto* node = base.at<ScopeNode>(ref);
    add(node->entries, 1);
    if (node->owner != 0) ++private_entries_;
    return ref;
}

void ScopeTable::release(Base base, Allocator& allocator, Ref ref) noexcept {
    auto* node = base.at<ScopeNode>(ref);
    if (node->owner != 0) --private_entries_;
    add(node->entries, -1);
    if (node->entries > 0) return;

    Ref* link = &scope_head(base, node->id);
    while (*link != ref)
        link = &base.at<ScopeNode>(*link)->next;
    store_relaxed(*link, node->next);
    --scopes_;
    if (node->owner != 0) {
        auto* owner = base.at<OwnerNode>(node->owner);
        add(owner->scopes, -1);
        if (owner->scopes == 0) {
            link = &owner_head(base, owner->id);
            while (*link != node->owner)
                link = &base.at<OwnerNode>(*link)->next;
            store_relaxed(*link, owner->next);
            --owners_;
            allocator.free(base, node->owner);
        }
    }
    allocator.free(base, ref);
}

void ScopeTable::account(Base base, Ref scope, std::int64_t bytes) noexcept {
    auto* node = base.at<ScopeNode>(scope);
    add(node->bytes, bytes);
    if (node->owner == 0) return;
    add(base.at<OwnerNode>(node->owner)->bytes, bytes);
    private_bytes_ += static_cast<std::uint64_t>(bytes);
}

Ref ScopeTable::large_owner(Base base) noexcept {
    constexpr unsigned kSample = 16;
    Ref best = 0;
    unsigned seen = 0;
    for (std::uint32_t i = 0; i < head_count_ && seen < kSample; ++i) {
        search_ = (search_ + 1) & (head_count_ - 1);
        for (Ref ref = base.at<Ref>(owner_heads_)[search_]; ref != 0 && seen < kSample;
             ref = base.at<OwnerNode>(ref)->next) {
            ++seen;
            if (best == 0 || base.at<OwnerNode>(ref)->bytes > base.at<OwnerNode>(best)->bytes) best = ref;
        }
    }
    return best;
}

void ScopeTable::raise_floors(Base base, const Id128* space, Version version) noexcept {
    for (std::uint32_t i = 0; i < head_count_; ++i) {
        for (Ref ref = base.at<Ref>(scope_heads_)[i]; ref != 0; ref = base.at<ScopeNode>(ref)->next) {
            auto* node = base.at<ScopeNode>(ref);
            if (space == nullptr || node->space == *space) raise(node->floor, version);
        }
    }
}

}  // namespace cache_ext::core
