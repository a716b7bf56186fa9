// get_cache_metrics and reset_cache_stats.
//
// What concerns entries is counted for this database. Hits, misses and the like are counted by each session for whatever database it
// is in, so that a hit costs one increment of its own memory; their totals, and the memory, are the whole server's.

#include "api/context.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"
#include "worker/worker.hpp"

extern "C" {
#include "access/htup_details.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// The columns of get_cache_metrics, in their order.
enum Column {
    kTotalEntries,
    kAverageHits,
    kMaxHits,
    kReusedEntries,
    kOldestEntry,
    kNewestEntry,
    kExpiredEntries,
    kHits,
    kMisses,
    kHitRate,
    kStaleHits,
    kSets,
    kRefusedSets,
    kEvictions,
    kInvalidations,
    kMemoryUsed,
    kMemoryLimit,
    kAvgHitUs,
    kAvgComputeMs,
    kTimeSavedMs,
    kAttachedBy,
    kWorkerState,
    kIndexBytes,
    kTagCount,
    kScopeCount,
    kPrivateEntries,
    kPrivateBytes,
    kAllEntries,
    kSweptEntries,
    kClock,
    kCountedSince,
    kColumns
};

/// A row of numbers, each null until it is set.
struct Row {
    Datum values[kColumns] = {};
    bool nulls[kColumns];

    Row() noexcept { std::fill_n(nulls, int{kColumns}, true); }
    void set(Column column, Datum value) noexcept {
        values[column] = value;
        nulls[column] = false;
    }
    void count(Column column, std::uint64_t n) { set(column, Int64GetDatum(static_cast<std::int64_t>(n))); }
    void time(Column column, core::Timestamp t) { set(column, TimestampTzGetDatum(t)); }
    void text(Column column, const char* s) { set(column, CStringGetTextDatum(s)); }
    /// Null where there is nothing to divide by.
    void ratio(Column column, double sum, std::uint64_t by) {
        if (by != 0) set(column, Float8GetDatum(sum / static_cast<double>(by)));
    }
};

/// What the entries of one space amount to.
struct Tally {
    std::uint64_t live = 0;
    std::uint64_t expired = 0;
    std::uint64_t hits = 0;
    std::uint64_t max_hits = 0;
    std::uint64_t reused = 0;
    core::Timestamp oldest = INT64_MAX;
    core::Timestamp newest = INT64_MIN;

    void add(const core::EntryInfo& e, core::Timestamp now) noexcept {
        if (e.dead) return;
        if (e.expires_at <= now) {
            ++expired;
            return;
        }
        ++live;
        hits += e.hits;
        max_hits = std::max<std::uint64_t>(max_hits, e.hits);
        reused += e.hits > 0 ? 1 : 0;
        oldest = std::min(oldest, e.created_at);
        newest = std::max(newest, e.created_at);
    }
};

const char* attached_by_name() noexcept {
    switch (pg::attached_by()) {
        case pg::AttachedBy::kPreload:
            return "preload";
        case pg::AttachedBy::kDemand:
            return "demand";
        case pg::AttachedBy::kNothing:
            break;
    }
    return "nothing";
}

void tell_of_entries(Row& row) {
    Tally tally;
    if (pg::attached() && pg::current_space().exists) {
        core::Store& store = pg::region().store();
        const core::Base base = pg::region().base();
        const core::Id128 space = space_id();
        const core::Timestamp now = GetCurrentTimestamp();
        store.gather_hits(base, now);
        const std::uint32_t buckets = store.bucket_count();
        for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
            CHECK_FOR_INTERRUPTS();
            store.visit(base, bucket, buckets, [&](const core::EntryInfo& e) {
                if (e.space == space) tally.add(e, now);
            });
        }
    }
    row.count(kTotalEntries, tally.live);
    row.ratio(kAverageHits, static_cast<double>(tally.hits), tally.live);
    row.count(kMaxHits, tally.max_hits);
    row.count(kReusedEntries, tally.reused);
    row.count(kExpiredEntries, tally.expired);
    if (tally.live > 0) {
        row.time(kOldestEntry, tally.oldest);
        row.time(kNewestEntry, tally.newest);
    }
}

void tell_of_server(Row& row) {
    const bool attached = pg::attached();
    const auto counted = [attached](core::Counter c) { return attached ? pg::region().counted(c) : 0; };
    const std::uint64_t hits = counted(core::Counter::kHits);
    const std::uint64_t misses = counted(core::Counter::kMisses);
    row.count(Column::kHits, hits);
    row.count(Column::kMisses, misses);
    row.ratio(kHitRate, 100.0 * static_cast<double>(hits), hits + misses);
    row.count(Column::kStaleHits, counted(core::Counter::kStaleHits));
    row.count(Column::kSets, counted(core::Counter::kSets));
    row.count(Column::kRefusedSets, counted(core::Counter::kRefusedSets));
    row.count(Column::kEvictions, counted(core::Counter::kEvictions));
    row.count(Column::kInvalidations, counted(core::Counter::kInvalidations));
    row.ratio(kAvgHitUs, static_cast<double>(counted(core::Counter::kHitNanos)) / 1e3,
              counted(core::Counter::kTimedHits));
    row.ratio(kAvgComputeMs, static_cast<double>(counted(core::Counter::kComputeMicros)) / 1e3,
              counted(core::Counter::kComputations));
    row.set(kTimeSavedMs, Float8GetDatum(static_cast<double>(counted(core::Counter::kSavedMicros)) / 1e3));
    row.count(kSweptEntries, counted(core::Counter::kExpired));
    row.text(kAttachedBy, attached_by_name());
    row.text(kWorkerState, worker::state());

    const core::Store::Usage usage = attached ? pg::region().store().usage() : core::Store::Usage{};
    row.count(kMemoryUsed, usage.used_bytes);
    row.count(kMemoryLimit, usage.capacity_bytes);
    row.count(kIndexBytes, usage.index_bytes);
    row.count(kTagCount, usage.tags);
    row.count(kScopeCount, usage.scopes);
    row.count(kPrivateEntries, usage.private_entries);
    row.count(kPrivateBytes, usage.private_bytes);
    row.count(kAllEntries, usage.entries);
    if (!attached) return;
    row.count(kClock, pg::region().clock().now());
    if (const core::Timestamp since = pg::region().header().counted_since.load(std::memory_order_relaxed))
        row.time(kCountedSince, since);
}

}  // namespace

CACHE_EXT_FUNCTION(get_cache_metrics) {
    TupleDesc description = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &description) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Row row;
    tell_of_entries(row);
    tell_of_server(row);
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(description), row.values, row.nulls));
}

CACHE_EXT_FUNCTION(reset_cache_stats) {
    if (pg::attached()) pg::region().reset_counted(GetCurrentTimestamp());
    PG_RETURN_VOID();
}

}  // namespace cache_ext::api
