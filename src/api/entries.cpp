// The rows of the view query_cache, and what a DELETE from it does.
//
// The function under the view may be executed by whoever may read the view: what it shows follows from the caller's identity alone. It looks
// through the region bucket by bucket and notes only names under the lock; each entry is then looked up as a read would look it up, so that
// the view never shows what a read would not give.

#include "api/context.hpp"
#include "api/details.hpp"
#include "api/matching.hpp"
#include "api/value.hpp"
#include "pg/guard.hpp"
#include "pg/observe.hpp"
#include "pg/snapshot.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
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

constexpr char kShared[] = "shared";
constexpr char kPrivate[] = "private:";  // followed by the scope's 32 hexadecimal digits
constexpr std::size_t kScopeDigits = 32;

/// The names of a bucket's entries, copied there under the lock, where no memory can be had. Trivial, and in palloc'd memory.
class Names {
public:
    struct Name {
        core::Id128 scope;
        bool is_private;
        std::uint32_t bytes;

        std::string_view key() const noexcept { return {reinterpret_cast<const char*>(this + 1), bytes}; }
    };

    /// Copies the names of the live entries within reach that belong to a bucket. May raise for lack of memory.
    void collect(core::Store& store, core::Base base, std::uint32_t bucket, std::uint32_t buckets,
                 const Reach& reach, core::Timestamp now) {
        for (;;) {
            used_ = 0;
            store.visit(base, bucket, buckets, [&](const core::EntryInfo& e) {
                if (!e.dead && e.expires_at > now && reach.covers(e.space, e.scope)) add(e);
            });
            if (used_ <= capacity_) return;
            if (memory_ != nullptr) pfree(memory_);
            capacity_ = 2 * used_;
            memory_ = static_cast<std::byte*>(palloc(capacity_));
        }
    }

    template <class Visit>
    void for_each(Visit&& visit) const {
        for (std::size_t at = 0; at < used_;) {
            const auto* name = reinterpret_cast<const Name*>(memory_ + at);
            visit(*name);
            at += size_of(name->bytes);
        }
    }

private:
    static std::size_t size_of(std::size_t key_bytes) noexcept { return MAXALIGN(sizeof(Name) + key_bytes); }

    /// What does not fit is only counted.
    void add(const core::EntryInfo& e) noexcept {
        const std::size_t at = used_;
        used_ += size_of(e.key.size());
        if (used_ > capacity_) return;
        auto* name = new (memory_ + at) Name{e.scope, e.is_private, static_cast<std::uint32_t>(e.key.size())};
        std::memcpy(name + 1, e.key.data(), e.key.size());
    }

    std::byte* memory_ = nullptr;
    std::size_t used_ = 0;
    std::size_t capacity_ = 0;
};

Datum scope_text(const core::Scope& scope) {
    char text[sizeof kPrivate + kScopeDigits];
    if (!scope.is_private) return CStringGetTextDatum(kShared);
    pg_snprintf(text, sizeof text, "%s%016llx%016llx", kPrivate, static_cast<unsigned long long>(scope.id.hi),
                static_cast<unsigned long long>(scope.id.lo));
    return CStringGetTextDatum(text);
}

/// Reads what scope_text() wrote. False: it is none.
bool parse_scope(const char* text, const core::Scope& shared, core::Scope& scope) noexcept {
    scope = shared;
    if (std::strcmp(text, kShared) == 0) return true;
    const std::size_t prefix = sizeof kPrivate - 1;
    if (std::strncmp(text, kPrivate, prefix) != 0 || std::strlen(text) != prefix + kScopeDigits) return false;
    std::uint64_t words[2] = {0, 0};
    for (std::size_t i = 0; i < kScopeDigits; ++i) {
        const char c = text[prefix + i];
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return false;
        words[i / 16] = words[i / 16] << 4 | static_cast<unsigned>(digit);
    }
    scope.id = {words[0], words[1]};
    scope.is_private = true;
    return true;
}

/// One listing of all that a caller may see.
struct Listing {
    ReturnSetInfo* result;
    MemoryContext row_memory;
    core::Scope own;
    core::Scope shared;
    bool sees_all;
    bool with_values;
    core::Version clock;
};

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

/// Adds the row of a name, if a read in its scope would find it where it is expected.
void list(const Listing& l, const core::Scope& scope, std::string_view key, Visible::Where where) {
    Visible found;
    // A private caller reads its own entry, not the shared one of the same key.
    if (!l.sees_all && !scope.is_private && look_up_in(l.own, key, l.clock, found)) return;

    const bool wants_value = l.with_values && !(l.sees_all && scope.is_private);
    for (int attempt = 0; attempt < kTries; ++attempt) {
        found = {};
        if (!look_up_in(scope, key, l.clock, found) || found.where != where) return;
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

void list_all(const Listing& l) {
    core::Store& store = pg::region().store();
    const core::Base base = pg::region().base();
    const core::Timestamp now = GetCurrentTimestamp();
    const Reach reach = l.sees_all ? Reach::everything(l.own) : Reach::visible(l.own, l.shared);
    const MemoryContext outer = MemoryContextSwitchTo(l.row_memory);
    const auto list_one = [&](const core::Scope& scope, std::string_view key, Visible::Where where) {
        MemoryContextReset(l.row_memory);
        list(l, scope, key, where);
    };

    store.gather_hits(base, now);
    Names names;
    const std::uint32_t buckets = store.bucket_count();
    for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
        CHECK_FOR_INTERRUPTS();
        MemoryContextSwitchTo(outer);
        names.collect(store, base, bucket, buckets, reach, now);
        MemoryContextSwitchTo(l.row_memory);
        names.for_each([&](const Names::Name& name) {
            list_one({name.scope, l.own.space, {}, name.is_private}, name.key(), Visible::Where::kRegion);
        });
    }
    pg::pending().for_each_set([&](const pg::PendingSet& set) {
        if (reach.covers(set.scope.space, set.scope.id))
            list_one(set.scope, set.key, Visible::Where::kPending);
    });
    MemoryContextSwitchTo(outer);
}

}  // namespace

CACHE_EXT_FUNCTION(entries) {
    InitMaterializedSRF(fcinfo, 0);
    pg::note_cached_read();
    if (!usable()) PG_RETURN_NULL();
    const pg::Caller caller = pg::caller();
    Listing l{};
    l.result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    l.clock = pg::snapshot_clock();
    if (l.clock == 0) PG_RETURN_NULL();
    l.own = own_scope(caller);
    l.shared = shared_scope(caller);
    l.sees_all = caller.is_shared;
    l.with_values = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
    l.row_memory = AllocSetContextCreate(CurrentMemoryContext, "cache_ext entries", ALLOCSET_DEFAULT_SIZES);
    list_all(l);
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
