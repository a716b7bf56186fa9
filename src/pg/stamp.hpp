#pragma once

// Telling the region what a transaction invalidates, before it can become visible: the own session's, or one of a server whose log is replayed.

#include "core/prepared.hpp"
#include "pg/pending.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// Gives what a transaction invalidates its version, or puts it in quarantine where the transaction is to be prepared. The version is taken when something
/// first needs it. Raises and throws nothing.
class Stamp {
public:
    /// The transaction's mark, and what outlives its session if it is about to be prepared, else null. `xid` 0: it is of no concern to others' snapshots.
    Stamp(core::PendingMark& mark, core::Prepared* prepared, core::FullXid xid) noexcept
        : mark_(prepared != nullptr ? prepared->mark : mark), prepared_(prepared), xid_(xid) {}

    void invalidate(const Invalidation& invalidation) noexcept;
    /// The tag of a relation that was written.
    void write(const core::TagName& tag) noexcept;
    void everything(const core::Id128& space) noexcept;
    void everything_everywhere() noexcept;

    /// What it took; 0: nothing needed one.
    core::Version taken() const noexcept { return version_; }

private:
    core::Version version() noexcept;
    bool quarantine(const Invalidation& invalidation) noexcept;
    template <class Put>
    bool quarantine_as(Put&& put) noexcept;

    core::PendingMark& mark_;
    core::Prepared* prepared_;
    core::FullXid xid_;
    core::Version version_ = 0;
};

}  // namespace cache_ext::pg
