#include "api/matching.hpp"

#include "pg/attach.hpp"
#include "pg/transaction.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// Whether an entry depends on a relation that this transaction has written.
bool depends_on(const std::vector<Oid>& written, core::Base base, const core::EntryInfo& e,
                std::size_t own_tags) {
    if (written.empty()) return false;
    for (std::size_t i = own_tags; i < e.tag_count; ++i) {
        const Oid relation = pg::RelationTag::relation_of(core::Store::tag(base, e.tags[i]).text());
        if (std::binary_search(written.begin(), written.end(), relation)) return true;
    }
    return false;
}

template <class Found>
void for_each_live(const Reach& reach, const Predicate& matches, Found&& found) {
    const pg::Pending& pending = pg::pending();
    const core::Timestamp now = GetCurrentTimestamp();
    const std::vector<Oid> written = pg::own_writes();
    if (pg::attached()) {
        core::Store& store = pg::region().store();
        const core::Base base = pg::region().base();
        const std::uint32_t buckets = store.bucket_count();
        for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
            store.visit(base, bucket, buckets, [&](const core::EntryInfo& e) {
                if (e.dead || e.expires_at <= now || !reach.covers(e.space, e.scope)) return;
                const TagView tags(base, e);
                if (!matches({e.key, tags}) || depends_on(written, base, e, tags.size())) return;
                const core::Scope scope{e.scope, e.space, {}, e.is_private};
                if (!pending.empty()) {
                    if (pending.invalidated_at(scope, e.key, tags) != 0) return;
                    if (pending.find_set(e.scope, e.key) != nullptr) return;  // counted below
                }
                found(scope, e.key, e.grace_ms != 0);
            });
        }
    }
    pending.for_each_set([&](const pg::PendingSet& set) {
        if (set.expires_at <= now || !reach.covers(set.scope.space, set.scope.id)) return;
        const TagView tags(set.tags);
        if (!matches({set.key, tags})) return;
        if (pending.invalidated_at(set.scope, set.key, set.tags) > set.sequence) return;
        for (const Oid relation : set.relations) {
            if (std::binary_search(written.begin(), written.end(), relation)) return;
        }
        found(set.scope, std::string_view(set.key), set.grace_ms != 0);
    });
}

}  // namespace

std::int64_t count_live(const Reach& reach, const Predicate& matches) {
    std::int64_t count = 0;
    for_each_live(reach, matches, [&count](const core::Scope&, std::string_view, bool) { ++count; });
    return count;
}

std::vector<Match> find_live(const Reach& reach, const Predicate& matches) {
    std::vector<Match> found;
    for_each_live(reach, matches, [&found](const core::Scope& scope, std::string_view key, bool has_grace) {
        found.push_back({scope, std::string(key), has_grace});
    });
    return found;
}

bool any_tag_is_used(const core::Scope& space, const Texts& tags) {
    if (tags.count == 0) return false;
    if (pg::pending().has_sets()) return true;
    if (!pg::attached()) return false;
    core::Store& store = pg::region().store();
    for (const std::string_view tag : tags) {
        if (store.has_tag(pg::region().base(), {space.space, tag, store.tags().hash(space.space, tag)}))
            return true;
    }
    return false;
}

}  // namespace cache_ext::api
