#pragma once

// Cached listings of storage objects, and the tags by which changed objects invalidate them.
//
// A page carries the tag of the folder that its prefix lies in, and one of all listings. An object that comes, goes or changes concerns the pages of
// all folders above it, since each of them lists it.

#include <string_view>

#include "core/store.hpp"

namespace cache_ext::api {

/// Invalidates the listings in which an object of this name may be: for each version of a row that is written. What this transaction has told of already costs but a
/// look-up for each folder above it. Raises and throws nothing.
void invalidate_listings(const core::Id128& space, std::string_view bucket, std::string_view name) noexcept;

/// Invalidates all listings.
void invalidate_listings(const core::Id128& space) noexcept;

}  // namespace cache_ext::api
