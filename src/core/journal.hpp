#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "core/entry.hpp"
#include "core/ref.hpp"

namespace cache_ext::core {

/// Why an entry went.
enum class Gone : std::uint8_t {
    kNot,
    kTag,  ///< a tag, or a relation that it depended on
    kKey,
    kPattern,
    kEverything,  ///< all of its space
    kExpired,
    kEvicted,
};

/// Who invalidated, and when, as far as it is remembered.
struct Origin {
    FullXid xid = 0;   ///< 0: not known, or nobody who has an id
    Timestamp at = 0;  ///< 0: not known
};

/// How an entry went. Trivially copyable; the text is in it, so that it outlives the lock.
struct Departure {
    static constexpr std::size_t kMaxText = 256;

    Gone reason = Gone::kNot;
    Id128 scope;
    bool is_private = false;
    bool is_relation = false;    ///< the text is that of a relation's tag
    bool in_quarantine = false;  ///< by a transaction that is prepared
    bool is_cut = false;         ///< the text is only the beginning
    Origin origin;
    std::uint64_t tag_hash = 0;           ///< of the tag, where the entry is still in its place
    std::uint64_t sequence = UINT64_MAX;  ///< the later, the greater
    std::uint16_t text_bytes = 0;
    char text[kMaxText];

    Departure() noexcept {}  // the text as it is

    std::string_view name() const noexcept { return {text, text_bytes}; }
    void set_name(std::string_view name) noexcept;
};

/// What became of entries, for whoever asks why one is gone: which transaction took which of the last versions, and the last entries that were removed.
/// Nothing else rests on it; what it has no room for is forgotten. Removals that make room are kept apart from invalidations, which are fewer
/// and are asked for more often.
///
/// Shared, in the region. Locking: versions are written and read without a lock, departures under the store's.
class Journal {
public:
    /// What one version is remembered with.
    struct Taken {
        std::atomic<Version> version;
        std::atomic<FullXid> xid;
        std::atomic<Timestamp> at;
    };

    /// One departure. Of a longer text its beginning.
    struct Note {
        static constexpr std::size_t kText = 76;
        std::uint64_t hash;
        std::uint64_t sequence;
        Id128 scope;
        Origin origin;
        Gone reason;
        std::uint8_t flags;
        std::uint16_t text_bytes;
        char text[kText];
    };
    static_assert(sizeof(Note) == 128);

    static constexpr unsigned kRings = 2;

    /// `taken` is an array of `taken_count`, `notes` one of `kRings * note_count`, both zeroed; powers of two.
    void init(Ref taken, std::uint32_t taken_count, Ref notes, std::uint32_t note_count) noexcept;

    /// Remembers who took a version.
    void took(Base base, Version version, FullXid xid, Timestamp now) noexcept;

    /// Who that was; nothing where it has been forgotten.
    Origin origin_of(Base base, Version version) const noexcept;

    /// Notes that an entry went. `hash` is its key's, whatever the scope. Under the store's lock.
    void note(Base base, std::uint64_t hash, const Departure& departure) noexcept;

    std::uint32_t note_count() const noexcept { return note_count_; }

    /// The note with this number of those that are kept, the newest is 0; false: there is none, or it is of another key. Under the store's lock.
    bool read(Base base, unsigned ring, std::uint32_t number, std::uint64_t hash,
              Departure& out) const noexcept;

private:
    static unsigned ring_of(Gone reason) noexcept {
        return reason == Gone::kEvicted || reason == Gone::kExpired ? 1 : 0;
    }
    Note& at(Base base, unsigned ring, std::uint64_t number) const noexcept {
        return base.at<Note>(notes_)[std::uint64_t{ring} * note_count_ + (number & (note_count_ - 1))];
    }

    Ref taken_;
    std::uint32_t taken_count_;
    Ref notes_;
    std::uint32_t note_count_;
    std::uint64_t noted_[kRings];  // how many ever
    std::uint64_t sequence_;
};

}  // namespace cache_ext::core
