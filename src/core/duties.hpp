#pragma once

#include <atomic>
#include <cstdint>

#include "core/entry.hpp"
#include "core/spinlock.hpp"

namespace cache_ext::core {

/// What is known of a database that has entries.
struct Duty {
    Id128 space;
    std::uint32_t database = 0;  ///< the server's number of it; 0 = unused
    Timestamp swept_at = 0;      ///< when it was last swept, or first seen
    Timestamp not_before = 0;    ///< when a worker may be started for it again
    std::uint64_t sweeps = 0;
    std::uint64_t expired = 0;  ///< entries that sweeps removed, in all
    std::uint64_t dead = 0;
};

/// The databases that have entries, and the seats of the workers that look after them. Sessions note their database as they set
/// something; whoever finds that a sweep is due takes a seat and starts a worker, which sits down in it and leaves it as it ends.
///
/// It is bounded: a database that finds no place is not noted. Its entries are swept with those of nobody in particular, without
/// a row in its log, and it is noted as soon as another one has no entries any more.
///
/// Locking: a spin lock of its own over everything; the atomics are what sessions look at without it. No other lock is taken within.
class Duties {
public:
    static constexpr std::int32_t kDatabases = 64;
    static constexpr std::int32_t kSeats = 2;  ///< workers at the same time

    /// How long a worker that was asked for may take to appear, in microseconds, before somebody else may ask.
    static constexpr Timestamp kPatience = 60'000'000;

    void init() noexcept;

    /// Notes that a database has entries, and under which space. Its place; -1: none is free.
    std::int32_t note(const Id128& space, std::uint32_t database, Timestamp now) noexcept;

    /// The place of a space, or -1. Takes no lock.
    std::int32_t find(const Id128& space) const noexcept;

    /// Whether a sweep is due at this place. Takes no lock: `start` looks again.
    bool due(std::int32_t place, Timestamp now, Timestamp interval) const noexcept;

    /// A copy; one without a database where the place is unused.
    Duty get(std::int32_t place) noexcept;

    /// Takes a seat for a worker, if a sweep is due and a seat is free. -1: not now.
    std::int32_t take_seat(std::int32_t place, Timestamp now, Timestamp interval) noexcept;

    /// Takes a seat for a worker in this database, whatever is due there, if one is free. -1: not now.
    std::int32_t take_seat_in(std::uint32_t database, Timestamp now) noexcept;

    /// The worker sits down. False: it came too late, and the seat is somebody else's.
    bool sit_down(std::int32_t seat, std::uint32_t database, std::int32_t pid) noexcept;

    /// The worker is going, or could not be started (`pid` 0).
    void leave(std::int32_t seat, std::int32_t pid) noexcept;

    /// How many workers are there.
    std::int32_t seated() noexcept;

    /// What a sweep did.
    void swept(const Id128& space, std::uint64_t expired, std::uint64_t dead, Timestamp now) noexcept;

    /// There is nothing of this space any more.
    void forget(const Id128& space) noexcept;

    /// The process that looks after all of it; 0 = there is none.
    std::atomic<std::int32_t>& launcher() noexcept { return launcher_; }
    /// Its place among the server's processes, by which it is woken.
    std::atomic<std::int32_t>& launcher_process() noexcept { return launcher_process_; }

private:
    /// Read without the lock: wrong only for a moment while it changes, which whoever acts on it finds out under the lock.
    struct Place {
        std::atomic<std::uint64_t> space_hi;
        std::atomic<std::uint64_t> space_lo;
        std::atomic<Timestamp> swept_at;
        std::atomic<Timestamp> not_before;
        std::atomic<std::uint32_t> database;
        std::uint64_t sweeps;
        std::uint64_t expired;
        std::uint64_t dead;

        bool is(const Id128& space) const noexcept {
            return space_hi.load(std::memory_order_relaxed) == space.hi &&
                   space_lo.load(std::memory_order_relaxed) == space.lo;
        }
    };
    struct Seat {
        Timestamp until;  ///< taken until then; 0 = free
        std::uint32_t database;
        std::int32_t pid;  ///< of the worker; 0 = it has not come yet
    };

    std::int32_t take_free_seat(std::uint32_t database, Timestamp now) noexcept;
    void set(Place& place, const Id128& space, std::uint32_t database, Timestamp now) noexcept;

    SpinLock lock_;
    std::atomic<std::int32_t> launcher_;
    std::atomic<std::int32_t> launcher_process_;
    Seat seats_[kSeats];
    Place places_[kDatabases];
};

}  // namespace cache_ext::core
