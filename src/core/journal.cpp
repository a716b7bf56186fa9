#include "core/journal.hpp"

#include <algorithm>
#include <cstring>

namespace cache_ext::core {

namespace {

constexpr std::uint8_t kPrivate = 1;
constexpr std::uint8_t kRelation = 2;
constexpr std::uint8_t kCut = 4;

}  // namespace

void Departure::set_name(std::string_view name) noexcept {
    is_cut = name.size() > kMaxText;
    text_bytes = static_cast<std::uint16_t>(std::min(name.size(), kMaxText));
    if (text_bytes > 0) std::memcpy(text, name.data(), text_bytes);
}

void Journal::init(Ref taken, std::uint32_t taken_count, Ref notes, std::uint32_t note_count) noexcept {
    taken_ = taken;
    taken_count_ = taken_count;
    notes_ = notes;
    note_count_ = note_count;
    std::fill_n(noted_, kRings, std::uint64_t{0});
    sequence_ = 0;
}

void Journal::took(Base base, Version version, FullXid xid, Timestamp now) noexcept {
    // A reader that meets two versions at once believes neither.
    Taken& slot = base.at<Taken>(taken_)[version & (taken_count_ - 1)];
    slot.version.store(0, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    slot.xid.store(xid, std::memory_order_relaxed);
    slot.at.store(now, std::memory_order_relaxed);
    slot.version.store(version, std::memory_order_release);
}

Origin Journal::origin_of(Base base, Version version) const noexcept {
    const Taken& slot = base.at<const Taken>(taken_)[version & (taken_count_ - 1)];
    if (version == 0 || slot.version.load(std::memory_order_acquire) != version) return {};
    const Origin origin{slot.xid.load(std::memory_order_relaxed), slot.at.load(std::memory_order_relaxed)};
    std::atomic_thread_fence(std::memory_order_acquire);
    return slot.version.load(std::memory_order_relaxed) == version ? origin : Origin{};
}

void Journal::note(Base base, std::uint64_t hash, const Departure& d) noexcept {
    const unsigned ring = ring_of(d.reason);
    Note& note = at(base, ring, noted_[ring]++);
    note.hash = hash;
    note.sequence = ++sequence_;
    note.scope = d.scope;
    note.origin = d.origin;
    note.reason = d.reason;
    note.text_bytes = static_cast<std::uint16_t>(std::min<std::size_t>(d.text_bytes, Note::kText));
    note.flags = static_cast<std::uint8_t>((d.is_private ? kPrivate : 0) | (d.is_relation ? kRelation : 0) |
                                           (d.is_cut || note.text_bytes < d.text_bytes ? kCut : 0));
    std::memcpy(note.text, d.text, note.text_bytes);
}

bool Journal::read(Base base, unsigned ring, std::uint32_t number, std::uint64_t hash,
                   Departure& out) const noexcept {
    if (number >= note_count_ || number >= noted_[ring]) return false;
    const Note& note = at(base, ring, noted_[ring] - 1 - number);
    if (note.hash != hash) return false;
    out.reason = note.reason;
    out.scope = note.scope;
    out.is_private = (note.flags & kPrivate) != 0;
    out.is_relation = (note.flags & kRelation) != 0;
    out.in_quarantine = false;
    out.origin = note.origin;
    out.tag_hash = 0;
    out.sequence = note.sequence;
    out.set_name({note.text, note.text_bytes});
    out.is_cut = (note.flags & kCut) != 0;
    return true;
}

}  // namespace cache_ext::core
