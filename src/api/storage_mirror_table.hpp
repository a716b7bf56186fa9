#pragma once

// Finding or making the table storage_usage.

#include "pg/prelude.hpp"

namespace cache_ext::api {

/// What is to be the table for the application.
struct UsageTable {
    const char* schema;
    const char* name;
};

/// Finds the application's own table, where the caller's search_path or public has one, and adds the columns that it lacks; otherwise makes it in the extension's schema.
/// With the caller's rights; raises where they do not suffice, or where what is there is no such table.
UsageTable prepare_usage_table();

}  // namespace cache_ext::api
