#pragma once

// Where a search for a queue's items may begin. Items that were taken stay in the index for as long as somebody's snapshot might see them; without this each
// search would pass all of them.
//
// A floor is a number up to which nothing of a queue is in a table, or will ever be: all rows up to it were taken for good, and nobody who drew such a number can still
// add its row. Whoever adds locks the table before he draws; so a number that is seen in the table is above those of all who will lock it later, and who had it
// locked at that moment is waited for: a floor is set in two steps, with a look at the rows after those are over.
//
// Floors are a session's own. Numbers do not go back; where they may have (somebody has changed the sequence or a table) and where rows were moved, all floors are forgotten;
// where a transaction does not commit, what it took is there again, and floors are lowered to it.

#include <cstdint>
#include <string_view>

#include "pg/prelude.hpp"

extern "C" {
#include "storage/lock.h"
}

namespace cache_ext::pg {

class QueueFloor {
public:
    /// The one of a queue in a table, which has this number among the tables, perhaps a new one. Valid until it is asked for another queue.
    static QueueFloor& of(int number, Oid table, std::string_view queue) noexcept;
    static void forget_all() noexcept;
    /// Rows from this number on, which this transaction had taken, may be there again.
    static void lower(std::int64_t first) noexcept;
    /// Those of one table.
    static void forget(Oid table) noexcept;

    /// Before the snapshot is taken: looks whether those who had to be waited for are over. May raise.
    void prepare();

    [[nodiscard]] std::int64_t get() const noexcept { return floor_; }

    /// What the search saw first; `kNothing`: no row. `next`: nobody draws a number below it any more. With the table locked. May raise.
    static constexpr std::int64_t kNothing = INT64_MAX;
    void saw(std::int64_t first, std::int64_t next);

private:
    static constexpr int kNameBytes = 256;
    static constexpr int kHolders = 64;
    /// By how many numbers it has to be worth it.
    static constexpr std::int64_t kStep = 64;
    /// And after how many searches it is looked for holders in any case.
    static constexpr std::uint32_t kSearches = 8;

    [[nodiscard]] bool any_holder_left() const;
    void note_holders();

    Oid table_;
    std::uint32_t name_bytes_;
    char name_[kNameBytes];
    bool is_settled_;
    std::int64_t floor_;
    std::int64_t candidate_;  ///< 0: there is none
    std::int64_t next_;       ///< that was told last, or what was seen
    std::int64_t looked_at_;  ///< next_ when holders were last looked for
    std::uint32_t searches_;
    int holder_count_;
    VirtualTransactionId holders_[kHolders];
};

}  // namespace cache_ext::pg
