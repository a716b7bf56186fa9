#pragma once

// What has become of a transaction.

#include <cstdint>

#include "pg/prelude.hpp"

namespace cache_ext::pg {

enum class Outcome : std::uint8_t {
    kOpen,       ///< under way, or prepared
    kCommitted,  ///< and visible; a crash may still undo it until the log is flushed up to here
    kAborted,    ///< rolled back, or ended by a crash
    kForgotten,  ///< so long ago that the server does not know any more
};

/// Of a transaction or subtransaction, by its full id, which this server has given out. One in a transaction that is under way is so, too. May raise.
[[nodiscard]] Outcome outcome_of(std::uint64_t transaction);

/// Makes sure that the current (sub)transaction has an id that no other one will get, even if the server crashes now: that the log has it. The id. Flushes the log, once for each. May raise.
[[nodiscard]] std::uint64_t lasting_transaction_id();

/// Whether it has one by now.
[[nodiscard]] bool has_lasting_transaction_id() noexcept;

}  // namespace cache_ext::pg
