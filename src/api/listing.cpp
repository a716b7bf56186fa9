#include "api/listing.hpp"

#include "api/matching.hpp"
#include "pg/observe.hpp"
#include "pg/snapshot.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

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

}  // namespace

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

bool begin_listing(FunctionCallInfo fcinfo, Listing& l) {
    InitMaterializedSRF(fcinfo, 0);
    pg::note_cached_read();
    if (!usable()) return false;
    const pg::Caller caller = pg::caller();
    l.result = reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    l.clock = pg::snapshot_clock();
    if (l.clock == 0) return false;
    l.own = own_scope(caller);
    l.shared = shared_scope(caller);
    l.sees_all = caller.is_shared;
    l.row_memory = AllocSetContextCreate(CurrentMemoryContext, "cache_ext entries", ALLOCSET_DEFAULT_SIZES);
    return true;
}

bool find_listed(const Listing& l, const core::Scope& scope, std::string_view key, Visible::Where where,
                 Visible& found) {
    found = {};
    // A private caller reads its own entry, not the shared one of the same key.
    if (!l.sees_all && !scope.is_private && look_up_in(l.own, key, l.clock, found)) return false;
    found = {};
    return look_up_in(scope, key, l.clock, found) && found.where == where;
}

void for_each_name(const Listing& l, VisitName visit, const void* context) {
    core::Store& store = pg::region().store();
    const core::Base base = pg::region().base();
    const core::Timestamp now = GetCurrentTimestamp();
    const Reach reach = l.sees_all ? Reach::everything(l.own) : Reach::visible(l.own, l.shared);
    const MemoryContext outer = MemoryContextSwitchTo(l.row_memory);
    const auto list_one = [&](const core::Scope& scope, std::string_view key, Visible::Where where) {
        MemoryContextReset(l.row_memory);
        visit(l, scope, key, where, context);
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

}  // namespace cache_ext::api
