#include "pg/pending.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <tuple>

#include "core/glob.hpp"
#include "core/hash.hpp"

namespace cache_ext::pg {

namespace {

/// Invalidations of one transaction beyond which it is cheaper for all to invalidate everything.
constexpr std::size_t kMaxInvalidations = 200'000;

std::uint64_t set_hash(const core::Id128& scope, std::string_view key) noexcept {
    return core::hash_bytes(key, core::mix(scope.hi, scope.lo));
}

}  // namespace

std::uint64_t Pending::hash_of(InvalidationKind kind, const core::Scope& scope,
                               std::string_view text) noexcept {
    // A tag and everything that is for all scopes belong to the space; the rest to one scope.
    const bool scoped = kind == InvalidationKind::kKey || kind == InvalidationKind::kPattern ||
                        kind == InvalidationKind::kExpire;
    const core::Id128& owner = scoped ? scope.id : scope.space;
    return core::hash_bytes(text, core::mix(owner.hi, owner.lo) + static_cast<std::uint64_t>(kind));
}

std::string_view Pending::keep(std::string_view text) {
    auto* const copy = reinterpret_cast<char*>(memory_.allocate(text.size()));
    if (!text.empty()) std::memcpy(copy, text.data(), text.size());
    return {copy, text.size()};
}

void Pending::invalidate(InvalidationKind kind, const core::Scope& scope, std::string_view text,
                         int level) noexcept {
    const std::uint64_t hash = hash_of(kind, scope, text);
    const Sequence earlier = find(hash);
    if (earlier > last_mark_) return;
    ++sequence_;
    try {
        if (invalidations_.size() < kMaxInvalidations) {
            latest_.reserve_one();
            const Arena::Mark memory = memory_.mark();
            invalidations_.push_back({kind, level, sequence_, scope, keep(text), hash, earlier, memory});
            latest_.set(hash, sequence_);
            if (kind == InvalidationKind::kPattern || kind == InvalidationKind::kPatternEverywhere)
                ++patterns_;
            return;
        }
    } catch (const std::bad_alloc&) {
    }
    everything_ = true;
    everything_at_ = sequence_;
    everything_space_ = scope.space;
}

Sequence Pending::key_invalidated_at(const core::Scope& scope, std::string_view key) const noexcept {
    Sequence last = everything_ ? everything_at_ : 0;
    last = std::max(last, find(hash_of(InvalidationKind::kKey, scope, key)));
    last = std::max(last, find(hash_of(InvalidationKind::kKeyEverywhere, scope, key)));
    last = std::max(last, find(hash_of(InvalidationKind::kExpire, scope, key)));
    last = std::max(last, find(hash_of(InvalidationKind::kSpace, scope, {})));
    if (patterns_ == 0) return last;
    for (const Invalidation& i : invalidations_) {
        const bool concerns =
            (i.kind == InvalidationKind::kPattern && i.scope.id == scope.id) ||
            (i.kind == InvalidationKind::kPatternEverywhere && i.scope.space == scope.space);
        if (concerns && i.sequence > last && core::glob_match(i.text, key)) last = i.sequence;
    }
    return last;
}

void Pending::add(const PendingSet& set) {
    const std::uint64_t hash = set_hash(set.scope.id, set.key);
    newest_sets_.reserve_one();
    PendingSet own = set;
    own.memory = memory_.mark();
    try {
        auto* const tags = reinterpret_cast<std::string_view*>(memory_.allocate(set.tags.size_bytes()));
        for (std::size_t i = 0; i < set.tags.size(); ++i)
            std::construct_at(tags + i, keep(set.tags[i]));
        own.tags = {tags, set.tags.size()};
        own.key = keep(set.key);
        const auto copy = [this]<class T>(std::span<const T> from) {
            auto* const to = reinterpret_cast<T*>(memory_.allocate(from.size_bytes()));
            if (!from.empty()) std::memcpy(to, from.data(), from.size_bytes());
            return std::span<const T>{to, from.size()};
        };
        own.relations = copy(set.relations);
        own.value = copy(set.value);
        own.previous = newest_sets_.find(hash);
        own.sequence = mark();
        sets_.push_back(own);
    } catch (...) {
        memory_.rewind(own.memory);
        throw;
    }
    bytes_ += set.value.size() + set.key.size();
    newest_sets_.set(hash, sets_.size());
}

const PendingSet* Pending::find_set(const core::Id128& scope, std::string_view key) const noexcept {
    if (sets_.empty()) return nullptr;
    const std::uint64_t number = newest_sets_.find(set_hash(scope, key));
    if (number == 0) return nullptr;
    const PendingSet& set = sets_[number - 1];
    return set.scope.id == scope && set.key == key ? &set : nullptr;
}

void Pending::drop_last_invalidation() noexcept {
    const Invalidation& last = invalidations_.back();
    if (last.kind == InvalidationKind::kPattern || last.kind == InvalidationKind::kPatternEverywhere)
        --patterns_;
    // An earlier record of the same thing counts again.
    if (last.earlier != 0) {
        latest_.set(last.hash, last.earlier);
    } else {
        latest_.erase(last.hash);
    }
    invalidations_.pop_back();
}

void Pending::drop_last_set() noexcept {
    const PendingSet& last = sets_.back();
    bytes_ -= last.value.size() + last.key.size();
    const std::uint64_t hash = set_hash(last.scope.id, last.key);
    if (last.previous != 0) {
        newest_sets_.set(hash, last.previous);
    } else {
        newest_sets_.erase(hash);
    }
    sets_.pop_back();
}

void Pending::roll_back(int level) noexcept {
    // Both lists are in the order of time, and so is the memory: whatever was added after the first that goes, goes too.
    std::optional<Arena::Mark> memory;
    const auto goes_back_to = [&memory](const Arena::Mark& mark) {
        if (!memory || std::tie(mark.pieces, mark.used) < std::tie(memory->pieces, memory->used))
            memory = mark;
    };
    for (; !sets_.empty() && sets_.back().level >= level; drop_last_set())
        goes_back_to(sets_.back().memory);
    for (; !invalidations_.empty() && invalidations_.back().level >= level; drop_last_invalidation())
        goes_back_to(invalidations_.back().memory);
    if (memory) memory_.rewind(*memory);
}

void Pending::release(int level) noexcept {
    for (auto i = sets_.rbegin(); i != sets_.rend() && i->level >= level; ++i)
        i->level = level - 1;
    for (auto i = invalidations_.rbegin(); i != invalidations_.rend() && i->level >= level; ++i)
        i->level = level - 1;
}

void Pending::clear() noexcept {
    if (empty()) return;
    // Large ones give their memory back; small ones keep it for the next transaction.
    constexpr std::size_t kKeep = 256;
    if (invalidations_.capacity() > kKeep) std::vector<Invalidation>().swap(invalidations_);
    if (sets_.capacity() > kKeep) std::vector<PendingSet>().swap(sets_);
    invalidations_.clear();
    sets_.clear();
    latest_.clear();
    newest_sets_.clear();
    memory_.clear();
    patterns_ = 0;
    last_mark_ = 0;
    everything_ = false;
    bytes_ = 0;
}

}  // namespace cache_ext::pg
