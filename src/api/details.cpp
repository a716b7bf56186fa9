#include "api/details.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

void describe_pending(const pg::PendingSet& set, Details& out) noexcept {
    out.size_bytes = set.key.size() + set.value.size();
    for (const std::string_view tag : set.tags) {
        out.tags[out.tag_count++] = tag;
        out.size_bytes += tag.size();
    }
    out.created_at = set.created_at;
    out.expires_at = set.expires_at;
    out.last_accessed = set.created_at;
    out.hits = 0;
}

}  // namespace

bool describe(const Visible& found, const core::Id128& scope, std::string_view key, Details& out) noexcept {
    out.tag_count = 0;
    out.has_relations = false;
    if (found.where == Visible::Where::kNowhere) return false;
    if (found.where == Visible::Where::kPending) {
        describe_pending(*found.pending, out);
        return true;
    }
    core::Store& store = pg::region().store();
    const core::Base base = pg::region().base();
    bool same = false;
    store.visit_one(base, {scope, key, store.key_hash(scope, key)}, [&](const core::EntryInfo& e) {
        same = e.entry == found.entry.entry && e.created_at == found.entry.created_at &&
               e.birth == found.entry.birth;
        if (!same) return;
        std::size_t at = 0;
        for (std::uint32_t i = 0; i < e.tag_count; ++i) {
            if (core::Store::tag(base, e.tags[i]).space != e.space) {
                out.has_relations = true;  // and they come last
                break;
            }
            const std::string_view tag = core::Store::tag(base, e.tags[i]).text();
            std::memcpy(out.text + at, tag.data(), tag.size());
            out.tags[out.tag_count++] = {out.text + at, tag.size()};
            at += tag.size();
        }
        out.created_at = e.created_at;
        out.expires_at = e.expires_at;
        out.last_accessed = std::max(e.created_at, core::Timestamp{e.used_at} * USECS_PER_SEC);
        out.hits = e.hits;
        out.size_bytes = e.size_bytes;
    });
    return same;
}

Datum texts_to_array(const std::string_view* texts, int count) {
    auto* elements =
        static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<std::size_t>(std::max(count, 1))));
    for (int i = 0; i < count; ++i)
        elements[i] =
            PointerGetDatum(cstring_to_text_with_len(texts[i].data(), static_cast<int>(texts[i].size())));
    return PointerGetDatum(construct_array(elements, count, TEXTOID, -1, false, TYPALIGN_INT));
}

}  // namespace cache_ext::api
