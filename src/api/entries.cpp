// The rows of the view query_cache, and what a DELETE from it does.
//
// The function under the view may be executed by whoever may read the view: what it shows follows from the caller's identity alone. It looks
// through the region bucket by bucket and notes only names under the lock; each entry is then looked up as a read would look it up, so that
// the view never shows what a read would not give.

#include "api/context.hpp"
#include "api/details.hpp"
#include "api/listing.hpp"
#include "api/value.hpp"
#include "pg/guard.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// The columns of the view, in their order.
enum Column {
    kCacheKey,
    kCacheData,
    kCacheTags,
    kCreatedAt,
    kExpiresAt,
    kLastAccessed,
    kHitCount,
    kTier,
    kScope,
    kSizeBytes,
    kColumns
};

/// How often an entry that is replaced while it is described is looked at again.
constexpr int kTries = 4;

void put_row(const Listing& l, const core::Scope& scope, std::string_view key, const Details& details,
             bool pending, const Datum* value) {
    Datum values[kColumns] = {};
    bool nulls[kColumns] = {};
    values[kCacheKey] = PointerGetDatum(cstring_to_text_with_len(key.data(), static_cast<int>(key.size())));
    values[kCacheData] = value != nullptr ? *value : 0;
    nulls[kCacheData] = value == nullptr;
    values[kCacheTags] = texts_to_array(details.tags, details.tag_count);
    values[kCreatedAt] = TimestampTzGetDatum(details.created_at);
    values[kExpiresAt] = TimestampTzGetDatum(details.expires_at);
    values[kLastAccessed] = TimestampTzGetDatum(details.last_accessed);
    values[kHitCount] = Int64GetDatum(details.hits);
    values[kTier] = CStringGetTextDatum(pending ? "pending" : "memory");
    values[kScope] = scope_text(scope);
    values[kSizeBytes] = Int64GetDatum(static_cast<std::int64_t>(details.size_bytes));
    tuplestore_putvalues(l.result->setResult, l.result->setDesc, values, nulls);
}

/// Adds the row of a name. `with_values`: whether values are asked for.
void list(const Listing& l, const core::Scope& scope, std::string_view key, Visible::Where where,
          const void* with_values) {
    const bool wants_value = *static_cast<const bool*>(with_values) && !(l.sees_all && scope.is_private);
    for (int attempt = 0; attempt < kTries; ++attempt) {
        Visible found;
        if (!find_listed(l, scope, key, where, found)) return;
        Details details;
        if (!describe(found, scope.id, key, details)) continue;
        Datum value = 0;
        const bool pending = where == Visible::Where::kPending;
        // A function's result is shown by the function.
        const bool shows_value =
            wants_value && !core::is_binary(pending ? found.pending->encoding : found.entry.encoding);
        if (shows_value && pending) value = decode(found.pending->value, found.pending->encoding);
        if (shows_value && !pending && !fetch(found.entry, value)) continue;
        put_row(l, scope, key, details, pending, shows_value ? &value : nullptr);
        return;
    }
}

}  // namespace

CACHE_EXT_FUNCTION(entries) {
    const bool with_values = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
    Listing l{};
    if (begin_listing(fcinfo, l)) for_each_name(l, list, &with_values);
    PG_RETURN_NULL();
}

/// INSTEAD OF DELETE on the view: invalidates the row's key in the row's scope, if the caller may see that at all.
CACHE_EXT_FUNCTION(delete_entry) {
    if (!CALLED_AS_TRIGGER(fcinfo)) {
        pg::raise(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, "delete_entry must be called as a trigger");
    }
    auto* trigger = reinterpret_cast<TriggerData*>(fcinfo->context);
    if (!TRIGGER_FIRED_INSTEAD(trigger->tg_event) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
        !TRIGGER_FIRED_BY_DELETE(trigger->tg_event)) {
        pg::raise(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                  "delete_entry must be called instead of a DELETE, for each row");
    }
    const TupleDesc description = RelationGetDescr(trigger->tg_relation);
    const char* key = SPI_getvalue(trigger->tg_trigtuple, description, kCacheKey + 1);
    const char* scope_name = SPI_getvalue(trigger->tg_trigtuple, description, kScope + 1);

    const pg::Caller caller = pg::caller();
    core::Scope scope;
    if (caller.bypass || key == nullptr || scope_name == nullptr ||
        !parse_scope(scope_name, shared_scope(caller), scope)) {
        return PointerGetDatum(nullptr);
    }
    if (!caller.is_shared && scope.is_private && scope.id != own_scope(caller).id)
        return PointerGetDatum(nullptr);
    pg::invalidate(pg::InvalidationKind::kKey, scope, key);
    if (std::string_view{key}.starts_with(kFunctionKeys) && !scope.is_private)
        pg::invalidate(pg::InvalidationKind::kKey, function_scope(scope), key);
    return PointerGetDatum(trigger->tg_trigtuple);
}

}  // namespace cache_ext::api
