#include "pg/pending.hpp"

#include <algorithm>
#include <new>

#include "core/glob.hpp"
#include "core/hash.hpp"

namespace cache_ext::pg {

namespace {

/// Invalidations of one transaction beyond which it is cheaper for all to invalidate everything.
constexpr std::size_t kMaxInvalidations = 200'000;

std::uint64_t set_hash(const core::Id128& scope, std::string_view key) noexcept {
    return core::hash_bytes(key, core::mix(scope.hi, scope.lo));
}

}   // namespace

std::uint64_t Pending::hash_of(InvalidationKind kind, const core::Scope& scope, std::string_view text) noexcept {
    // A tag and everything that is for all scopes belong to the space; the rest to one scope.
    const bool scoped = kind == InvalidationKind::kKey || kind == InvalidationKind::kPattern || kind == InvalidationKind::kExpire;
    const core::Id128& owner = scoped ? scope.id : scope.space;
    return core::hash_bytes(text, core::mix(owner.hi, owner.lo) + static_cast<std::uint64_t>(kind));
}

Sequence Pending::find(std::uint64_t hash) const noexcept {
    const auto at = latest_.find(hash);
    return at == latest_.end() ? 0 : at->second;
}

void Pending::invalidate(InvalidationKind kind, const core::Scope& scope, std::string_view text, int level) noexcept {
    const std::uint64_t hash = hash_of(kind, scope, text);
    const Sequence earlier = find(hash);
    if (earlier > last_mark_) return;
    ++sequence_;
    try {
        if (invalidations_.size() < kMaxInvalidations) {
            invalidations_.push_back({kind, level, sequence_, scope, std::string(text), hash, earlier});
            try {
                latest_[hash] = sequence_;
            } catch (...) {
                invalidations_.pop_back();
                throw;
            }
            if (kind == InvalidationKind::kPattern || kind == InvalidationKind::kPatternEverywhere) ++patterns_;
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
        const bool concerns = (i.kind == InvalidationKind::kPattern && i.scope.id == scope.id) ||
                              (i.kind == InvalidationKind::kPatternEverywhere && i.scope.space == scope.space);
        if (concerns && i.sequence > last && core::glob_match(i.text, key)) last = i.sequence;
    }
    return last;
}

void Pending::add(PendingSet set) {
    const std::uint64_t hash = set_hash(set.scope.id, set.key);
    const auto at = newest_sets_.try_emplace(hash, -1).first;
    set.previous = at->second;
    set.sequence = mark();
    const std::size_t bytes = set.value.size() + set.key.size();
    try {
        sets_.push_back(std::move(set));
    } catch (...) {
        if (at->second < 0) newest_sets_.erase(at);
        throw;
    }
    bytes_ += bytes;
    at->second = static_cast<std::ptrdiff_t>(sets_.size()) - 1;
}

const PendingSet* Pending::find_set(const core::Id128& scope, std::string_view key) const noexcept {
    if (sets_.empty()) return nullptr;
    const auto at = newest_sets_.find(set_hash(scope, key));
    if (at == newest_sets_.end()) return nullptr;
    const PendingSet& set = sets_[static_cast<std::size_t>(at->second)];
    return set.scope.id == scope && set.key == key ? &set : nullptr;
}

void Pending::drop_last_invalidation() noexcept {
    const Invalidation& last = invalidations_.back();
    if (last.kind == InvalidationKind::kPattern || last.kind == InvalidationKind::kPatternEverywhere) --patterns_;
    // An earlier record of the same thing counts again.
    if (const auto at = latest_.find(last.hash); at != latest_.end()) {
        if (last.earlier != 0) {
            at->second = last.earlier;
        } else {
            latest_.erase(at);
        }
    }
    invalidations_.pop_back();
}

void Pending::drop_last_set() noexcept {
    const PendingSet& last = sets_.back();
    bytes_ -= last.value.size() + last.key.size();
    const auto at = newest_sets_.find(set_hash(last.scope.id, last.key));
    if (at != newest_sets_.end()) {
        if (last.previous >= 0) {
            at->second = last.previous;
        } else {
            newest_sets_.erase(at);
        }
    }
    sets_.pop_back();
}

void Pending::roll_back(int level) noexcept {
    while (!sets_.empty() && sets_.back().level >= level) drop_last_set();
    while (!invalidations_.empty() && invalidations_.back().level >= level) drop_last_invalidation();
}

void Pending::release(int level) noexcept {
    for (auto i = sets_.rbegin(); i != sets_.rend() && i->level >= level; ++i) i->level = level - 1;
    for (auto i = invalidations_.rbegin(); i != invalidations_.rend() && i->level >= level; ++i) i->level = level - 1;
}

void Pending::clear() noexcept {
    if (empty()) return;
    // Large ones give their memory back; small ones keep it for the next transaction.
    constexpr std::size_t kKeep = 256;
    if (invalidations_.capacity() > kKeep) {
        std::vector<Invalidation>().swap(invalidations_);
        std::unordered_map<std::uint64_t, Sequence>().swap(latest_);
    }
    invalidations_.clear();
    latest_.clear();
    std::vector<PendingSet>().swap(sets_);
    newest_sets_.clear();
    patterns_ = 0;
    last_mark_ = 0;
    everything_ = false;
    bytes_ = 0;
}

}   // namespace cache_ext::pg
