#include "api/storage_pending.hpp"

#include "api/storage_deltas.hpp"
#include "pg/compat.hpp"

extern "C" {
#include "access/xact.h"
#include "pgstat.h"
}

namespace cache_ext::api {

namespace {

/// What one level of the transaction has changed and not rolled back.
struct Level {
    int nesting;
    std::int64_t rows;  ///< that triggers told of, as the server counts them
    bool truncated;     ///< what levels above changed before is gone
    bool lost;          ///< a row that it wrote is not counted
    MemoryContext memory;
    StorageSums sums;
};

/// Of this transaction.
struct State {
    std::vector<Level>
        levels;              // from the outermost to the innermost; those that changed nothing are left out
    bool lost = false;       // no level could be made
    bool uncounted = false;  // a row was written while the server did not count rows
    bool ending = false;     // its commit has begun: what is counted now is written down at once
};

State state;

/// That of the present nesting, or null where there is no memory.
Level* current_level() noexcept {
    const int nesting = GetCurrentTransactionNestLevel();
    if (!state.levels.empty() && state.levels.back().nesting == nesting) return &state.levels.back();
    try {
        state.levels.reserve(state.levels.size() + 1);
    } catch (...) {
        state.lost = true;
        return nullptr;
    }
    state.levels.push_back({nesting, 0, false, false, nullptr, StorageSums::make(nullptr)});
    return &state.levels.back();
}

/// Memory of a level is taken with its first sum.
bool has_memory(Level& level) noexcept {
    if (level.memory != nullptr) return true;
    // Making a context raises where there is no memory.
    const MemoryContext before = CurrentMemoryContext;
    PG_TRY();
    {
        level.memory =
            AllocSetContextCreate(TopTransactionContext, "cache_ext storage usage", ALLOCSET_SMALL_SIZES);
        level.sums = StorageSums::make(level.memory);
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(before);
        FlushErrorState();
    }
    PG_END_TRY();
    return level.memory != nullptr;
}

void add(Level& level, const Share& share, int sign, CommandId command) noexcept {
    if (!share.owned) return;
    if (!has_memory(level) ||
        !level.sums.add(share.owner, share.bucket_key, int128{sign} * share.bytes, sign, command, command))
        level.lost = true;
}

/// Writes down what a level has changed. Only while a transaction commits.
void write_down(Level& level) {
    if (level.lost || state.lost) {
        write_storage_mark(nullptr, "rows that could not be counted");
        // Who has an older snapshot sees the table as it is now, but not the mark.
        if (level.truncated) lose_storage_transaction();
    } else {
        write_storage_deltas(level.sums);
    }
    level.sums = StorageSums::make(level.memory);
}

void clear(std::size_t keep) noexcept {
    while (state.levels.size() > keep) {
        if (state.levels.back().memory != nullptr) MemoryContextDelete(state.levels.back().memory);
        state.levels.pop_back();
    }
}

void on_transaction(XactEvent event, void* /*argument*/) {
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PRE_PREPARE:
            if (Level* level = state.levels.empty() ? nullptr : &state.levels.front(); level != nullptr) {
                write_down(*level);
            } else if (state.lost) {
                write_storage_mark(nullptr, "rows that could not be counted");
            }
            state.ending = true;
            break;
        case XACT_EVENT_COMMIT:
        case XACT_EVENT_PREPARE:
        case XACT_EVENT_ABORT:
            // Its memory goes with the transaction's.
            state.levels.clear();
            state.lost = state.uncounted = state.ending = false;
            break;
        default:  // parallel workers write nothing
            break;
    }
}

/// What a savepoint changed becomes its parent's.
void release(int nesting) noexcept {
    Level& child = state.levels.back();
    const std::size_t count = state.levels.size();
    if (count < 2 || state.levels[count - 2].nesting != nesting - 1) {
        child.nesting = nesting - 1;
        return;
    }
    Level& parent = state.levels[count - 2];
    if (child.truncated) {
        std::swap(parent, child);
        parent.nesting = nesting - 1;
    } else {
        parent.rows += child.rows;
        parent.lost |= child.lost;
        for (const BucketSum& sum : child.sums) {
            if (!has_memory(parent) ||
                !parent.sums.add(sum.owner(), sum.bucket(), sum.bytes, sum.files, sum.first, sum.last))
                parent.lost = true;
        }
    }
    clear(count - 1);
}

void on_subtransaction(SubXactEvent event, SubTransactionId /*id*/, SubTransactionId /*parent*/,
                       void* /*argument*/) {
    if (state.levels.empty()) return;
    const int nesting = GetCurrentTransactionNestLevel();
    if (event == SUBXACT_EVENT_ABORT_SUB) {
        while (!state.levels.empty() && state.levels.back().nesting >= nesting)
            clear(state.levels.size() - 1);
    } else if (event == SUBXACT_EVENT_COMMIT_SUB && state.levels.back().nesting == nesting) {
        release(nesting);
    }
}

}  // namespace

void count_storage_row(const Share* before, const Share* after, CommandId command) noexcept {
    Level* const level = current_level();
    if (level == nullptr) return;
    ++level->rows;
    if (!pgstat_track_counts) state.uncounted = true;
    const bool is_same = before != nullptr && after != nullptr && before->owned == after->owned &&
                         before->owner == after->owner && before->bucket == after->bucket &&
                         before->bytes == after->bytes;
    if (is_same) return;
    if (before != nullptr) add(*level, *before, -1, command);
    if (after != nullptr) add(*level, *after, 1, command);
    if (state.ending) write_down(*level);
}

void count_storage_truncated(bool done) noexcept {
    Level* const level = current_level();
    if (level == nullptr) return;
    level->rows = 0;
    level->truncated = true;
    level->lost = !done;
    level->sums = StorageSums::make(level->memory);
    if (state.ending) write_down(*level);
}

void lose_storage_row() noexcept {
    Level* const level = current_level();
    if (level == nullptr) return;
    ++level->rows;
    level->lost = true;
    if (state.ending) write_down(*level);
}

bool storage_rows_are_counted(Oid objects) {
    if (!TransactionIdIsValid(GetTopTransactionIdIfAny())) return true;
    // What was written down as it ends is not seen yet by whoever reads still later.
    if (!pgstat_track_counts || state.lost || state.uncounted || state.ending) return false;
    std::int64_t rows = 0;
    for (const Level& level : state.levels) {
        if (level.lost) return false;
        rows += level.rows;
    }
    return rows == pg::written_rows(objects);
}

bool add_storage_pending(StorageSums& sums, const std::string_view* owner, CommandId command) noexcept {
    for (std::size_t i = state.levels.size(); i-- > 0;) {
        const Level& level = state.levels[i];
        for (const BucketSum& sum : level.sums) {
            if (owner != nullptr && sum.owner() != *owner) continue;
            if (command <= sum.first) continue;
            if (command <= sum.last || !sums.add(sum.owner(), sum.bucket(), sum.bytes, sum.files))
                return false;
        }
        if (level.truncated) break;
    }
    return true;
}

bool has_storage_pending(const std::string_view* owner) noexcept {
    for (const Level& level : state.levels) {
        for (const BucketSum& sum : level.sums) {
            if (owner == nullptr || sum.owner() == *owner) return true;
        }
    }
    return false;
}

void init_storage_pending() {
    RegisterXactCallback(on_transaction, nullptr);
    RegisterSubXactCallback(on_subtransaction, nullptr);
}

}  // namespace cache_ext::api
