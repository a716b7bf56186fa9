#pragma once

// The folders of storage objects, and the tags of the listings in them.

#include <string_view>

#include "core/store.hpp"

namespace cache_ext::api {

/// The folder that an object of this name, or a listing of this prefix, lies in: up to the last slash.
std::string_view folder_of(std::string_view name) noexcept;

/// The tag that every listing carries.
std::string_view all_listings_tag() noexcept;

/// Makes the tag of the listings in a folder.
class FolderTag {
public:
    /// Lasts until the next one is made.
    std::string_view of(std::string_view bucket, std::string_view folder) noexcept;

private:
    char text_[core::kMaxTagBytes];
};

}  // namespace cache_ext::api
