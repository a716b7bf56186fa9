#pragma once

// The tables of a Supabase storage service, as its callers see them.

#include "pg/prelude.hpp"

namespace cache_ext::api {

/// The table of this name in the schema `storage`; an ERROR 42P01 where there is none.
Oid storage_table(const char* name);

/// Until the nesting level of settings ends: what the service says that it is doing, for policies that allow one operation and not another.
void set_storage_operation(const char* operation);

}  // namespace cache_ext::api
