#pragma once

// Policies by key prefix, as set_cache_policy left them in cache_ext_internal.policies.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pg/prelude.hpp"

namespace cache_ext::api {

struct Policy {
    std::string prefix;
    std::int64_t duration = 0;  ///< microseconds; 0 = none
    std::int64_t grace =
        0;  ///< microseconds after the duration in which a stale value may be served, marked; 0 = none
    double jitter = 0;  ///< part of the duration by which it may be shortened at random, 0 to 1
    std::vector<std::string> tags;
    bool shared = false;
    bool write_through = false;
};

/// The policy with the longest prefix of the key, or null. A few nanoseconds where the database has none; after a change it
/// reads the table, which may raise ERROR or throw std::bad_alloc: trivial locals only. The result is valid until the next call.
const Policy* find_policy(std::string_view key);

/// Registers for invalidation. Called once, from _PG_init.
void init_policies();

}  // namespace cache_ext::api
