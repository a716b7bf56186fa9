#pragma once

// The transaction's part in the protocol: what it has pending, stamped into the clock before it becomes visible and published after.

#include <string_view>

#include "pg/leases.hpp"
#include "pg/pending.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// What the current transaction has pending.
Pending& pending() noexcept;

/// This session's leases.
Leases& leases() noexcept;

/// The nesting level of the current (sub)transaction: 1 is the top.
int transaction_level() noexcept;

/// Whether the transaction has written, or invalidated, anything: what it computes may then hold what others do not see.
bool has_written() noexcept;

/// Adds an invalidation to the transaction. It takes effect for this transaction at once, for others when it commits. Raises nothing and takes no lock.
void invalidate(InvalidationKind kind, const core::Scope& scope, std::string_view text) noexcept;

/// Puts a value into the region at once. Only for one that depends on nothing uncommitted. Whether it is there now; fails like a set that is
/// refused.
bool publish_now(const PendingSet& set) noexcept;

/// Whether the transaction's pre-commit work is done.
bool is_ending() noexcept;

/// Where that is so, stamps what has come since.
void stamp_if_ending() noexcept;

/// How much private memory may be taken, from the settings.
core::Quota quota() noexcept;

/// Registers the callbacks. Called once, from _PG_init.
void init_transaction();

}  // namespace cache_ext::pg
