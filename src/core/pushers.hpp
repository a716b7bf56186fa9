#pragma once

#include <atomic>
#include <cstdint>

#include "core/clock.hpp"
#include "core/entry.hpp"
#include "core/spinlock.hpp"

namespace cache_ext::core {

/// What a pusher tells of itself. Texts end with a zero byte.
struct PushReport {
    char state[16];  ///< "up", "connecting", …; empty: no pusher has said anything yet
    char server[160];
    char last_error[240];
    Timestamp last_error_at;
    Timestamp up_since;          ///< 0 = it is not
    std::uint64_t sequence;      ///< of the last message
    std::uint64_t rows_sent;     ///< of the outbox, since the region was made
    std::uint64_t keys_deleted;  ///< that were there, likewise
    std::uint64_t values_put;
    std::uint64_t messages_received;
    std::uint64_t backlog_rows;  ///< when it last counted
    std::uint64_t compactions;   ///< times that a backlog was made smaller
    std::uint64_t round_trip_us;
    std::uint32_t listening;  ///< 1: what others invalidate arrives here
};

/// The processes that tell Redis what was invalidated: one a database where that is on. Sessions wake them when a commit has left them something to
/// send, and have one started where there is none.
///
/// It is bounded: a database that finds no place has no pusher, and what it wants to tell waits in its outbox.
///
/// Locking: a spin lock of its own over everything; the atomics are what sessions look at without it. No other lock is taken within. Who calls may meet a place that is just
/// given to another database: that one's pusher looks once for nothing. One that dies awake leaves its mark there, which whoever sits down next takes away.
class Pushers {
public:
    static constexpr std::int32_t kDatabases = 32;

    /// How long a pusher that was asked for may take to appear, in microseconds, before somebody else may ask.
    static constexpr Timestamp kPatience = 10'000'000;

    /// Whether it has a pusher. Takes no lock.
    [[nodiscard]] bool has_pusher(std::uint32_t database) const noexcept;

    /// There is something for its pusher to look at. By which that has to be woken: the number that it gave; -1: it is awake and looks by itself, or there is none. To wake a
    /// process is by far the dearest part of telling it, for the caller too. Takes no lock.
    [[nodiscard]] std::int32_t call(std::uint32_t database) noexcept;

    /// The pusher's side. Whether it was called since it asked last.
    [[nodiscard]] bool was_called(std::int32_t place) noexcept;

    /// It stays awake: it will ask before long.
    void stay_awake(std::int32_t place) noexcept;

    /// It is about to sleep, as in the beginning: who calls from now on wakes it. False: somebody has called already.
    [[nodiscard]] bool fall_asleep(std::int32_t place) noexcept;

    /// Whether the caller is to start a pusher for this database: there is none, and nobody has asked for one of late.
    bool claim_start(std::uint32_t database, Timestamp now) noexcept;

    /// Somebody wants one, whatever the one that may just be going has found.
    void want(std::uint32_t database) noexcept;

    /// It is about to look whether it is still wanted.
    void doubt(std::int32_t place) noexcept;

    /// A pusher is there, which others wake by `latch`. Its place; -1: there is one already, or no room.
    std::int32_t sit_down(std::uint32_t database, std::int32_t pid, std::int32_t latch) noexcept;

    /// It is going; nobody is to start another one before that moment, and then somebody is, if one `is_wanted`, or somebody has said so since it began to doubt.
    void leave(std::int32_t place, std::int32_t pid, Timestamp not_before, bool is_wanted) noexcept;

    /// The first database from `from` on that wants a pusher and has none: its number, and when one may be started. -1: there is none.
    std::int32_t find_vacant(std::int32_t from, std::uint32_t& database, Timestamp& not_before) noexcept;

    /// The database is no more.
    void forget(std::int32_t place, std::uint32_t database) noexcept;

    /// The process, or 0.
    std::int32_t pid_of(std::uint32_t database) const noexcept;

    /// Whether there is, or has been, a pusher for this database, or somebody wanted one. Takes no lock.
    [[nodiscard]] bool knows(std::uint32_t database) const noexcept { return find(database) != nullptr; }

    /// A transaction's part could not be kept in the outbox: as soon as it is over, everything is to be told. Where there is no room to note it,
    /// false.
    bool lose(std::uint32_t database, FullXid xid) noexcept;

    /// The newest transaction of which that was said; 0: none, or it was taken note of.
    FullXid lost(std::int32_t place) const noexcept;

    /// Everything has been told, after this transaction was over.
    void found(std::int32_t place, FullXid xid) noexcept;

    /// A transaction is about to take a number for the outbox; false: that could not be noted. It is over; only where it was noted. How many are under way.
    bool begin_write(std::uint32_t database) noexcept;
    void end_write(std::uint32_t database) noexcept;
    std::int32_t writers(std::int32_t place) const noexcept;

    /// A transaction is over, or a part of it was rolled back, that had taken items from Redis; or one is about to take some. How often that was said; any number to begin with.
    void touch_takings(std::uint32_t database) noexcept;
    std::uint32_t takings_touched(std::int32_t place) const noexcept;

    void report(std::int32_t place, const PushReport& report) noexcept;

    /// What the pusher of this database told last, be it there or gone. False: nothing.
    bool read_report(std::uint32_t database, PushReport& report) noexcept;

private:
    struct Place {
        std::atomic<std::uint32_t> database;  // 0 = never used
        std::atomic<std::int32_t> pid;        // 0 = no pusher
        std::atomic<std::int32_t> latch;
        // Either the caller sees that it sleeps, or it sees that it was called: each writes the one before it reads the other.
        std::atomic<bool> is_called;
        std::atomic<bool> is_awake;
        std::atomic<std::int32_t> writers;
        std::atomic<FullXid> lost;
        std::atomic<std::uint32_t> takings_touched;
        Timestamp not_before;
        bool is_wanted;
        PushReport report;
    };

    const Place* find(std::uint32_t database) const noexcept;
    Place* find(std::uint32_t database) noexcept {
        return const_cast<Place*>(static_cast<const Pushers*>(this)->find(database));
    }
    Place* find_or_take(std::uint32_t database) noexcept;

    SpinLock lock_;
    Place places_[kDatabases];
};

}  // namespace cache_ext::core
