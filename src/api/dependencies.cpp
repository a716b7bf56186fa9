// The rows of the view cache_dependencies: what each entry that the caller may see depends on.

#include "api/listing.hpp"
#include "pg/entry_tags.hpp"
#include "pg/guard.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
}

namespace cache_ext::api {

namespace {

/// The columns of the view, in their order.
enum Column { kCacheKey, kScope, kKind, kName, kRelation, kColumns };

constexpr int kTries = 4;

Datum text_datum(std::string_view s) {
    return PointerGetDatum(cstring_to_text_with_len(s.data(), static_cast<int>(s.size())));
}

void put_rows(const Listing& l, const core::Scope& scope, std::string_view key,
              std::span<const std::string_view> tags, std::span<const Oid> relations) {
    Datum values[kColumns] = {};
    bool nulls[kColumns] = {};
    values[kCacheKey] = text_datum(key);
    values[kScope] = scope_text(scope);
    values[kKind] = CStringGetTextDatum("tag");
    nulls[kRelation] = true;
    for (const std::string_view tag : tags) {
        values[kName] = text_datum(tag);
        tuplestore_putvalues(l.result->setResult, l.result->setDesc, values, nulls);
    }
    values[kKind] = CStringGetTextDatum("relation");
    nulls[kRelation] = false;
    for (const Oid relation : relations) {
        if (relation == pg::kAnyRelation)
            continue;  // any change of a definition: so does everything that is tracked
        values[kRelation] = ObjectIdGetDatum(relation);
        values[kName] =
            CStringGetTextDatum(DatumGetCString(DirectFunctionCall1(regclassout, values[kRelation])));
        tuplestore_putvalues(l.result->setResult, l.result->setDesc, values, nulls);
    }
}

void list(const Listing& l, const core::Scope& scope, std::string_view key, Visible::Where where,
          const void* /*context*/) {
    for (int attempt = 0; attempt < kTries; ++attempt) {
        Visible found;
        if (!find_listed(l, scope, key, where, found)) return;
        if (where == Visible::Where::kPending) {
            put_rows(l, scope, key, found.pending->tags, found.pending->relations);
            return;
        }
        pg::EntryTags depends;
        if (!depends.copy(scope, key, &found.entry)) continue;
        put_rows(l, scope, key, depends.tags(), depends.relations());
        return;
    }
}

}  // namespace

CACHE_EXT_FUNCTION(dependencies) {
    Listing l{};
    if (begin_listing(fcinfo, l)) for_each_name(l, list);
    PG_RETURN_NULL();
}

}  // namespace cache_ext::api
