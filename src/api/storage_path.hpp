#pragma once

// Names of buckets and objects: what the storage service takes, and how they are written in a URL.

#include <string_view>

#include "pg/prelude.hpp"

extern "C" {
#include "lib/stringinfo.h"
}

namespace cache_ext::api {

/// A bucket and an object in it, as a caller has named them; the path without the slashes that it may begin with, as supabase-js sends it.
struct StoragePath {
    std::string_view bucket;
    std::string_view path;
};

/// Reads them from two arguments: an ERROR where one is null (22004), or is no name that the service takes, or none that a URL can say (22023).
StoragePath storage_path_argument(FunctionCallInfo fcinfo, int bucket, int path);

/// Appends `bucket/path` as it is, which is what a token says.
void append_plain(StringInfo to, const StoragePath& where);

/// The same as it stands in a URL.
void append_encoded(StringInfo to, const StoragePath& where);

}  // namespace cache_ext::api
