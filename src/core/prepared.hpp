#pragma once

#include <cstdint>

#include "core/clock.hpp"

namespace cache_ext::core {

/// A transaction that is about to be prepared, or is: it outlives its session and ends without telling anyone.
///
/// What it invalidates is put in *quarantine*, neither served nor stored, until somebody finds that it is over; so the clock runs on for everybody else. For
/// what cannot be in quarantine it takes a version and stays registered as unfinished, like a transaction that takes long to commit.
///
/// Locking: none. The session that claims it (`Region::claim_prepared`) is the only one to write it, up to the moment when its transaction is prepared.
/// Whoever takes its id away (`Region::release_prepared`) is then the only one; what it reads was written before the transaction left the server's list of those that
/// run, under a lock of the server's.
struct Prepared {
    static constexpr std::uint32_t kCells = 128;

    PendingMark mark;             ///< of the versions that it took; `mark.xid`: whose it is, 0 = nobody's
    std::uint32_t count;          ///< of its cells
    std::uint32_t cells[kCells];  ///< on which a quarantine of its own lies; the same one may be there twice
};

}  // namespace cache_ext::core
