#pragma once

// The values of shared entries, for whoever copies them to Redis.

#include <string>
#include <vector>

#include "pg/redis_settings.hpp"
#include "redis/filler.hpp"

namespace cache_ext::worker {

/// The values of those of the keys that have one which the active snapshot may be given, with what is left of their lives, cut to what the settings say.
/// Entries that depend on more than their tags are left out. May raise.
std::vector<redis::Value> read_values(const std::vector<std::string>& keys,
                                      const pg::RedisSettings& settings);

}  // namespace cache_ext::worker
