#pragma once

// The tables of a Supabase storage service, as its callers see them.

#include <string_view>

#include "pg/prelude.hpp"

namespace cache_ext::api {

/// The table of this name in the schema `storage`; an ERROR where there is none (42P01) or the caller may not use that schema (42501).
Oid storage_table(const char* name);

/// Whether there is a bucket of this id, whoever may see it. True where that cannot be told.
bool storage_bucket_exists(std::string_view id);

/// Whether each change of an object in this table invalidates listings.
bool tells_of_changes(Oid objects);

/// Until the nesting level of settings ends: what the service says that it is doing, for policies that allow one operation and not another.
void set_storage_operation(const char* operation);

}  // namespace cache_ext::api
