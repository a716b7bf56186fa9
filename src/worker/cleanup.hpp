#pragma once

// What a cleanup does, whoever runs it: the sweep of a space, and its row in the log.

#include "core/sweep.hpp"
#include "pg/prelude.hpp"
#include "pg/space.hpp"

namespace cache_ext::worker {

inline core::Id128 id_of(const pg::Space& space) noexcept { return {space.id[0], space.id[1]}; }

/// Removes the expired and dead entries of a space, and those of spaces that nobody looks after. Attends to interrupts, so it may raise. Only after
/// `attached()`.
core::Swept sweep_space(const core::Id128& space, double& duration_ms);

/// Removes every entry of a space that is no more.
void drop_space(const core::Id128& space);

enum class Source : std::uint8_t { kFunction, kWorker };

/// Writes a row into cache_cleanup_log with its owner's rights, and prunes it. Where that cannot be done at once (somebody has locked the table, or
/// has changed it), it is left out: a WARNING at most. Needs a transaction that may write.
void write_log(const pg::Space& space, Source source, const core::Swept& swept, double duration_ms);

}  // namespace cache_ext::worker
