#pragma once

#include <atomic>
#include <cstdint>

#include "core/clock.hpp"
#include "core/entry.hpp"
#include "core/hash.hpp"

namespace cache_ext::core {

/// Which relations cached results depend on, so that only those who write one of them have to tell, and since when they do.
///
/// A relation is known by a hash; relations that share a cell are watched together. Once watched, for ever: nothing is ever taken back.
///
/// What has to hold when watching begins: a transaction that looked at the cell before it was marked, and so will tell nothing, is older than the
/// transaction id that is recorded here. That is why the cell is marked first and the next id is read after: a transaction looks when it already has its
/// id, and both ids are read and given out under one lock of the server, which orders the mark and the look. The cell *ripens* when no snapshot is left
/// for which a transaction below that id may be unfinished; then nobody can tell the silent ones from those who told, and results may be kept.
///
/// Shared, in the region. Locking: none.
class Watches {
public:
    static constexpr std::uint32_t kCells = 4096;

    /// The hash of a relation, by the space of its database's relations and its number there.
    static std::uint64_t hash(const Id128& space, std::uint32_t relation) noexcept {
        return mix(space.hi ^ space.lo, relation);
    }

    /// Whether anything at all is watched.
    bool any() const noexcept { return any_.load(std::memory_order_relaxed); }

    /// Whether who writes this relation has to tell. Asked with an id of one's own, and before one can be visible.
    bool watched(std::uint64_t hash) const noexcept {
        return cell(hash).load(std::memory_order_relaxed) != 0;
    }

    /// Watches the relation if it is not watched yet. The id below which there may be writers who tell nothing; 0: there are none any more.
    /// `next_xid()` reads the server's next transaction id under the lock that gives ids out.
    template <class NextXid>
    FullXid watch(std::uint64_t hash, NextXid&& next_xid) noexcept {
        std::atomic<FullXid>& at = cell(hash);
        FullXid seen = at.load(std::memory_order_acquire);
        if (seen == kRipe) return 0;
        if (seen > kMarked) return seen;
        any_.store(true, std::memory_order_relaxed);
        if (seen == 0) at.compare_exchange_strong(seen, kMarked, std::memory_order_acq_rel);
        const FullXid next = next_xid();
        FullXid expected = kMarked;
        if (at.compare_exchange_strong(expected, next, std::memory_order_acq_rel)) return next;
        return expected == kRipe ? 0 : expected;
    }

    /// Every snapshot that is held, and so every later one, takes those who told nothing for finished. Also where there are none, before the first
    /// transaction: then it watches as well.
    void ripen(std::uint64_t hash) noexcept {
        any_.store(true, std::memory_order_relaxed);
        cell(hash).store(kRipe, std::memory_order_release);
    }

    /// Remembers a database in which something is watched, before the first thing there is: for changes that concern all databases.
    void join(std::uint32_t database) noexcept {
        for (auto& known : databases_) {
            std::uint32_t seen = known.load(std::memory_order_acquire);
            if (seen == 0 && known.compare_exchange_strong(seen, database, std::memory_order_acq_rel)) return;
            if (seen == database) return;
        }
        too_many_.store(true, std::memory_order_release);
    }

    /// Calls `visit(database)` for each that has joined. False: there are more than are remembered.
    template <class Visit>
    bool visit_databases(Visit&& visit) const {
        for (const auto& known : databases_) {
            const std::uint32_t database = known.load(std::memory_order_acquire);
            if (database == 0) break;
            visit(database);
        }
        return !too_many_.load(std::memory_order_acquire);
    }

private:
    static constexpr std::size_t kDatabases = 64;
    static constexpr FullXid kMarked = 1;  // no transaction has this id
    static constexpr FullXid kRipe = UINT64_MAX;

    std::atomic<FullXid>& cell(std::uint64_t hash) noexcept { return cells_[hash % kCells]; }
    const std::atomic<FullXid>& cell(std::uint64_t hash) const noexcept { return cells_[hash % kCells]; }

    std::atomic<bool> any_;
    std::atomic<bool> too_many_;
    std::atomic<std::uint32_t> databases_[kDatabases];  // 0 = free, and so are all after it
    std::atomic<FullXid> cells_[kCells];                // 0 = not watched
};

}  // namespace cache_ext::core
