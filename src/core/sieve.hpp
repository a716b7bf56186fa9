// Which object to evict: SIEVE (Y. Zhang, J. Yang, Y. Yue, Y. Vigfusson and K. V. Rashmi, "SIEVE is Simpler
// than LRU: an Efficient Turn-Key Eviction Algorithm for Web Caches", NSDI 2024).
//
// Objects stay in the order they came in; a hit only sets the object's visited bit. A hand walks from the
// oldest towards the newest, clears the bits it meets and stops at the first object without one; from the
// newest it goes on at the oldest. So a hit moves nothing, and newcomers that nobody asks for go early.
//
// This is the policy alone: it knows neither sizes nor memory. A cache that honours sizes evicts victims
// before it inserts, until what is to be inserted fits, and never inserts what is larger than itself.
//
// Locking: insert, remove and victim happen under the caller's lock. A visited bit may be set at any time
// and without the lock, if the caller's Links reads and writes it atomically. Links between objects are
// stored with relaxed atomic stores, so that readers without the lock may copy an object while it moves.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>

#include "core/racy_copy.hpp"
#include "core/ref.hpp"

namespace cache_ext::core {

// Links is how the policy reaches into an object, a small view passed by value:
//   Ref& newer(Ref), Ref& older(Ref)                    its two list fields
//   bool visited(Ref), void set_visited(Ref, bool)      its visited bit
template <class Links>
class Sieve {
public:
    // Makes an object the newest, not visited. It must be in no list.
    void insert(Links links, Ref ref) noexcept {
        links.set_visited(ref, false);
        store_relaxed(links.newer(ref), kNullRef);
        store_relaxed(links.older(ref), newest_);
        if (newest_ != kNullRef) {
            store_relaxed(links.newer(newest_), ref);
        } else {
            oldest_ = ref;
        }
        newest_ = ref;
        ++count_;
    }

    // Takes out an object of this list, be it a victim or any other. A hand that points to it moves on.
    void remove(Links links, Ref ref) noexcept {
        const Ref newer = links.newer(ref);
        const Ref older = links.older(ref);
        if (hand_ == ref) hand_ = newer;
        if (newer != kNullRef) {
            store_relaxed(links.older(newer), older);
        } else {
            newest_ = older;
        }
        if (older != kNullRef) {
            store_relaxed(links.newer(older), newer);
        } else {
            oldest_ = newer;
        }
        store_relaxed(links.newer(ref), kNullRef);
        store_relaxed(links.older(ref), kNullRef);
        --count_;
    }

    // Records a hit. Writes only when the bit is not set yet, so that hits on a hot object share its line.
    static void touch(Links links, Ref ref) noexcept {
        if (!links.visited(ref)) links.set_visited(ref, true);
    }

    // The object to evict next, null when there is none. It stays in the list and the hand stays on it: until
    // it is removed or touched it is the victim again. An object for which `dispensable(ref)` holds, such as
    // one that has expired, is a victim at once, visited or not.
    //
    // Clears at most min(max_passed, count()) bits; the object the hand then points to is the victim even if
    // it is visited. With the default that only happens when bits are set behind the hand while it walks.
    template <class Dispensable>
    requires std::predicate<Dispensable&, Ref>
    [[nodiscard]] Ref victim(Links links, Dispensable dispensable,
                             std::uint32_t max_passed = std::numeric_limits<std::uint32_t>::max()) noexcept {
        if (count_ == 0) return kNullRef;
        if (hand_ == kNullRef) hand_ = oldest_;
        std::uint32_t left = max_passed < count_ ? max_passed : count_;
        while (left > 0 && !dispensable(hand_) && links.visited(hand_)) {
            links.set_visited(hand_, false);
            hand_ = links.newer(hand_);
            if (hand_ == kNullRef) hand_ = oldest_;
            --left;
        }
        return hand_;
    }

    [[nodiscard]] Ref victim(Links links,
                             std::uint32_t max_passed = std::numeric_limits<std::uint32_t>::max()) noexcept {
        return victim(
            links, [](Ref) { return false; }, max_passed);
    }

    // Objects in the list.
    [[nodiscard]] std::uint32_t count() const noexcept { return count_; }

    // The ends of the list, null when it is empty; Links leads from one to the other.
    [[nodiscard]] Ref newest() const noexcept { return newest_; }
    [[nodiscard]] Ref oldest() const noexcept { return oldest_; }

    // Walks the list both ways and verifies it. For tests: takes time in proportion to count().
    [[nodiscard]] bool check(Links links) const noexcept {
        bool hand_seen = hand_ == kNullRef;
        std::uint32_t seen = 0;
        Ref older = kNullRef;
        for (Ref ref = oldest_; ref != kNullRef; ref = links.newer(ref)) {
            if (++seen > count_ || links.older(ref) != older) return false;
            if (ref == hand_) hand_seen = true;
            older = ref;
        }
        return seen == count_ && older == newest_ && hand_seen;
    }

private:
    Ref newest_ = kNullRef;
    Ref oldest_ = kNullRef;
    Ref hand_ = kNullRef;  // null: at the oldest
    std::uint32_t count_ = 0;
};

}  // namespace cache_ext::core
