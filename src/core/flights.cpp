#include "core/flights.hpp"

#include <algorithm>
#include <mutex>

namespace cache_ext::core {

/// Whether the flight's leader waits, itself or by way of others, for a flight of the session's.
bool Flights::leads_to(Base base, std::uint32_t flight, std::uint32_t session) const noexcept {
    for (std::uint32_t hops = 0; hops <= sessions_; ++hops) {
        const std::uint32_t leader = flights_[flight].leader - 1;
        if (leader == session) return true;
        const std::uint32_t next = seat(base, leader).waits_for;
        if (next == 0) return false;
        flight = next - 1;
    }
    return true;  // no way is that long
}

Boarding Flights::board(Base base, const Passenger& who, std::uint64_t key, bool may_lead, bool may_wait,
                        std::uint32_t& flight) noexcept {
    Seat& own = seat(base, who.session);
    const auto home = static_cast<std::uint32_t>(key % kFlights);
    const std::scoped_lock guard(lock_);
    std::uint32_t unused = kFlights;
    for (std::uint32_t i = 0; i < kProbes; ++i) {
        const std::uint32_t at = (home + i) % kFlights;
        Flight& f = flights_[at];
        if (f.leader == 0) {
            if (unused == kFlights) unused = at;
            continue;
        }
        if (f.key != key) continue;
        if (!may_wait || leads_to(base, at, who.session)) return Boarding::kTaken;
        own.process = who.process;
        own.waits_for = at + 1;
        own.next = f.waiting;
        own.landing.store(static_cast<std::uint32_t>(Landing::kNotYet), std::memory_order_relaxed);
        f.waiting = who.session + 1;
        flight = at;
        return Boarding::kWaits;
    }
    if (!may_lead || unused == kFlights) return Boarding::kAlone;
    flights_[unused] = {key, who.session + 1, 0};
    own.process = who.process;
    ++own.leads;
    flight = unused;
    return Boarding::kLeads;
}

Landing Flights::leave(Base base, std::uint32_t session) noexcept {
    Seat& own = seat(base, session);
    const std::scoped_lock guard(lock_);
    if (own.waits_for == 0) return landing(base, session);
    for (std::uint32_t* link = &flights_[own.waits_for - 1].waiting; *link != 0;
         link = &seat(base, *link - 1).next) {
        if (*link != session + 1) continue;
        *link = own.next;
        break;
    }
    own.waits_for = own.next = 0;
    return Landing::kNotYet;
}

std::size_t Flights::leaders(Base base, std::uint32_t session, std::span<std::uint32_t> processes) noexcept {
    const std::scoped_lock guard(lock_);
    std::size_t count = 0;
    for (std::uint32_t flight = seat(base, session).waits_for; flight != 0 && count < processes.size();) {
        const Seat& leader = seat(base, flights_[flight - 1].leader - 1);
        processes[count++] = leader.process;
        flight = leader.waits_for;
    }
    return count;
}

/// Tells a part of those who wait, and ends the flight where nobody is left. Who boards between two parts is told with the next.
std::size_t Flights::land_some(Base base, std::uint32_t flight, Landing how,
                               std::span<std::uint32_t, kBatch> processes) noexcept {
    const std::scoped_lock guard(lock_);
    Flight& f = flights_[flight];
    std::size_t count = 0;
    while (f.waiting != 0 && count < kBatch) {
        Seat& waiting = seat(base, f.waiting - 1);
        processes[count++] = waiting.process;
        f.waiting = waiting.next;
        waiting.waits_for = waiting.next = 0;
        waiting.landing.store(static_cast<std::uint32_t>(how), std::memory_order_release);
    }
    // Exactly as many as there is room for: the next part, which may be empty, ends it.
    if (count < kBatch) {
        --seat(base, f.leader - 1).leads;
        f.leader = 0;
    }
    return count;
}

void Flights::note_failure(std::uint64_t key, Timestamp now, Timestamp took) noexcept {
    const std::scoped_lock guard(lock_);
    failures_[key % kFailures] = {key, now, took};
}

bool Flights::rests(std::uint64_t key, Timestamp now, Timestamp least) noexcept {
    constexpr Timestamp kTimes = 10;
    constexpr Timestamp kLongest = 60'000'000;
    if (least == 0) return false;
    const std::scoped_lock guard(lock_);
    const Failure& failure = failures_[key % kFailures];
    if (failure.at == 0 || failure.key != key) return false;
    const Timestamp rest = std::max(least, std::min(failure.took, kLongest / kTimes) * kTimes);
    // Not longer, whatever becomes of the clock.
    return now >= failure.at && now - failure.at < rest;
}

bool Flights::leads(Base base, std::uint32_t session) noexcept {
    const std::scoped_lock guard(lock_);
    return seat(base, session).leads != 0;
}

bool Flights::is_led_by(std::uint32_t flight, std::uint32_t session) noexcept {
    const std::scoped_lock guard(lock_);
    return flights_[flight].leader == session + 1;
}

}  // namespace cache_ext::core
