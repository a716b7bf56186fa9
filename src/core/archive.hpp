#pragma once

// The entries of a region as a stream of bytes, to outlive a clean restart.
//
// The stream is a sequence of records: the origin, the databases, the entries with the oldest of the eviction queue first, an end. The head of each
// carries a checksum of the record and of all before it, so that a record that is damaged, missing, doubled or out of its place is
// noticed, and so is a stream that ends early. It is meant for the machine that wrote it: numbers are in its own byte order, and another one's are
// found not to be of this format.
//
// What is read is believed to be nothing but bytes: every length is checked before it is used.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/region.hpp"

namespace cache_ext::core {

/// What tells the state of the data that the entries belong to. The border fills it; here only equality counts.
struct ArchiveOrigin {
    std::array<std::uint64_t, 12> words{};
    friend bool operator==(const ArchiveOrigin&, const ArchiveOrigin&) = default;
};

/// An entry in the archive. The spans and texts are the writer's to give and the reader's to lend, until the next call.
struct ArchivedEntry {
    Scope scope;
    std::string_view key;
    std::uint32_t tag_count = 0;
    std::array<std::string_view, kMaxTags> tags;
    std::uint32_t relation_count =
        0;                 ///< how many of them, at the end, are relations that it depends on, as numbers
    Id128 relation_space;  ///< theirs; the others are in the scope's
    std::span<const std::byte> value;
    Encoding encoding = Encoding::kPlain;
    Timestamp created_at = 0;
    Timestamp expires_at = 0;
    std::uint32_t compute_us = 0;
    std::uint32_t grace_ms = 0;
    std::uint32_t hits = 0;
    std::uint32_t used_at = 0;
    bool visited = false;
};

/// Where the bytes go. False: no more can be written, and nothing will be.
using ArchiveSink = bool (*)(void* context, const void* bytes, std::size_t size) noexcept;

/// Where the bytes come from: how many there were, fewer than asked for only at the end.
using ArchiveSource = std::size_t (*)(void* context, void* to, std::size_t size) noexcept;

class ArchiveWriter {
public:
    ArchiveWriter(ArchiveSink sink, void* context) noexcept : sink_(sink), context_(context) {}

    // In this order, and each false once anything could not be written. They throw std::bad_alloc.
    bool begin(const ArchiveOrigin& origin);
    bool add(const Duty& database);
    bool add(const ArchivedEntry& entry);
    bool end();

    std::uint64_t entries() const noexcept { return entries_; }

private:
    bool record(std::uint32_t kind);

    ArchiveSink sink_;
    void* context_;
    std::vector<std::byte> payload_;
    std::uint64_t chain_ = 0;
    std::uint64_t entries_ = 0;
    bool good_ = true;
};

class ArchiveReader {
public:
    enum class Item : std::uint8_t { kDatabase, kEntry, kEnd, kDamaged };

    /// `largest` bounds what a record may take of memory.
    ArchiveReader(ArchiveSource source, void* context, std::size_t largest) noexcept
        : source_(source), context_(context), largest_(largest) {}

    /// Reads the origin. False: these bytes are nothing of this format. Throws std::bad_alloc, as does `next`.
    bool begin(ArchiveOrigin& origin);

    /// Reads what comes next. After kEnd and kDamaged there is no more.
    Item next();

    const Duty& database() const noexcept { return database_; }
    const ArchivedEntry& entry() const noexcept { return entry_; }

    /// For fuzzing, which finds nothing behind a checksum.
    void trust_checksums() noexcept { trusting_ = true; }

private:
    bool record(std::uint32_t& kind);
    bool parse_entry() noexcept;

    ArchiveSource source_;
    void* context_;
    std::size_t largest_;
    std::vector<std::byte> payload_;
    std::uint64_t chain_ = 0;
    std::uint64_t entries_ = 0;
    Duty database_;
    ArchivedEntry entry_;
    bool trusting_ = false;
};

/// Writes what is alive in a region that nobody else uses any more. False: it could not be written. Throws std::bad_alloc.
bool save(const Region& region, ArchiveWriter& writer, Timestamp now);

struct Restored {
    bool complete = false;  ///< false: the archive was damaged, and the region is left empty
    std::uint64_t entries =
        0;  ///< that the region holds now: a smaller one than the archive's has evicted some
};

/// Fills a new region that nobody else uses yet with what follows the origin. The entries are born now: each was valid when the last
/// transaction had ended, and nothing has been registered in this region's clock yet. `readable` tells whether values so encoded can be read
/// here. Throws std::bad_alloc, with the region half filled: see `clear`.
Restored restore(const Region& region, ArchiveReader& reader, const Quota& quota,
                 bool (*readable)(Encoding) noexcept, Timestamp now);

/// Removes everything from a region.
void clear(const Region& region) noexcept;

}  // namespace cache_ext::core
