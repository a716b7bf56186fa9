#include "core/store.hpp"

// The half of the store that readers are in, without its lock: finding an entry, judging and copying it; and looking at one whole.

#include "core/hash.hpp"
#include "core/racy_copy.hpp"

namespace cache_ext::core {

namespace {

/// Cache lines of an entry that are asked for at once when the index points to it.
constexpr unsigned kPrefetchLines = 8;

constexpr std::uint64_t kKeySalt = 0x6b65792063656c6cULL;
constexpr std::uint64_t kExpirySalt = 0x6578706972790000ULL;
constexpr std::uint64_t kSpaceSalt = 0x7370616365616c6cULL;

}  // namespace

std::uint64_t Store::key_hash(const Id128& scope, std::string_view bytes) const noexcept {
    return hash_bytes(bytes, seed_ ^ scope.hi ^ scope.lo);
}

std::uint64_t Store::key_cell_hash(const Id128& space, std::string_view key) const noexcept {
    return hash_bytes(key, mix(seed_ ^ space.hi ^ kKeySalt, space.lo));
}

std::uint64_t Store::expiry_cell_hash(const TagName& tag) noexcept { return mix(tag.hash, kExpirySalt); }

std::size_t Store::space_cell(const Id128& space) const noexcept {
    return mix(seed_ ^ space.hi ^ kSpaceSalt, space.lo) % kSpaceCells;
}

std::uint64_t Store::hash_of(Base base, Ref ref) const noexcept {
    const Entry& e = *entry_at(base, ref);
    const auto layout = EntryLayout::of(e.flags.load(std::memory_order_relaxed), e.tag_count, e.key_bytes);
    return key_hash(base.at<const ScopeNode>(e.scope)->id,
                    {reinterpret_cast<const char*>(base.at<std::byte>(ref)) + layout.key, e.key_bytes});
}

bool Store::invalidated(Base base, const Entry& entry, std::uint8_t flags,
                        std::uint32_t tag_count) const noexcept {
    const Version birth = load_relaxed(entry.birth);
    const Ref scope = load_relaxed(entry.scope);
    if (!in_bounds(scope) || base.at<const ScopeNode>(scope)->floor.load(std::memory_order_relaxed) > birth)
        return true;
    const Ref* tags = tag_refs(base, base.ref_of(&entry), flags);
    for (std::uint32_t i = 0; i < tag_count; ++i) {
        const Ref tag = load_relaxed(tags[i]);
        if (!in_bounds(tag) || base.at<const TagSlot>(tag)->version.load(std::memory_order_relaxed) > birth)
            return true;
    }
    return false;
}

Found Store::judge(Base base, const Entry& entry, Version clock, Timestamp now) const noexcept {
    const std::uint8_t flags = entry.flags.load(std::memory_order_relaxed);
    if (invalidated(base, entry, flags, load_relaxed(entry.tag_count))) return Found::kInvalidated;
    if (load_relaxed(entry.birth) > clock) return Found::kFuture;
    const Timestamp expires_at = entry.expires_at.load(std::memory_order_relaxed);
    if (expires_at > now) [[likely]]
        return Found::kHit;
    const Ref head = base.ref_of(&entry);
    return after(expires_at, grace_ms(base, head, flags, EntryLayout::of(flags, 0, 0))) > now
               ? Found::kStale
               : Found::kExpired;
}

Found Store::find(Base base, const Key& key, Version clock, Timestamp now, Lookup& out) const noexcept {
    // Whatever is read between the two looks at the chain's version may be garbage; it is believed only if both agree.
    constexpr unsigned kTries = 8;
    const auto hash_low = static_cast<std::uint32_t>(key.hash);
    for (unsigned attempt = 0; attempt < kTries; ++attempt) {
        const std::uint32_t count = index_.bucket_count();
        const Bucket* first = index_.bucket(base, Index::bucket_of(key.hash, count));
        const std::uint32_t version = first->version.load(std::memory_order_acquire);
        Found result = Found::kAbsent;

        unsigned steps = 0;
        for (const Bucket* b = first; b != nullptr && result == Found::kAbsent && steps < Index::kMaxChain;
             b = Index::next(base, *b), ++steps) {
            for (const auto& slot : b->slots) {
                const std::uint64_t value = slot.load(std::memory_order_acquire);
                const Ref ref = Bucket::slot_ref(value);
                if ((value ^ key.hash) >> 32 != 0 || ref == 0) continue;
                const Entry& entry = *entry_at(base, ref);
                for (unsigned line = 1; line <= kPrefetchLines; ++line)
                    __builtin_prefetch(reinterpret_cast<const std::byte*>(&entry) + line * 64);
                if (load_relaxed(entry.key_bytes) != key.bytes.size()) continue;
                const Ref scope = load_relaxed(entry.scope);
                if (!in_bounds(scope)) continue;
                const auto* scope_node = base.at<const ScopeNode>(scope);
                if (load_relaxed(scope_node->id.hi) != key.scope.hi ||
                    load_relaxed(scope_node->id.lo) != key.scope.lo)
                    continue;
                const std::uint8_t flags = entry.flags.load(std::memory_order_relaxed);
                const auto layout = EntryLayout::of(flags, load_relaxed(entry.tag_count),
                                                    static_cast<std::uint32_t>(key.bytes.size()));
                if (!racy_equal(base.at<const std::byte>(ref) + layout.key, key.bytes.data(),
                                key.bytes.size()))
                    continue;

                result = judge(base, entry, clock, now);
                out.entry = ref;
                out.hash_low = hash_low;
                out.chain = first;
                out.chain_version = version;
                out.value_offset = layout.value;
                out.value_bytes = load_relaxed(entry.value_bytes);
                out.compute_us = compute_us(base, ref, flags, layout);
                out.encoding = static_cast<Encoding>(flags & Entry::kEncodingMask);
                out.birth = load_relaxed(entry.birth);
                out.created_at = load_relaxed(entry.created_at);
                out.expires_at = entry.expires_at.load(std::memory_order_relaxed);
                break;
            }
        }

        std::atomic_thread_fence(std::memory_order_acquire);
        if (first->version.load(std::memory_order_relaxed) == version && index_.bucket_count() == count)
            return result;
    }
    return Found::kAbsent;  // a chain that changes this fast: a miss is always right
}

void Store::prefetch_entry(Base base, const Key& key) const noexcept {
    for (const auto& slot : bucket_for(base, key)->slots) {
        const std::uint64_t value = slot.load(std::memory_order_relaxed);
        if ((value ^ key.hash) >> 32 != 0 || Bucket::slot_ref(value) == 0) continue;
        const auto* entry = reinterpret_cast<const std::byte*>(entry_at(base, Bucket::slot_ref(value)));
        for (unsigned line = 0; line <= kPrefetchLines; ++line)
            __builtin_prefetch(entry + line * 64);
    }
}

bool Store::copy(Base base, const Lookup& found, void* to) const noexcept {
    const std::uint64_t head = std::uint64_t{found.entry} * kGranule;
    Ref extent = entry_at(base, found.entry)->extents.load(std::memory_order_relaxed);
    if (extent == 0) {
        if (head + found.value_offset + found.value_bytes > region_bytes_) return false;
        racy_copy(to, base.at<const std::byte>(found.entry) + found.value_offset, found.value_bytes);
    } else {
        auto* at = static_cast<std::byte*>(to);
        std::size_t left = found.value_bytes;
        while (left > 0) {
            if (!in_bounds(extent)) return false;
            const auto* piece = base.at<const Extent>(extent);
            const std::size_t bytes = load_relaxed(piece->bytes);
            if (bytes == 0 || bytes > left ||
                std::uint64_t{extent} * kGranule + sizeof(Extent) + bytes > region_bytes_)
                return false;
            racy_copy(at, piece + 1, bytes);
            at += bytes;
            left -= bytes;
            extent = load_relaxed(piece->next);
        }
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    return found.chain->version.load(std::memory_order_relaxed) == found.chain_version;
}

// --- looking at one whole ---------------------------------------------------------------------------------

EntryInfo Store::describe(Base base, Ref ref) const noexcept {
    const Entry& e = *entry_at(base, ref);
    const std::uint8_t flags = e.flags.load(std::memory_order_relaxed);
    const auto layout = EntryLayout::of(flags, e.tag_count, e.key_bytes);
    const auto* scope = base.at<const ScopeNode>(e.scope);
    EntryInfo info;
    info.entry = ref;
    info.scope = scope->id;
    info.space = scope->space;
    info.is_private = scope->owner != 0;
    info.key = {reinterpret_cast<const char*>(base.at<std::byte>(ref)) + layout.key, e.key_bytes};
    info.tags = tag_refs(base, ref, flags);
    info.tag_count = e.tag_count;
    info.value_bytes = e.value_bytes;
    info.size_bytes = footprint(base, ref);
    info.encoding = static_cast<Encoding>(flags & Entry::kEncodingMask);
    info.birth = e.birth;
    info.created_at = e.created_at;
    info.expires_at = e.expires_at.load(std::memory_order_relaxed);
    info.hits = e.hits.load(std::memory_order_relaxed);
    info.used_at = e.used_at.load(std::memory_order_relaxed);
    info.compute_us = compute_us(base, ref, flags, layout);
    info.grace_ms = grace_ms(base, ref, flags, layout);
    info.dead = invalidated(base, e, flags, e.tag_count);
    return info;
}

Id128 Store::owner_of(Base base, const EntryInfo& entry) const noexcept {
    const Ref owner = base.at<const ScopeNode>(entry_at(base, entry.entry)->scope)->owner;
    return owner == 0 ? Id128{} : base.at<const OwnerNode>(owner)->id;
}

void Store::value_of(Base base, const EntryInfo& entry, std::byte* to) const noexcept {
    const Entry& e = *entry_at(base, entry.entry);
    const auto layout = EntryLayout::of(e.flags.load(std::memory_order_relaxed), e.tag_count, e.key_bytes);
    Ref extent = e.extents.load(std::memory_order_relaxed);
    if (extent == 0) {
        racy_copy(to, base.at<const std::byte>(entry.entry) + layout.value, e.value_bytes);
        return;
    }
    for (; extent != 0; extent = base.at<const Extent>(extent)->next) {
        const auto* piece = base.at<const Extent>(extent);
        racy_copy(to, piece + 1, piece->bytes);
        to += piece->bytes;
    }
}

}  // namespace cache_ext::core
