#include "pg/queue_floor.hpp"

#include "pg/queue.hpp"

extern "C" {
#include "common/hashfn.h"
}

namespace cache_ext::pg {

namespace {

constexpr std::uint32_t kFloors = 32;
constinit QueueFloor floors[kFloors][kQueueTables]{};

/// Those who may have drawn a number for the table and not be over: a palloc'd array.
VirtualTransactionId* writers_of(Oid table, int& count) {
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
    // What conflicts with it is what writers hold.
    return GetLockConflicts(&tag, ShareLock, &count);
}

}  // namespace

QueueFloor& QueueFloor::of(int number, Oid table, std::string_view queue) noexcept {
    const std::uint32_t hash =
        hash_bytes(reinterpret_cast<const unsigned char*>(queue.data()), static_cast<int>(queue.size()));
    QueueFloor& floor = floors[hash % kFloors][number];
    const bool is_it = floor.table_ == table && queue.size() <= kNameBytes &&
                       std::string_view(floor.name_, floor.name_bytes_) == queue;
    if (is_it) return floor;
    floor = QueueFloor{};
    // A name that does not fit is nobody's: it begins anew each time.
    if (queue.size() <= kNameBytes) {
        floor.table_ = table;
        floor.name_bytes_ = static_cast<std::uint32_t>(queue.copy(floor.name_, kNameBytes));
    }
    return floor;
}

void QueueFloor::forget_all() noexcept {
    for (auto& tables : floors) {
        for (QueueFloor& floor : tables)
            floor.table_ = InvalidOid;
    }
}

void QueueFloor::lower(std::int64_t first) noexcept {
    for (auto& tables : floors) {
        for (QueueFloor& floor : tables) {
            floor.floor_ = std::min(floor.floor_, first - 1);
            if (floor.candidate_ >= first) floor.candidate_ = 0;
            floor.next_ = floor.looked_at_ = 0;
        }
    }
}

void QueueFloor::forget(Oid table) noexcept {
    for (auto& tables : floors) {
        for (QueueFloor& floor : tables) {
            if (floor.table_ == table) floor.table_ = InvalidOid;
        }
    }
}

void QueueFloor::prepare() {
    is_settled_ = false;
    if (candidate_ == 0 || (next_ < looked_at_ + kStep && ++searches_ % kSearches != 0)) return;
    looked_at_ = next_;
    is_settled_ = !any_holder_left();
}

void QueueFloor::saw(std::int64_t first, std::int64_t next) {
    if (!OidIsValid(table_)) return;
    if (is_settled_) {
        // A row below it is somebody's who came to be over after all; then it is tried again.
        if (first > candidate_) floor_ = candidate_;
        candidate_ = 0;
    }
    next_ = std::min(first, next);
    if (candidate_ == 0 && next_ > floor_ + kStep) note_holders();
}

bool QueueFloor::any_holder_left() const {
    int count = 0;
    VirtualTransactionId* const now = writers_of(table_, count);
    bool any = false;
    for (int i = 0; i < count && !any; ++i) {
        for (int j = 0; j < holder_count_ && !any; ++j)
            any = VirtualTransactionIdEquals(now[i], holders_[j]);
    }
    pfree(now);
    return any;
}

void QueueFloor::note_holders() {
    int count = 0;
    VirtualTransactionId* const now = writers_of(table_, count);
    if (count <= kHolders) {
        std::copy_n(now, count, holders_);
        holder_count_ = count;
        candidate_ = next_ - 1;
        looked_at_ = next_;
    }
    pfree(now);
}

}  // namespace cache_ext::pg
