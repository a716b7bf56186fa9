#pragma once

// Going through all live entries that a caller's call concerns, the transaction's own uncommitted ones included and what it has invalidated left
// out. Takes time in proportion to the number of entries; the region's lock is held for one bucket at a time.

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/args.hpp"
#include "core/store.hpp"

namespace cache_ext::api {

/// Which scopes are gone through.
struct Reach {
    core::Id128 space;
    const core::Id128 scopes[2];
    int scope_count;  ///< 0 = all of the space

    static Reach everything(const core::Scope& s) { return {s.space, {}, 0}; }
    static Reach only(const core::Scope& s) { return {s.space, {s.id, {}}, 1}; }
    static Reach visible(const core::Scope& own, const core::Scope& shared) {
        return {own.space, {own.id, shared.id}, 2};
    }

    bool covers(const core::Id128& space_id, const core::Id128& scope) const noexcept {
        return space_id == space &&
               (scope_count == 0 || scope == scopes[0] || (scope_count == 2 && scope == scopes[1]));
    }
};

/// The tags of an entry that users gave it, wherever it lies.
class TagView {
public:
    class Iterator {
    public:
        Iterator(const TagView& view, std::size_t at) : view_(&view), at_(at) {}
        std::string_view operator*() const { return (*view_)[at_]; }
        Iterator& operator++() { return ++at_, *this; }
        bool operator!=(const Iterator& other) const { return at_ != other.at_; }

    private:
        const TagView* view_;
        std::size_t at_;
    };
    TagView(core::Base base, const core::EntryInfo& entry) : base_(base), refs_(entry.tags), count_(0) {
        // The relations that it depends on come after them, in a space of their own.
        while (count_ < entry.tag_count && core::Store::tag(base, refs_[count_]).space == entry.space)
            ++count_;
    }
    explicit TagView(std::span<const std::string_view> texts) : texts_(texts.data()), count_(texts.size()) {}

    std::string_view operator[](std::size_t i) const {
        return texts_ != nullptr ? texts_[i] : core::Store::tag(base_, refs_[i]).text();
    }
    std::size_t size() const { return count_; }
    Iterator begin() const { return {*this, 0}; }
    Iterator end() const { return {*this, count_}; }

private:
    core::Base base_{};
    const core::Ref* refs_ = nullptr;
    const std::string_view* texts_ = nullptr;
    std::size_t count_;
};

/// A live entry that is looked at: valid only during the look, which must not call the server.
struct Candidate {
    std::string_view key;
    TagView tags;
};

struct Match {
    core::Scope scope;
    std::string key;
    bool has_grace;
};

using Predicate = std::function<bool(const Candidate&)>;

/// How many live entries there are for which the predicate holds.
std::int64_t count_live(const Reach& reach, const Predicate& matches);

/// The same entries, by name. Throws std::bad_alloc.
std::vector<Match> find_live(const Reach& reach, const Predicate& matches);

/// Whether any entry, stored or pending, may carry one of the tags.
bool any_tag_is_used(const core::Scope& space, const Texts& tags);

}  // namespace cache_ext::api
