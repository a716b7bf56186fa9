#include "core/duties.hpp"

#include <algorithm>
#include <mutex>

namespace cache_ext::core {

namespace {

/// Whether a moment has come. One that lies further ahead than can be is of a clock that was set back since.
bool reached(Timestamp moment, Timestamp now, Timestamp furthest) noexcept {
    return now >= moment || moment - now > furthest;
}

}  // namespace

void Duties::init() noexcept {
    launcher_.store(0, std::memory_order_relaxed);
    for (Seat& seat : seats_)
        seat = {0, 0, 0};
    for (Place& place : places_)
        set(place, {}, 0, 0);
}

void Duties::set(Place& place, const Id128& space, std::uint32_t database, Timestamp now) noexcept {
    place.space_hi.store(space.hi, std::memory_order_relaxed);
    place.space_lo.store(space.lo, std::memory_order_relaxed);
    place.swept_at.store(now, std::memory_order_relaxed);
    place.not_before.store(now, std::memory_order_relaxed);
    place.database.store(database, std::memory_order_relaxed);
    place.sweeps = 0;
    place.expired = 0;
    place.dead = 0;
}

std::int32_t Duties::find(const Id128& space) const noexcept {
    for (std::int32_t i = 0; i < kDatabases; ++i) {
        if (places_[i].database.load(std::memory_order_relaxed) != 0 && places_[i].is(space)) return i;
    }
    return -1;
}

std::int32_t Duties::note(const Id128& space, std::uint32_t database, Timestamp now) noexcept {
    std::lock_guard guard(lock_);
    std::int32_t free = -1;
    for (std::int32_t i = 0; i < kDatabases; ++i) {
        const std::uint32_t there = places_[i].database.load(std::memory_order_relaxed);
        if (there == database) {
            // The extension was created anew.
            if (!places_[i].is(space)) set(places_[i], space, database, now);
            return i;
        }
        if (there == 0 && free < 0) free = i;
    }
    if (free >= 0) set(places_[free], space, database, now);
    return free;
}

bool Duties::due(std::int32_t place, Timestamp now, Timestamp interval) const noexcept {
    const Place& p = places_[place];
    const Timestamp swept_at = p.swept_at.load(std::memory_order_relaxed);
    return p.database.load(std::memory_order_relaxed) != 0 && reached(swept_at + interval, now, interval) &&
           reached(p.not_before.load(std::memory_order_relaxed), now, kPatience);
}

Duty Duties::get(std::int32_t place) noexcept {
    std::lock_guard guard(lock_);
    const Place& p = places_[place];
    Duty duty;
    duty.space = {p.space_hi.load(std::memory_order_relaxed), p.space_lo.load(std::memory_order_relaxed)};
    duty.database = p.database.load(std::memory_order_relaxed);
    duty.swept_at = p.swept_at.load(std::memory_order_relaxed);
    duty.not_before = p.not_before.load(std::memory_order_relaxed);
    duty.sweeps = p.sweeps;
    duty.expired = p.expired;
    duty.dead = p.dead;
    return duty;
}

/// Under the lock. Never a second one in the same database.
std::int32_t Duties::take_free_seat(std::uint32_t database, Timestamp now) noexcept {
    std::int32_t free = -1;
    for (std::int32_t i = 0; i < kSeats; ++i) {
        const Seat& seat = seats_[i];
        const bool taken = seat.pid != 0 || (seat.until != 0 && !reached(seat.until, now, kPatience));
        if (taken && seat.database == database) return -1;
        if (!taken) free = i;
    }
    if (free >= 0) seats_[free] = {now + kPatience, database, 0};
    return free;
}

std::int32_t Duties::take_seat_in(std::uint32_t database, Timestamp now) noexcept {
    std::lock_guard guard(lock_);
    return take_free_seat(database, now);
}

std::int32_t Duties::take_seat(std::int32_t place, Timestamp now, Timestamp interval) noexcept {
    std::lock_guard guard(lock_);
    if (!due(place, now, interval)) return -1;
    Place& p = places_[place];
    const std::int32_t free = take_free_seat(p.database.load(std::memory_order_relaxed), now);
    if (free < 0) return -1;
    p.not_before.store(now + std::min(interval, kPatience), std::memory_order_relaxed);
    return free;
}

bool Duties::sit_down(std::int32_t seat, std::uint32_t database, std::int32_t pid) noexcept {
    if (seat < 0 || seat >= kSeats) return false;
    std::lock_guard guard(lock_);
    Seat& s = seats_[seat];
    if (s.until == 0 || s.database != database || s.pid != 0) return false;
    s.pid = pid;
    return true;
}

void Duties::leave(std::int32_t seat, std::int32_t pid) noexcept {
    std::lock_guard guard(lock_);
    if (seats_[seat].pid == pid) seats_[seat] = {0, 0, 0};
}

std::int32_t Duties::seated() noexcept {
    std::lock_guard guard(lock_);
    std::int32_t count = 0;
    for (const Seat& seat : seats_)
        count += seat.pid != 0 ? 1 : 0;
    return count;
}

void Duties::swept(const Id128& space, std::uint64_t expired, std::uint64_t dead, Timestamp now) noexcept {
    std::lock_guard guard(lock_);
    for (Place& p : places_) {
        if (p.database.load(std::memory_order_relaxed) == 0 || !p.is(space)) continue;
        p.swept_at.store(now, std::memory_order_relaxed);
        p.not_before.store(now, std::memory_order_relaxed);
        ++p.sweeps;
        p.expired += expired;
        p.dead += dead;
    }
}

void Duties::forget(const Id128& space) noexcept {
    std::lock_guard guard(lock_);
    for (Place& p : places_) {
        if (p.is(space)) set(p, {}, 0, 0);
    }
}

}  // namespace cache_ext::core
