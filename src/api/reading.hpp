#pragma once

// Reading the value of a key: what all functions that return one have in common.

#include <string_view>

#include "api/context.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

/// Looks up, copies out and counts a hit. False where there is nothing that the caller may have, or nothing as young as `max_age`
/// (microseconds; 0 = of any age). In one scope if one is given, and else as `look_up` does. Only where `usable()`. May raise.
bool read(std::string_view key, std::int64_t max_age, Datum& value, Visible& found,
          const core::Scope* scope = nullptr);

/// The same wherever it is called, with its log line; where it is a miss, that is counted and leaves a lease.
bool read_or_miss(std::string_view key, std::int64_t max_age, Datum& value, Visible& found);

/// A line in the server's log, where cache_ext.log_operations asks for it.
void log_operation(const char* what, std::string_view key, const char* outcome);

/// A clock for durations.
std::uint64_t nanoseconds() noexcept;

}  // namespace cache_ext::api
