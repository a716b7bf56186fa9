#pragma once

// Reading the value of a key: what all functions that return one have in common.

#include <string_view>

#include "api/context.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

/// Looks up and copies out. False where there is nothing that the caller may have, or nothing as young as `max_age` (microseconds; 0 = of any age). In
/// one scope if one is given, and else as `look_up` does. Whoever hands it out counts the hit. Only where `usable()`. May raise.
bool peek(std::string_view key, std::int64_t max_age, Datum& value, Visible& found,
          const core::Scope* scope = nullptr, Freshness wanted = Freshness::kFresh);

/// The same wherever it is called, with its count and log line; where it is a miss, that is counted. What is no fresh hit leaves a lease: a stale
/// one too, where that is wanted and there is no fresh one.
bool read_or_miss(std::string_view key, std::int64_t max_age, Datum& value, Visible& found,
                  Freshness wanted = Freshness::kFresh);

/// A line in the server's log, where cache_ext.log_operations asks for it.
void log_operation(const char* what, std::string_view key, const char* outcome);

/// A clock for durations.
std::uint64_t nanoseconds() noexcept;

}  // namespace cache_ext::api
