#include "core/archive.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <type_traits>

#include "core/hash.hpp"

namespace cache_ext::core {

namespace {

constexpr std::uint64_t kMagic =
    0x3365766968637261ULL;  // changes with the format; read the other way round, it is no number of ours
enum Kind : std::uint32_t { kOrigin = 1, kDatabase, kEntry, kEnd };

struct Head {
    std::uint32_t kind;
    std::uint32_t bytes;     ///< of what follows
    std::uint64_t checksum;  ///< of it and of everything before
};

struct OriginRecord {
    std::uint64_t magic;
    ArchiveOrigin origin;
};

struct DatabaseRecord {
    Id128 space;
    Timestamp swept_at;
    std::uint32_t database;
    std::uint32_t unused;
};

/// Followed by the lengths of the tags (16 bits each), the key, the tags, the value.
struct EntryRecord {
    Id128 scope;
    Id128 space;
    Id128 owner;
    Id128 relation_space;
    Timestamp created_at;
    Timestamp expires_at;
    std::uint32_t value_bytes;
    std::uint32_t compute_us;
    std::uint32_t grace_ms;
    std::uint32_t hits;
    std::uint32_t used_at;
    std::uint32_t unused;
    std::uint16_t key_bytes;
    std::uint8_t tag_count;
    std::uint8_t encoding;
    std::uint8_t is_private;
    std::uint8_t visited;
    std::uint16_t relation_count;
};
static_assert(std::is_trivially_copyable_v<EntryRecord> && sizeof(EntryRecord) == 112);

/// No moment that a server could name lies further away; differences of such moments are numbers still.
constexpr Timestamp kFurthest = Timestamp{1} << 61;

constexpr std::size_t kLargestFixedPart =
    sizeof(EntryRecord) + kMaxTags * (sizeof(std::uint16_t) + kMaxTagBytes) + kMaxKeyBytes;

std::uint64_t checksum(std::uint64_t chain, std::uint32_t kind, std::span<const std::byte> payload) noexcept {
    const std::uint64_t seed = mix(chain, std::uint64_t{kind} << 32 | payload.size());
    return hash_bytes({reinterpret_cast<const char*>(payload.data()), payload.size()}, seed);
}

void append(std::vector<std::byte>& to, const void* bytes, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(bytes);
    to.insert(to.end(), from, from + size);
}

/// Takes a structure off the front of what is left. False: there is not enough.
template <class T>
bool take(std::span<const std::byte>& left, T& out) noexcept {
    if (left.size() < sizeof(T)) return false;
    std::memcpy(&out, left.data(), sizeof(T));
    left = left.subspan(sizeof(T));
    return true;
}

/// The number of a relation, as a tag gives it. False: it is none.
bool parse_relation(std::string_view text, std::uint32_t& relation) noexcept {
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, relation);
    return error == std::errc() && at == end;
}

bool take_text(std::span<const std::byte>& left, std::size_t size, std::string_view& out) noexcept {
    if (left.size() < size) return false;
    out = {reinterpret_cast<const char*>(left.data()), size};
    left = left.subspan(size);
    return true;
}

}  // namespace

// --- writing ------------------------------------------------------------------------------------------

bool ArchiveWriter::record(std::uint32_t kind) {
    if (!good_ || payload_.size() > UINT32_MAX) return good_ = false;
    chain_ = checksum(chain_, kind, payload_);
    const Head head{kind, static_cast<std::uint32_t>(payload_.size()), chain_};
    good_ = sink_(context_, &head, sizeof head) &&
            (payload_.empty() || sink_(context_, payload_.data(), payload_.size()));
    payload_.clear();
    return good_;
}

bool ArchiveWriter::begin(const ArchiveOrigin& origin) {
    const OriginRecord r{kMagic, origin};
    append(payload_, &r, sizeof r);
    return record(kOrigin);
}

bool ArchiveWriter::add(const Duty& database) {
    const DatabaseRecord r{database.space, database.swept_at, database.database, 0};
    append(payload_, &r, sizeof r);
    return record(kDatabase);
}

bool ArchiveWriter::add(const ArchivedEntry& e) {
    EntryRecord r{};
    r.scope = e.scope.id;
    r.space = e.scope.space;
    r.owner = e.scope.owner;
    r.relation_space = e.relation_space;
    r.relation_count = static_cast<std::uint16_t>(e.relation_count);
    r.is_private = e.scope.is_private ? 1 : 0;
    r.created_at = e.created_at;
    r.expires_at = e.expires_at;
    r.value_bytes = static_cast<std::uint32_t>(e.value.size());
    r.compute_us = e.compute_us;
    r.grace_ms = e.grace_ms;
    r.hits = e.hits;
    r.used_at = e.used_at;
    r.key_bytes = static_cast<std::uint16_t>(e.key.size());
    r.tag_count = static_cast<std::uint8_t>(e.tag_count);
    r.encoding = static_cast<std::uint8_t>(e.encoding);
    r.visited = e.visited ? 1 : 0;
    append(payload_, &r, sizeof r);
    for (std::uint32_t i = 0; i < e.tag_count; ++i) {
        const auto bytes = static_cast<std::uint16_t>(e.tags[i].size());
        append(payload_, &bytes, sizeof bytes);
    }
    append(payload_, e.key.data(), e.key.size());
    for (std::uint32_t i = 0; i < e.tag_count; ++i)
        append(payload_, e.tags[i].data(), e.tags[i].size());
    append(payload_, e.value.data(), e.value.size());
    ++entries_;
    return record(kEntry);
}

bool ArchiveWriter::end() {
    append(payload_, &entries_, sizeof entries_);
    return record(kEnd);
}

bool save(const Region& region, ArchiveWriter& writer, Timestamp now) {
    Store& store = region.store();
    const Base base = region.base();
    store.gather_hits(base, now);
    for (std::int32_t i = 0; i < Duties::kDatabases; ++i) {
        const Duty duty = region.duties().get(i);
        if (duty.database != 0 && !writer.add(duty)) return false;
    }
    std::vector<std::byte> value;
    bool good = true;
    store.for_each_alone(base, [&](const EntryInfo& e, bool visited) {
        if (!good || e.dead || e.gone_at() <= now) return;
        ArchivedEntry a;
        a.scope = {e.scope, e.space, store.owner_of(base, e), e.is_private};
        a.key = e.key;
        a.tag_count = std::min<std::uint32_t>(e.tag_count, kMaxTags);
        for (std::uint32_t i = 0; i < a.tag_count; ++i) {
            const TagSlot& tag = Store::tag(base, e.tags[i]);
            a.tags[i] = tag.text();
            if (tag.space == e.space) continue;
            a.relation_space = tag.space;
            ++a.relation_count;
        }
        value.resize(e.value_bytes);
        store.value_of(base, e, value.data());
        a.value = value;
        a.encoding = e.encoding;
        a.created_at = e.created_at;
        a.expires_at = e.expires_at;
        a.compute_us = e.compute_us;
        a.grace_ms = e.grace_ms;
        a.hits = e.hits;
        a.used_at = e.used_at;
        a.visited = visited;
        good = writer.add(a);
    });
    return good;
}

// --- reading ------------------------------------------------------------------------------------------

bool ArchiveReader::record(std::uint32_t& kind) {
    Head head;
    if (source_(context_, &head, sizeof head) != sizeof head) return false;
    if (head.bytes > largest_ + kLargestFixedPart) return false;
    payload_.resize(head.bytes);
    if (source_(context_, payload_.data(), head.bytes) != head.bytes) return false;
    chain_ = checksum(chain_, head.kind, payload_);
    kind = head.kind;
    return chain_ == head.checksum || trusting_;
}

bool ArchiveReader::begin(ArchiveOrigin& origin) {
    std::uint32_t kind = 0;
    OriginRecord r{};
    if (!record(kind) || kind != kOrigin || payload_.size() != sizeof r) return false;
    std::memcpy(&r, payload_.data(), sizeof r);
    origin = r.origin;
    return r.magic == kMagic;
}

bool ArchiveReader::parse_entry() noexcept {
    std::span<const std::byte> left = payload_;
    EntryRecord r{};
    if (!take(left, r)) return false;
    if (r.key_bytes == 0 || r.key_bytes > kMaxKeyBytes || r.tag_count > kMaxTags) return false;
    if (r.relation_count > r.tag_count || (r.relation_count > 0 && r.relation_space == r.space)) return false;
    if ((r.encoding & ~Entry::kEncodingMask) != 0 || r.is_private > 1 || r.visited > 1) return false;
    if (r.created_at > kFurthest || r.created_at < -kFurthest) return false;

    std::array<std::uint16_t, kMaxTags> tag_bytes{};
    for (std::uint32_t i = 0; i < r.tag_count; ++i) {
        if (!take(left, tag_bytes[i]) || tag_bytes[i] == 0 || tag_bytes[i] > kMaxTagBytes) return false;
    }
    ArchivedEntry& e = entry_;
    if (!take_text(left, r.key_bytes, e.key)) return false;
    for (std::uint32_t i = 0; i < r.tag_count; ++i) {
        std::uint32_t relation = 0;
        if (!take_text(left, tag_bytes[i], e.tags[i])) return false;
        if (i + r.relation_count >= r.tag_count && !parse_relation(e.tags[i], relation)) return false;
    }
    if (left.size() != r.value_bytes) return false;
    e.value = left;
    e.scope = {r.scope, r.space, r.owner, r.is_private != 0};
    e.tag_count = r.tag_count;
    e.relation_count = r.relation_count;
    e.relation_space = r.relation_space;
    e.encoding = static_cast<Encoding>(r.encoding);
    e.created_at = r.created_at;
    e.expires_at = r.expires_at;
    e.compute_us = r.compute_us;
    e.grace_ms = r.grace_ms;
    e.hits = r.hits;
    e.used_at = r.used_at;
    e.visited = r.visited != 0;
    return true;
}

ArchiveReader::Item ArchiveReader::next() {
    std::uint32_t kind = 0;
    if (!record(kind)) return Item::kDamaged;
    std::span<const std::byte> left = payload_;
    switch (kind) {
        case kDatabase: {
            DatabaseRecord r{};
            if (!take(left, r) || !left.empty()) return Item::kDamaged;
            database_ = {};
            database_.space = r.space;
            database_.database = r.database;
            database_.swept_at = r.swept_at;
            return Item::kDatabase;
        }
        case kEntry:
            ++entries_;
            return parse_entry() ? Item::kEntry : Item::kDamaged;
        case kEnd: {
            std::uint64_t entries = 0;
            std::byte more;
            if (!take(left, entries) || !left.empty() || entries != entries_) return Item::kDamaged;
            return source_(context_, &more, 1) == 0 ? Item::kEnd : Item::kDamaged;
        }
        default:
            return Item::kDamaged;
    }
}

void clear(const Region& region) noexcept {
    for (std::uint32_t b = 0; b < region.store().bucket_count(); ++b) {
        region.store().remove_if(region.base(), b, [](const EntryInfo&) { return true; });
    }
    region.duties().init();
}

Restored restore(const Region& region, ArchiveReader& reader, const Quota& quota,
                 bool (*readable)(Encoding) noexcept, Timestamp now) {
    Store& store = region.store();
    const Base base = region.base();
    std::array<TagName, kMaxTags> tags;
    for (;;) {
        switch (reader.next()) {
            case ArchiveReader::Item::kEnd:
                return {true, store.usage().entries};
            case ArchiveReader::Item::kDamaged:
                clear(region);
                return {};
            case ArchiveReader::Item::kDatabase:
                if (const Duty& d = reader.database(); d.database != 0)
                    region.duties().note(d.space, d.database, std::min(d.swept_at, now));
                continue;
            case ArchiveReader::Item::kEntry:
                break;
        }
        const ArchivedEntry& e = reader.entry();
        if (after(e.expires_at, e.grace_ms) <= now || !readable(e.encoding)) continue;
        // Two entries that say different things of one scope: no region that ever was.
        if (!store.scope_fits(base, e.scope)) {
            clear(region);
            return {};
        }
        for (std::uint32_t i = 0; i < e.tag_count; ++i) {
            const bool is_relation = i + e.relation_count >= e.tag_count;
            const Id128& space = is_relation ? e.relation_space : e.scope.space;
            tags[i] = {space, e.tags[i], store.tags().hash(space, e.tags[i])};
            // Whoever writes it from now on has to tell; nobody is under way who would not.
            if (std::uint32_t relation = 0; is_relation && parse_relation(e.tags[i], relation)) {
                region.watches().ripen(Watches::hash(space, relation));
                region.watches().join(static_cast<std::uint32_t>(space.lo));  // the database's number
            }
        }
        NewEntry entry;
        entry.scope = &e.scope;
        entry.key = {e.scope.id, e.key, store.key_hash(e.scope.id, e.key)};
        entry.tags = {tags.data(), e.tag_count};
        entry.value = e.value;
        entry.encoding = e.encoding;
        entry.birth = region.clock().now();
        entry.created_at = e.created_at;
        entry.expires_at = e.expires_at;
        entry.compute_us = e.compute_us;
        entry.grace_ms = e.grace_ms;
        entry.now = now;
        entry.hits = e.hits;
        entry.used_at = e.used_at;
        entry.visited = e.visited;
        store.put(base, region.session(0), entry, quota);
    }
}

}  // namespace cache_ext::core
