#pragma once

// The settings that a function's result may depend on besides its arguments: where names are looked up, and how values are read and written.

#include <cstdint>

#include "pg/prelude.hpp"

extern "C" {
#include "lib/stringinfo.h"
}

namespace cache_ext::pg {

/// Numbers the states that these settings were found in: as long as it stays the same, so do they. A few dozen nanoseconds. Throws std::bad_alloc.
[[nodiscard]] std::uint64_t environment_number();

/// Appends the settings as they were when `environment_number` was called last, each with its length. Without those that the bits of `fixed` stand for.
void append_environment(StringInfo text, std::uint32_t fixed);

/// The bit of a setting by its name; 0: it is none of them.
[[nodiscard]] std::uint32_t environment_bit(const char* name) noexcept;

/// Sets a setting until the nesting level of settings ends that the caller has begun. May raise.
void set_locally(const char* name, const char* value);

}  // namespace cache_ext::pg
