#pragma once

// Leases: what a miss leaves behind. A value that is set after a miss may have been computed any time since, so it is no younger than
// the snapshot of the miss. The session keeps the lease of the oldest unanswered miss of a key for a minute, or until the set.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/region.hpp"
#include "pg/pending.hpp"

namespace cache_ext::pg {

struct Lease {
    core::Version birth = 0;  ///< clock of the oldest snapshot at the miss
    Sequence sequence = 0;    ///< of the miss in its transaction; 0 where that is over
    core::Version through =
        0;  ///< settled_newest() at the miss, where the transaction had invalidated something by then
    bool void_ = false;  ///< what answers it may have been computed from writes that were rolled back
};

/// The leases of this session. Fixed in size: one that is displaced keeps its effect on all keys until its time is over.
class Leases {
public:
    static constexpr std::size_t kSlots = 128;
    static constexpr core::Timestamp kLife = 60'000'000;  // microseconds

    /// Remembers a miss, unless an older one of the same key is unanswered.
    void miss(std::uint64_t key_hash, const Lease& lease, int level, core::Timestamp now) noexcept;

    /// The lease that a set of this key answers, which ends with it.
    std::optional<Lease> answer(std::uint64_t key_hash, core::Timestamp now) noexcept;

    /// A bound on the birth of whatever is set without a lease: of the leases that were displaced.
    core::Version displaced_bound(core::Timestamp now) const noexcept {
        return now < displaced_until_ ? displaced_birth_ : UINT64_MAX;
    }

    /// A savepoint at `level` was rolled back, or released. `wrote`: the transaction has an xid or pending invalidations, so that nothing that was
    /// computed since a miss may be stored any more, whether the miss was in the savepoint or before.
    void roll_back(int level, bool wrote) noexcept;
    void release(int level) noexcept;
    /// The transaction ended.
    void end_transaction(bool committed, bool wrote) noexcept;

private:
    struct Slot {
        std::uint64_t key_hash = 0;
        core::Timestamp until = 0;  // 0 = unused
        Lease lease;
        int level = 0;  // 0 = of an earlier transaction
    };

    Slot* find(std::uint64_t key_hash, core::Timestamp now) noexcept;

    std::array<Slot, kSlots> slots_{};
    std::size_t used_ = 0;  // slots beyond it were never used
    std::size_t next_ = 0;
    bool in_transaction_ = false;  // some have a level
    core::Version displaced_birth_ = 0;
    core::Timestamp displaced_until_ = 0;
};

/// A lease as a token that a caller carries to another session. It names the region, so that none outlives it, and is
/// bound to its key.
std::string lease_token(const core::Id128& instance, std::uint64_t key_hash, core::Version birth);

enum class TokenState : std::uint8_t { kGood, kForeign, kMalformed };

/// Reads a token. kForeign: of another region or another key, so that nothing is known of the value's age.
TokenState read_lease_token(std::string_view token, const core::Id128& instance, std::uint64_t key_hash,
                            core::Version& birth) noexcept;

}  // namespace cache_ext::pg
