#include "pg/entry_tags.hpp"

#include "pg/attach.hpp"
#include "pg/writes.hpp"

namespace cache_ext::pg {

bool EntryTags::copy(const core::Scope& scope, std::string_view key, const core::Lookup* expected) noexcept {
    core::Store& store = region().store();
    const core::Base base = region().base();
    bool same = false;
    tag_count_ = relation_count_ = 0;
    store.visit_one(base, {scope.id, key, store.key_hash(scope.id, key)}, [&](const core::EntryInfo& e) {
        same = expected == nullptr || (e.entry == expected->entry && e.created_at == expected->created_at &&
                                       e.birth == expected->birth);
        if (!same) return;
        std::size_t at = 0;
        for (std::uint32_t i = 0; i < e.tag_count; ++i) {
            const std::string_view tag = core::Store::tag(base, e.tags[i]).text();
            if (core::Store::tag(base, e.tags[i]).space != e.space) {
                relations_[relation_count_++] = RelationTag::relation_of(tag);
                continue;
            }
            std::memcpy(text_ + at, tag.data(), tag.size());
            new (tags_ + tag_count_++ * sizeof(std::string_view)) std::string_view{text_ + at, tag.size()};
            at += tag.size();
        }
    });
    return same;
}

}  // namespace cache_ext::pg
