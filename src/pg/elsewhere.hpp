#pragma once

// Keys that an application keeps in Redis under names of its own, by which it is known what they are about.

#include <string_view>

#include "core/entry.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// Adds to the transaction that such keys are out of date, where Redis is told: those that match a setting's pattern with `name` in the place of `place`
/// ("{table}"); an empty name is any. An empty pattern is none. Raises nothing but that whoever was told to stop does.
void invalidate_elsewhere(const core::Id128& space, const char* pattern, std::string_view place,
                          std::string_view name);

}  // namespace cache_ext::pg
