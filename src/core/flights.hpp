#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/entry.hpp"
#include "core/ref.hpp"
#include "core/spinlock.hpp"

namespace cache_ext::core {

/// How a flight ended for those who waited for it.
enum class Landing : std::uint32_t {
    kNotYet,
    kStored,     ///< the value is there for all
    kNotStored,  ///< there is a value, but it is the leader's alone
    kFailed,     ///< there is none: an error, or the leader's end
};

/// How a session gets a value that is not there.
enum class Boarding : std::uint8_t {
    kLeads,  ///< it computes, and lands the flight whatever comes
    kWaits,  ///< it is told when the leader has landed
    kTaken,  ///< somebody leads, and it must not wait for them, or did not want to
    kAlone,  ///< nobody leads, and it did not want to, or there is no room
};

/// Who computes which missing value, so that of many sessions that miss the same key one computes and the others wait for it.
///
/// A *flight* is one computation under way, known by a 64-bit hash of scope and key: keys that share it wait for one another, and then find
/// nothing. Its leader is a session; who waits stands in the flight's list. A session leads as many flights as its computations nest, and waits for one
/// at a time. Nobody waits where that would close a circle: whoever comes last follows who waits for whom, and finds itself.
///
/// It is bounded: a key whose places are all taken has no flight, and is computed by whoever misses it.
///
/// Locking: one spin lock over everything, for a few dozen instructions at a time, or a few a session where circles are looked for; no other lock is
/// taken within. A landing is read without it.
class Flights {
public:
    static constexpr std::uint32_t kFlights = 1024;

    /// `sessions` seats, all zero.
    void init(Ref seats, std::uint32_t sessions) noexcept {
        seats_ = seats;
        sessions_ = sessions;
    }
    static std::size_t seats_bytes(std::uint32_t sessions) noexcept { return sizeof(Seat) * sessions; }

    struct Passenger {
        std::uint32_t session;  ///< its number in the region
        std::uint32_t process;  ///< by which others can wake it
    };

    /// Leads the flight of a key or, where somebody does, waits for it, as far as one may. `flight` is set where that is so.
    Boarding board(Base base, const Passenger& who, std::uint64_t key, bool may_lead, bool may_wait,
                   std::uint32_t& flight) noexcept;

    /// How the flight that the session waits for has landed.
    Landing landing(Base base, std::uint32_t session) const noexcept {
        return static_cast<Landing>(seat(base, session).landing.load(std::memory_order_acquire));
    }

    /// Waits no longer. How the flight had landed, if it had.
    Landing leave(Base base, std::uint32_t session) noexcept;

    /// The processes of the leader of the flight that the session waits for, of the one that this leader waits for, and so on. How many.
    std::size_t leaders(Base base, std::uint32_t session, std::span<std::uint32_t> processes) noexcept;

    /// By the leader: what has become of it. `wake(process)` is called for each who waits, without the lock.
    template <class Wake>
    void land(Base base, std::uint32_t flight, Landing how, Wake&& wake) noexcept {
        std::uint32_t processes[kBatch];
        std::size_t count = 0;
        do {
            count = land_some(base, flight, how, processes);
            for (std::size_t i = 0; i < count; ++i)
                wake(processes[i]);
        } while (count == kBatch);
    }

    /// What refreshed a key has failed, after `took` microseconds. Kept until another key takes its place.
    void note_failure(std::uint64_t key, Timestamp now, Timestamp took) noexcept;

    /// Whether a key is not to be refreshed yet because that has failed lately: for `least` microseconds, and ten times as long as it took before it failed,
    /// up to a minute.
    bool rests(std::uint64_t key, Timestamp now, Timestamp least) noexcept;

    /// The session is over: it waits for nothing, and what it led has failed.
    template <class Wake>
    void end_session(Base base, std::uint32_t session, Wake&& wake) noexcept {
        leave(base, session);
        for (std::uint32_t at = 0; at < kFlights && leads(base, session); ++at) {
            if (is_led_by(at, session)) land(base, at, Landing::kFailed, wake);
        }
    }

private:
    static constexpr std::uint32_t kProbes = 8;
    static constexpr std::size_t kBatch = 64;
    static constexpr std::uint32_t kFailures = 1024;

    struct Flight {
        std::uint64_t key;
        std::uint32_t leader;   ///< counted from 1; 0 = unused
        std::uint32_t waiting;  ///< the first session that waits, counted from 1
    };
    struct Seat {
        std::uint32_t process;
        std::uint32_t waits_for;  ///< a flight, counted from 1
        std::uint32_t next;       ///< who waits for the same, counted from 1
        std::uint32_t leads;      ///< how many flights
        std::atomic<std::uint32_t> landing;
        std::uint32_t unused;
    };

    struct Failure {
        std::uint64_t key;
        Timestamp at;  ///< 0 = unused
        Timestamp took;
    };

    Seat& seat(Base base, std::uint32_t session) const noexcept { return base.at<Seat>(seats_)[session]; }
    bool leads_to(Base base, std::uint32_t flight, std::uint32_t session) const noexcept;
    bool leads(Base base, std::uint32_t session) noexcept;
    bool is_led_by(std::uint32_t flight, std::uint32_t session) noexcept;
    std::size_t land_some(Base base, std::uint32_t flight, Landing how,
                          std::span<std::uint32_t, kBatch> processes) noexcept;

    SpinLock lock_;
    Ref seats_;
    std::uint32_t sessions_;
    Flight flights_[kFlights];
    Failure failures_[kFailures];  ///< by the key
};

}  // namespace cache_ext::core
