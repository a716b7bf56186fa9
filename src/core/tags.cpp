#include "core/tags.hpp"

#include <mutex>
#include <new>

#include "core/hash.hpp"
#include "core/racy_copy.hpp"

namespace cache_ext::core {

void TagTable::init(Ref cells, std::uint32_t cell_count, Ref heads, std::uint32_t head_count,
                    std::uint64_t seed) noexcept {
    cells_ = cells;
    cell_count_ = cell_count;
    heads_ = heads;
    head_count_ = head_count;
    seed_ = seed;
    slots_ = 0;
    for (auto& p : partitions_)
        new (&p.lock) SpinLock();
}

std::uint64_t TagTable::hash(const Id128& space, std::string_view text) const noexcept {
    return hash_bytes(text, mix(seed_ ^ space.hi, space.lo));
}

TagSlot* TagTable::lookup(Base base, const TagName& name) const noexcept {
    for (Ref ref = head_of(base, name.hash); ref != 0;) {
        auto* slot = base.at<TagSlot>(ref);
        if (slot->hash == name.hash && slot->space == name.space && slot->text() == name.text) return slot;
        ref = slot->next;
    }
    return nullptr;
}

void TagTable::stamp(Base base, const TagName& name, Version version) noexcept {
    std::lock_guard guard(partition(name.hash).lock);
    raise(cell_of(base, name.hash), version);
    if (TagSlot* slot = lookup(base, name)) raise(slot->version, version);
}

void TagTable::stamp_cell(Base base, std::uint64_t hash, Version version) noexcept {
    raise(cell_of(base, hash), version);
}

bool TagTable::quarantine_cell(Base base, std::uint64_t hash) noexcept {
    std::atomic<Version>& cell = cell_of(base, hash);
    Version seen = cell.load(std::memory_order_relaxed);
    do {
        if (seen > ~kOneQuarantine) return false;
    } while (!cell.compare_exchange_weak(seen, seen + kOneQuarantine, std::memory_order_acq_rel));
    return true;
}

bool TagTable::quarantine(Base base, const TagName& name) noexcept {
    std::lock_guard guard(partition(name.hash).lock);
    if (!quarantine_cell(base, name.hash)) return false;
    if (TagSlot* slot = lookup(base, name)) slot->version.fetch_or(kOneQuarantine, std::memory_order_acq_rel);
    return true;
}

void TagTable::lift(Base base, std::uint32_t number, Version version) noexcept {
    std::lock_guard guard(partition(number).lock);
    std::atomic<Version>& cell = cell_of(base, number);
    raise(cell, version);
    const bool last = cell.fetch_sub(kOneQuarantine, std::memory_order_acq_rel) < 2 * kOneQuarantine;
    for (std::uint32_t head = number; head < head_count_; head += cell_count_) {
        for (Ref ref = head_of(base, head); ref != 0;) {
            auto* slot = base.at<TagSlot>(ref);
            if (slot->version.load(std::memory_order_relaxed) >= kOneQuarantine) {
                raise(slot->version, version);
                if (last) slot->version.fetch_and(kVersionMask, std::memory_order_acq_rel);
            }
            ref = slot->next;
        }
    }
}

Version TagTable::version(Base base, const TagName& name) noexcept {
    std::lock_guard guard(partition(name.hash).lock);
    if (const TagSlot* slot = lookup(base, name)) return slot->version.load(std::memory_order_relaxed);
    return cell_of(base, name.hash).load(std::memory_order_relaxed);
}

Ref TagTable::find(Base base, const TagName& name) const noexcept {
    // Slots come and go only under the store's lock, which the caller holds.
    const TagSlot* slot = lookup(base, name);
    return slot == nullptr ? 0 : base.ref_of(slot);
}

Ref TagTable::acquire(Base base, Allocator& allocator, const TagName& name) noexcept {
    if (TagSlot* slot = lookup(base, name)) {
        store_relaxed(slot->entries, slot->entries + 1);
        return base.ref_of(slot);
    }
    const Ref ref = allocator.allocate(base, sizeof(TagSlot) + name.text.size());
    if (ref == 0) return 0;
    auto* slot = base.at<TagSlot>(ref);
    store_relaxed(slot->hash, name.hash);
    store_relaxed(slot->space.hi, name.space.hi);
    store_relaxed(slot->space.lo, name.space.lo);
    store_relaxed(slot->entries, std::uint32_t{1});
    store_relaxed(slot->text_bytes, static_cast<std::uint32_t>(name.text.size()));
    racy_store(slot + 1, name.text.data(), name.text.size());

    std::lock_guard guard(partition(name.hash).lock);
    Ref& head = head_of(base, name.hash);
    store_relaxed(slot->next, head);
    slot->version.store(cell_of(base, name.hash).load(std::memory_order_relaxed), std::memory_order_relaxed);
    store_relaxed(head, ref);
    ++slots_;
    return ref;
}

void TagTable::release(Base base, Allocator& allocator, Ref ref) noexcept {
    auto* slot = base.at<TagSlot>(ref);
    store_relaxed(slot->entries, slot->entries - 1);
    if (slot->entries > 0) return;
    {
        std::lock_guard guard(partition(slot->hash).lock);
        Ref* link = &head_of(base, slot->hash);
        while (*link != ref)
            link = &base.at<TagSlot>(*link)->next;
        store_relaxed(*link, slot->next);
    }
    --slots_;
    allocator.free(base, ref);
}

}  // namespace cache_ext::core
