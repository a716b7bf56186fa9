#pragma once

// What has become of a transaction.

#include <cstdint>

#include "pg/prelude.hpp"

extern "C" {
#include "access/xlogdefs.h"
}

namespace cache_ext::pg {

enum class Outcome : std::uint8_t {
    kOpen,       ///< under way, or prepared
    kCommitted,  ///< and visible; a crash may still undo it until the log is flushed up to here
    kAborted,    ///< rolled back, or ended by a crash
    kForgotten,  ///< so long ago that the server does not know any more
};

/// A (sub)transaction for good: its full id, and where in the log it is said to have that. A standby that is promoted, and whoever restores an older state, begins a new timeline, on which the ids that
/// its history does not have are given again.
struct LastingId {
    std::uint64_t transaction = 0;
    TimeLineID timeline = 0;  ///< 0: not known, taken for the present one
    XLogRecPtr position = 0;  ///< the end of a record of that transaction's
};

/// Of a transaction or subtransaction that this server, or the one whose place it has taken, has given that id. One in a transaction that is under way is so, too. May raise.
[[nodiscard]] Outcome outcome_of(const LastingId& id);

/// Makes sure that the current (sub)transaction has an id that no other one will get, even if the server crashes now: that the log has it. Flushes the log, once for each. May raise.
[[nodiscard]] LastingId lasting_transaction_id();

/// Whether it has one by now.
[[nodiscard]] bool has_lasting_transaction_id() noexcept;

}  // namespace cache_ext::pg
