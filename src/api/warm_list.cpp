#include "api/warm_list.hpp"

#include "api/context.hpp"
#include "worker/own_table.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

constexpr char kSchema[] = "cache_ext_internal";
constexpr char kTable[] = "warm_list";

/// What was not met in the cache for so long is used no more.
constexpr int kKeepDays = 1;

bool is_before(const UsedKey& a, const UsedKey& b) noexcept {
    return a.hits != b.hits ? a.hits > b.hits : a.key < b.key;
}

/// The keys of one bucket, copied there under the lock, where no memory can be had.
struct Bucket {
    struct Item {
        std::uint32_t hits;
        std::uint32_t bytes;
    };
    char* memory;
    std::size_t capacity;
    std::size_t used;

    static std::size_t size_of(std::size_t key_bytes) noexcept { return MAXALIGN(sizeof(Item) + key_bytes); }

    /// What does not fit is only counted.
    void add(const core::EntryInfo& e) noexcept {
        const std::size_t at = used;
        used += size_of(e.key.size());
        if (used > capacity) return;
        auto* item = new (memory + at) Item{e.hits, static_cast<std::uint32_t>(e.key.size())};
        std::memcpy(item + 1, e.key.data(), e.key.size());
    }
};

bool is_meant(const core::EntryInfo& e, InRegion which, core::Timestamp now) noexcept {
    const bool is_over = e.expires_at <= now;
    switch (which) {
        case InRegion::kNotFresh:
            return e.dead || is_over;
        case InRegion::kStale:
            return !e.dead && is_over && e.gone_at() > now;
        default:
            return true;
    }
}

bool wants_any(const void* /*context*/, std::string_view /*key*/) { return true; }

void write_list(const char* table, const void* context) {
    const MostUsed& most = *static_cast<const MostUsed*>(context);
    const auto count = static_cast<Size>(most.count());
    auto* keys = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
    auto* hits = static_cast<Datum*>(palloc(sizeof(Datum) * (count + 1)));
    for (int i = 0; i < most.count(); ++i) {
        keys[i] = PointerGetDatum(
            cstring_to_text_with_len(most[i].key.data(), static_cast<int>(most[i].key.size())));
        hits[i] = Int64GetDatum(most[i].hits);
    }
    Oid types[] = {TEXTARRAYOID, INT8ARRAYOID};
    Datum values[] = {
        PointerGetDatum(construct_array(keys, most.count(), TEXTOID, -1, false, TYPALIGN_INT)),
        PointerGetDatum(construct_array(hits, most.count(), INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE))};
    worker::execute_write(
        psprintf("INSERT INTO %s AS w (cache_key, hits) SELECT k, h FROM unnest($1, $2) u (k, h)"
                 " ON CONFLICT (cache_key) DO UPDATE SET hits = greatest(w.hits, excluded.hits), noted_at = "
                 "excluded.noted_at",
                 table),
        2, types, values);
    worker::execute_write(psprintf(
        "DELETE FROM %s WHERE noted_at < clock_timestamp() - interval '%d days' OR cache_key IN"
        " (SELECT w.cache_key FROM %s w ORDER BY w.hits DESC, w.noted_at DESC, w.cache_key OFFSET %d)",
        table, kKeepDays, table, MostUsed::kMost));
}

}  // namespace

MostUsed MostUsed::make() {
    MostUsed most;
    most.memory_ = CurrentMemoryContext;
    most.keys_ = static_cast<UsedKey*>(palloc(sizeof(UsedKey) * (kMost + 1)));
    return most;
}

void MostUsed::add(std::int64_t hits, std::string_view key) {
    // A heap with the least used on top.
    if (count_ == kMost && !is_before({hits, key}, keys_[0])) return;
    auto* copy = static_cast<char*>(MemoryContextAlloc(memory_, key.size() + 1));
    std::memcpy(copy, key.data(), key.size());
    keys_[count_++] = {hits, {copy, key.size()}};
    std::push_heap(keys_, keys_ + count_, is_before);
    if (count_ <= kMost) return;
    std::pop_heap(keys_, keys_ + count_, is_before);
    pfree(const_cast<char*>(keys_[--count_].key.data()));
}

void MostUsed::sort() noexcept { std::sort_heap(keys_, keys_ + count_, is_before); }

void add_from_region(MostUsed& most, InRegion which, WantsKey wanted, const void* context) {
    if (!pg::attached()) return;
    const core::Scope scope = function_scope(shared_scope(pg::caller()));
    core::Store& store = pg::region().store();
    const core::Base base = pg::region().base();
    const core::Timestamp now = GetCurrentTimestamp();
    store.gather_hits(base, now);
    Bucket found{nullptr, 0, 0};
    const std::uint32_t buckets = store.bucket_count();
    for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
        if (bucket % 256 == 0) CHECK_FOR_INTERRUPTS();
        for (;;) {
            found.used = 0;
            store.visit(base, bucket, buckets, [&](const core::EntryInfo& e) {
                if (e.space == scope.space && e.scope == scope.id && e.hits > 0 && is_meant(e, which, now))
                    found.add(e);
            });
            if (found.used <= found.capacity) break;
            if (found.memory != nullptr) pfree(found.memory);
            found.capacity = 2 * found.used;
            found.memory = static_cast<char*>(palloc(found.capacity));
        }
        for (std::size_t at = 0; at < found.used;) {
            const auto* item = reinterpret_cast<const Bucket::Item*>(found.memory + at);
            const std::string_view key{reinterpret_cast<const char*>(item + 1), item->bytes};
            if (wanted(context, key)) most.add(item->hits, key);
            at += Bucket::size_of(item->bytes);
        }
    }
    if (found.memory != nullptr) pfree(found.memory);
}

void add_from_list(MostUsed& most, WantsKey wanted, const void* context) {
    const Oid schema = get_namespace_oid(kSchema, true);
    const Oid oid = OidIsValid(schema) ? worker::open_own_table(schema, kTable, AccessShareLock) : InvalidOid;
    if (!OidIsValid(oid)) return;
    const AttrNumber key = get_attnum(oid, "cache_key");
    const AttrNumber hits = get_attnum(oid, "hits");
    if (get_atttype(oid, key) != TEXTOID || get_atttype(oid, hits) != INT8OID) return;
    // Not by a query: whoever calls needs no privilege on it, and nobody's code runs.
    Relation table = table_open(oid, NoLock);
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple row = systable_getnext(scan)) {
        bool no_key = true;
        bool no_hits = true;
        const Datum noted = heap_getattr(row, key, RelationGetDescr(table), &no_key);
        const Datum number = heap_getattr(row, hits, RelationGetDescr(table), &no_hits);
        if (no_key || no_hits) continue;
        const char* bytes = TextDatumGetCString(noted);
        if (wanted(context, bytes)) most.add(DatumGetInt64(number), bytes);
    }
    systable_endscan(scan);
    table_close(table, NoLock);
}

void note_most_used() {
    if (!pg::attached()) return;
    MostUsed most = MostUsed::make();
    add_from_region(most, InRegion::kAll, wants_any, nullptr);
    if (most.count() == 0) return;
    most.sort();
    worker::write_own_table(get_namespace_oid(kSchema, false), kTable, ShareRowExclusiveLock, write_list,
                            &most);
}

}  // namespace cache_ext::api
