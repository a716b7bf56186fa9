#pragma once

// Why a result cannot live until what it was computed from changes: what nobody is told of.

#include "pg/prelude.hpp"

namespace cache_ext::pg {

enum class Obstacle : std::uint8_t {
    kNone,
    // A relation whose changes are not seen. A result that was computed from one is not kept.
    kTemporary,
    kLocked,  ///< whose rows it locks: it has to run each time
    kForeign,
    kCatalog,
    kSequence,
    kStorage,  ///< not kept as a heap, or of a kind that is not known
    // Only when it runs; it is not kept either.
    kParallel,     ///< other processes read too
    kCachedValue,  ///< an answer of the cache that says nothing of what it depends on
    kTooMuch,      ///< more tables and tags than an entry has room for
    // A function that is not told when its answer changes. What it gave is kept.
    kVolatile,
    kTime,
    kSetting,
    kServerState,
    kIdentity,  ///< who calls: no obstacle to an entry that is private
    // Nothing is known.
    kNotLookedInto,  ///< a function's body, because of its language
    kNotAnalyzed,  ///< a function's body, because it has an error or the types of its arguments are not known
};

/// An obstacle and what it is in: a relation or a function. InvalidOid: nothing that could be named.
struct Finding {
    Obstacle obstacle = Obstacle::kNone;
    Oid object = InvalidOid;
};

/// Whether a result with this obstacle is not kept.
constexpr bool prevents_keeping(Obstacle obstacle) noexcept {
    return obstacle != Obstacle::kNone && obstacle < Obstacle::kVolatile;
}

/// What the obstacle of a relation is, or none: a table, or what holds no rows of its own. One that is not there counts as kStorage. May raise.
/// `holds_rows`, if given: whether it has rows that can be written.
Obstacle obstacle_of_relation(Oid relation, bool* holds_rows = nullptr);

/// The finding in words, to follow "It reads" or "It calls": `foreign table public.remote`, `function random(), which is volatile`. Palloc'd. May raise.
const char* describe(const Finding& finding);

/// A word for it that stays: `foreign table`.
const char* name_of(Obstacle obstacle) noexcept;

}  // namespace cache_ext::pg
