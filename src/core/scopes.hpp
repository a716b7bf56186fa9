#pragma once

#include <atomic>
#include <cstdint>

#include "core/allocator.hpp"
#include "core/entry.hpp"
#include "core/racy_copy.hpp"
#include "core/ref.hpp"

namespace cache_ext::core {

/// Whose entry it is. The border makes it from the caller's identity; `id` alone tells scopes apart.
struct Scope {
    Id128 id;
    Id128 space;  ///< the extension in its database
    Id128 owner;  ///< whose quota it counts against; of no meaning where it is not private
    bool is_private = false;
};

/// A quota owner: the private entries of all scopes of one (role, sub), newest first.
struct OwnerNode {
    Id128 id;
    std::uint64_t bytes;
    Ref newest;
    Ref oldest;
    Ref next;
    std::uint32_t scopes;
};

/// A scope that has entries.
struct ScopeNode {
    Id128 id;
    Id128 space;
    std::atomic<Version> floor;  ///< entries born before it are dead
    std::uint64_t bytes;
    std::uint32_t entries;
    Ref owner;  ///< 0 where it is shared
    Ref next;
    std::uint32_t unused;
};
static_assert(sizeof(ScopeNode) == 64);

/// The scopes that have entries, and their quota owners.
///
/// Locking: all under the store's lock. Readers compare the id and the floor of an entry's scope with no lock: an entry that is still
/// linked holds its scope. A reader whose entry has gone may look at anything, so that all stores into nodes and links are relaxed atomic ones.
class ScopeTable {
public:
    /// `scope_heads` and `owner_heads` are arrays of `head_count` Refs, zeroed; a power of two.
    void init(Ref scope_heads, Ref owner_heads, std::uint32_t head_count) noexcept;

    /// The scope's node with one more entry counted, made if there is none; 0: no memory. `floor` is for a new one.
    Ref acquire(Base base, Allocator& allocator, const Scope& scope, Version floor) noexcept;

    /// One entry fewer; the last one takes the node with it, and the owner's with the last of its scopes.
    void release(Base base, Allocator& allocator, Ref scope) noexcept;

    /// Memory that an entry of the scope takes or gives back.
    void account(Base base, Ref scope, std::int64_t bytes) noexcept;

    /// The scope's node, or 0.
    Ref find(Base base, const Id128& id) const noexcept;

    /// The owner's node, or 0.
    Ref find_owner(Base base, const Id128& id) const noexcept;

    /// One of the owners that hold the most, found by looking at a bounded number of them; 0: there is none.
    Ref large_owner(Base base) noexcept;

    /// Raises the floor of every scope of a space; null: of all of them.
    void raise_floors(Base base, const Id128* space, Version version) noexcept;

    std::uint64_t private_bytes() const noexcept { return private_bytes_; }
    std::uint32_t private_entries() const noexcept { return private_entries_; }
    std::uint32_t scope_count() const noexcept { return scopes_; }

    /// The links of a private entry among its owner's. `links` finds them by the entry's Ref.
    template <class Links>
    void link(Base base, Ref scope, Ref entry, Links links) noexcept {
        auto* owner = base.at<OwnerNode>(base.at<ScopeNode>(scope)->owner);
        OwnerLinks& own = links(entry);
        store_relaxed(own.older, owner->newest);
        store_relaxed(own.newer, Ref{0});
        store_relaxed(owner->newest != 0 ? links(owner->newest).newer : owner->oldest, entry);
        store_relaxed(owner->newest, entry);
    }
    template <class Links>
    void unlink(Base base, Ref scope, Ref entry, Links links) noexcept {
        auto* owner = base.at<OwnerNode>(base.at<ScopeNode>(scope)->owner);
        const OwnerLinks own = links(entry);
        store_relaxed(own.newer != 0 ? links(own.newer).older : owner->newest, own.older);
        store_relaxed(own.older != 0 ? links(own.older).newer : owner->oldest, own.newer);
    }

private:
    Ref& scope_head(Base base, const Id128& id) const noexcept {
        return base.at<Ref>(scope_heads_)[id.lo & (head_count_ - 1)];
    }
    Ref& owner_head(Base base, const Id128& id) const noexcept {
        return base.at<Ref>(owner_heads_)[id.lo & (head_count_ - 1)];
    }

    Ref scope_heads_;
    Ref owner_heads_;
    std::uint32_t head_count_;
    std::uint32_t scopes_;
    std::uint32_t owners_;
    std::uint32_t search_;  // where large_owner goes on
    std::uint32_t private_entries_;
    std::uint64_t private_bytes_;
};

}  // namespace cache_ext::core
