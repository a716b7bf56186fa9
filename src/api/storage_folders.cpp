// The tags of listings: `storage:list:{bucket}/{folder}`, whose folder ends with a slash or is empty, and `storage:list:` on all of them.
//
// They are in the space of everybody's tags: who invalidates one by its name makes somebody list anew.

#include "api/storage_folders.hpp"

#include "api/storage_listing.hpp"
#include "core/hash.hpp"
#include "pg/elsewhere.hpp"
#include "pg/settings.hpp"
#include "pg/transaction.hpp"

namespace cache_ext::api {

namespace {

constexpr std::string_view kAll = "storage:list:";
constexpr std::string_view kBucketPlace = "{bucket}";

/// Folders deeper than this are told apart no more: an object is in few of them, whatever it is called.
constexpr int kMaxDepth = 24;

/// The length of the folder that a name lies in.
std::size_t folder_bytes(std::string_view name) noexcept {
    std::size_t end = 0;
    for (int depth = 0; depth < kMaxDepth; ++depth) {
        const std::size_t slash = name.find('/', end);
        if (slash == std::string_view::npos) break;
        end = slash + 1;
    }
    return end;
}

void invalidate_tag(const core::Id128& space, std::string_view tag) noexcept {
    pg::invalidate(pg::InvalidationKind::kTag, core::Scope{{}, space, {}, false}, tag);
}

}  // namespace

std::string_view all_listings_tag() noexcept { return kAll; }

std::string_view FolderTag::of(std::string_view bucket, std::string_view folder) noexcept {
    const std::size_t bytes = kAll.size() + bucket.size() + 1 + folder.size();
    char* end = std::copy(kAll.begin(), kAll.end(), text_);
    if (bytes <= sizeof text_) {
        end = std::copy(bucket.begin(), bucket.end(), end);
        *end++ = '/';
        end = std::copy(folder.begin(), folder.end(), end);
    } else {
        // Two that have the same hash are invalidated together.
        const std::uint64_t hash = core::hash_bytes(folder, core::hash_bytes(bucket, 0));
        *end++ = '#';
        for (int shift = 60; shift >= 0; shift -= 4)
            *end++ = "0123456789abcdef"[hash >> shift & 15];
    }
    return {text_, static_cast<std::size_t>(end - text_)};
}

std::string_view folder_of(std::string_view name) noexcept { return name.substr(0, folder_bytes(name)); }

void invalidate_listings(const core::Id128& space, std::string_view bucket, std::string_view name) noexcept {
    pg::invalidate_elsewhere(space, pg::settings::redis_listing_pattern, kBucketPlace, bucket);
    const std::string_view folder = folder_of(name);
    FolderTag tag;
    std::size_t end = 0;
    for (;;) {
        invalidate_tag(space, tag.of(bucket, folder.substr(0, end)));
        if (end == folder.size()) break;
        end = folder.find('/', end) + 1;
    }
}

void invalidate_listings(const core::Id128& space) noexcept {
    pg::invalidate_elsewhere(space, pg::settings::redis_listing_pattern, kBucketPlace, {});
    invalidate_tag(space, kAll);
}

}  // namespace cache_ext::api
