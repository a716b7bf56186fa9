#include "core/region.hpp"

#include <algorithm>
#include <bit>
#include <new>

#include "core/coarse_time.hpp"

namespace cache_ext::core {

namespace {

/// Never handed out, so that a reader that follows a link to what was an entry may read a head block's fixed parts without a check.
constexpr std::size_t kTailPad = 4096;

constexpr std::size_t kPage = 4096;

/// The parts of the region whose size depends on the options, in the order in which they lie.
struct Plan {
    std::uint32_t cells;
    std::uint32_t tag_heads;
    std::uint32_t scope_heads;
    std::uint32_t index_pages;
    std::size_t sessions_at;
    std::size_t prepared_at;
    std::size_t replicated_at;
    std::size_t seats_at;
    std::size_t cells_at;
    std::size_t tag_heads_at;
    std::size_t scope_heads_at;
    std::size_t owner_heads_at;
    std::size_t directory_at;
    std::uint32_t taken;
    std::uint32_t notes;
    std::size_t taken_at;
    std::size_t notes_at;
    std::size_t heap_at;

    explicit Plan(const RegionOptions& options) noexcept {
        // A cell for each 4 kB, a tag for each 2 kB: they are 0.4 % of the region.
        const std::size_t bytes = std::max<std::size_t>(options.bytes, 1 << 20);
        cells = static_cast<std::uint32_t>(std::max<std::size_t>(std::bit_floor(bytes / 4096), 1024));
        tag_heads = static_cast<std::uint32_t>(std::max<std::size_t>(std::bit_floor(bytes / 2048), 1024));
        scope_heads = static_cast<std::uint32_t>(std::max<std::size_t>(std::bit_floor(bytes / 16384), 256));
        // As many as there can be buckets if the region held nothing but the smallest entries.
        index_pages =
            static_cast<std::uint32_t>(bytes / (Index::kPageBuckets * Index::kEntriesPerBucket * 96) + 1);

        // And the journal 0.7 %.
        taken = static_cast<std::uint32_t>(std::max<std::size_t>(std::bit_floor(bytes / 8192), 256));
        notes = static_cast<std::uint32_t>(std::max<std::size_t>(std::bit_floor(bytes / 65536), 32));

        std::size_t at = sizeof(RegionHeader);
        const auto place = [&at](std::size_t size) {
            at = (at + 63) & ~std::size_t{63};
            const std::size_t here = at;
            at += size;
            return here;
        };
        sessions_at = place(sizeof(SessionSlot) * options.sessions);
        prepared_at = place(sizeof(Prepared) * options.prepared);
        replicated_at = place(sizeof(PendingMark) * options.replicated);
        seats_at = place(Flights::seats_bytes(options.sessions));
        cells_at = place(sizeof(std::atomic<Version>) * cells);
        tag_heads_at = place(sizeof(Ref) * tag_heads);
        scope_heads_at = place(sizeof(Ref) * scope_heads);
        owner_heads_at = place(sizeof(Ref) * scope_heads);
        directory_at = place(sizeof(Ref) * index_pages);
        taken_at = place(sizeof(Journal::Taken) * taken);
        notes_at = place(sizeof(Journal::Note) * Journal::kRings * notes);
        heap_at = place(0);
    }
};

constexpr Ref to_ref(std::size_t offset) noexcept { return static_cast<Ref>(offset / kGranule); }

}  // namespace

std::size_t Region::smallest(const RegionOptions& options) noexcept {
    RegionOptions least = options;
    least.bytes = 0;
    constexpr std::size_t kLeastHeap = 256 * 1024;
    return (Plan(least).heap_at + kLeastHeap + kTailPad + kPage - 1) & ~(kPage - 1);
}

Region Region::create(void* memory, const RegionOptions& options) noexcept {
    if (options.bytes < smallest(options)) return {};
    const Plan plan(options);
    if (plan.heap_at + kTailPad >= options.bytes) return {};

    auto* h = new (memory) RegionHeader();
    const Region region(memory);
    const Base base = region.base_;
    h->magic = RegionHeader::kMagic;
    h->layout_version = RegionHeader::kLayoutVersion;
    h->session_count = options.sessions;
    h->prepared_count = options.prepared;
    h->replicated_count = options.replicated;
    h->sessions = to_ref(plan.sessions_at);
    h->prepared = to_ref(plan.prepared_at);
    h->replicated = to_ref(plan.replicated_at);
    h->bytes = options.bytes;
    h->instance = options.instance;
    h->next_xid.store(options.next_xid, std::memory_order_relaxed);
    h->duties.init();
    h->clock.init(1);
    h->flights.init(to_ref(plan.seats_at), options.sessions);

    Store& store = h->store;
    // What lies beyond the reach of a Ref is left out.
    const std::size_t heap_bytes =
        std::min(options.bytes - kTailPad, std::size_t{UINT32_MAX} * kGranule) - plan.heap_at;
    store.allocator_.init(base, to_ref(plan.heap_at), static_cast<std::uint32_t>(heap_bytes / kGranule));
    store.first_ref_ = to_ref(plan.heap_at);
    store.end_ref_ = to_ref(plan.heap_at + heap_bytes);
    store.region_bytes_ = options.bytes;
    store.seed_ = options.seed;
    store.entries_ = 0;
    store.sessions_ = h->sessions;
    store.session_count_ = options.sessions;
    store.drained_at_ = 0;
    store.tags_.init(to_ref(plan.cells_at), plan.cells, to_ref(plan.tag_heads_at), plan.tag_heads,
                     options.seed);
    store.scopes_.init(to_ref(plan.scope_heads_at), to_ref(plan.owner_heads_at), plan.scope_heads);
    store.patterns_.init(1);
    store.journal_.init(to_ref(plan.taken_at), plan.taken, to_ref(plan.notes_at), plan.notes);
    if (!store.index_.init(base, store.allocator_, to_ref(plan.directory_at), plan.index_pages)) return {};
    return region;
}

Region Region::open(void* memory) noexcept {
    const Region region(memory);
    const RegionHeader& h = region.header();
    return h.magic == RegionHeader::kMagic && h.layout_version == RegionHeader::kLayoutVersion ? region
                                                                                               : Region{};
}

Version Region::take_version(PendingMark& mark, FullXid xid) const noexcept {
    const Version version = clock().stamp(mark, xid);
    store().journal().took(base_, version, xid, coarse_now());
    return version;
}

Prepared* Region::claim_prepared(FullXid xid) const noexcept {
    for (std::uint32_t i = 0; i < header().prepared_count; ++i) {
        if (prepared(i).mark.xid.load(std::memory_order_acquire) == xid) return &prepared(i);
    }
    for (std::uint32_t i = 0; i < header().prepared_count; ++i) {
        FullXid unused = 0;
        if (prepared(i).mark.xid.compare_exchange_strong(unused, xid, std::memory_order_acq_rel)) {
            header().prepared_claimed.fetch_add(1, std::memory_order_relaxed);
            return &prepared(i);
        }
    }
    return nullptr;
}

void Region::release_prepared(Prepared& prepared, FullXid xid) const noexcept {
    if (!take_away(prepared.mark, xid)) return;
    if (prepared.count > 0) {
        // It is over, but not for all snapshots: those for which it is not must not be given what is stored from now on. So it is registered
        // now, before the first quarantine ends. It needs no mark: whoever takes a fresh snapshot takes it for finished.
        PendingMark none{};
        const Version version = take_version(none, xid);
        for (std::uint32_t i = 0; i < prepared.count; ++i)
            store().lift(base_, prepared.cells[i], version);
        clock().end(version, version, xid);
        prepared.count = 0;
    }
    end_stamps(prepared.mark, xid);
    header().prepared_claimed.fetch_sub(1, std::memory_order_relaxed);
    prepared.mark.xid.store(0, std::memory_order_release);
}

/// From all others: it could be somebody else's by the time it is cleared. Who looked for its id while that goes on has found this, and
/// nothing to release.
bool Region::take_away(PendingMark& mark, FullXid xid) const noexcept {
    constexpr FullXid kBeingReleased = UINT64_MAX;
    return xid != kBeingReleased &&
           mark.xid.compare_exchange_strong(xid, kBeingReleased, std::memory_order_acq_rel);
}

void Region::end_stamps(PendingMark& mark, FullXid xid) const noexcept {
    const Version first = mark.version.load(std::memory_order_relaxed);
    if (first == 0) return;
    clock().end(first, clock().now(), xid);
    mark.version.store(0, std::memory_order_release);
}

PendingMark* Region::claim_replicated(FullXid xid) const noexcept {
    PendingMark* unused = nullptr;
    for (std::uint32_t i = 0; i < header().replicated_count; ++i) {
        const FullXid owner = replicated(i).xid.load(std::memory_order_acquire);
        if (owner == xid) return &replicated(i);
        if (owner == 0 && unused == nullptr) unused = &replicated(i);
    }
    if (unused != nullptr) {
        header().replicated_claimed.fetch_add(1, std::memory_order_relaxed);
        unused->xid.store(xid, std::memory_order_release);
    }
    return unused;
}

void Region::release_replicated(PendingMark& mark, FullXid xid) const noexcept {
    if (!take_away(mark, xid)) return;
    end_stamps(mark, xid);
    header().replicated_claimed.fetch_sub(1, std::memory_order_relaxed);
    mark.xid.store(0, std::memory_order_release);
}

void Region::forget_everything() const noexcept {
    PendingMark none{};
    store().stamp_all(base_, take_version(none, 0));
}

Version Region::settled_bound() const noexcept {
    const RegionHeader& h = header();
    const Version now = h.clock.now();  // before the marks
    const Version bound = h.clock.settled_bound(&session(0).mark, h.session_count, sizeof(SessionSlot), now);
    return h.clock.settled_bound(
        &replicated(0), h.replicated_count, sizeof(PendingMark),
        h.clock.settled_bound(&prepared(0).mark, h.prepared_count, sizeof(Prepared), bound));
}

std::uint64_t Region::total(Counter counter) const noexcept {
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < header().session_count; ++i)
        sum += session(i).counters.get(counter);
    return sum;
}

FunctionCounts Region::counted_of(std::uint64_t function) const noexcept {
    FunctionCounts counts = header().functions.get(function);
    for (std::uint32_t i = 0; i < header().session_count; ++i)
        counts.hits += session(i).function_hits.get(function);
    return counts;
}

std::uint64_t Region::counted(Counter counter) const noexcept {
    const std::uint64_t before =
        header().counted_before[static_cast<std::size_t>(counter)].load(std::memory_order_relaxed);
    const std::uint64_t now = total(counter);
    return now > before ? now - before : 0;
}

void Region::reset_counted(Timestamp now) const noexcept {
    for (std::size_t i = 0; i < static_cast<std::size_t>(Counter::kCount); ++i) {
        header().counted_before[i].store(total(static_cast<Counter>(i)), std::memory_order_relaxed);
    }
    header().counted_since.store(now, std::memory_order_relaxed);
}

}  // namespace cache_ext::core
