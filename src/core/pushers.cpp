#include "core/pushers.hpp"

#include <mutex>

namespace cache_ext::core {

const Pushers::Place* Pushers::find(std::uint32_t database) const noexcept {
    for (const Place& place : places_) {
        const std::uint32_t there = place.database.load(std::memory_order_acquire);
        if (there == database) return &place;
        if (there == 0) break;
    }
    return nullptr;
}

/// Under the lock. A place of a database without a pusher is taken over when all are used.
Pushers::Place* Pushers::find_or_take(std::uint32_t database) noexcept {
    Place* vacant = nullptr;
    for (Place& place : places_) {
        const std::uint32_t there = place.database.load(std::memory_order_relaxed);
        if (there == database) return &place;
        if (there == 0) {
            vacant = &place;
            break;
        }
        if (vacant == nullptr && place.pid.load(std::memory_order_relaxed) == 0 &&
            place.lost.load(std::memory_order_relaxed) == 0 &&
            place.writers.load(std::memory_order_relaxed) == 0)
            vacant = &place;
    }
    if (vacant != nullptr) {
        vacant->lost.store(0, std::memory_order_relaxed);
        vacant->not_before = 0;
        vacant->is_wanted = false;
        vacant->report = {};
        vacant->database.store(database, std::memory_order_release);
    }
    return vacant;
}

bool Pushers::has_pusher(std::uint32_t database) const noexcept {
    const Place* place = find(database);
    return place != nullptr && place->pid.load(std::memory_order_acquire) != 0;
}

std::int32_t Pushers::call(std::uint32_t database) noexcept {
    Place* place = find(database);
    if (place == nullptr || place->pid.load(std::memory_order_acquire) == 0) return -1;
    place->is_called.store(true);
    return place->is_awake.load() ? -1 : place->latch.load(std::memory_order_relaxed);
}

bool Pushers::was_called(std::int32_t place) noexcept {
    std::atomic<bool>& is_called = places_[place].is_called;
    return is_called.load(std::memory_order_relaxed) && is_called.exchange(false);
}

void Pushers::stay_awake(std::int32_t place) noexcept { places_[place].is_awake.store(true); }

bool Pushers::fall_asleep(std::int32_t place) noexcept {
    places_[place].is_awake.store(false);
    return !places_[place].is_called.load();
}

std::int32_t Pushers::pid_of(std::uint32_t database) const noexcept {
    const Place* place = find(database);
    return place == nullptr ? 0 : place->pid.load(std::memory_order_relaxed);
}

bool Pushers::claim_start(std::uint32_t database, Timestamp now) noexcept {
    std::lock_guard guard(lock_);
    Place* place = find_or_take(database);
    if (place == nullptr || place->pid.load(std::memory_order_relaxed) != 0) return false;
    // One that lies further ahead than can be is of a clock that was set back since.
    if (now < place->not_before && place->not_before - now <= 6 * kPatience) return false;
    place->not_before = now + kPatience;
    return true;
}

void Pushers::want(std::uint32_t database) noexcept {
    std::lock_guard guard(lock_);
    if (Place* place = find_or_take(database); place != nullptr) place->is_wanted = true;
}

void Pushers::doubt(std::int32_t place) noexcept {
    std::lock_guard guard(lock_);
    places_[place].is_wanted = false;
}

std::int32_t Pushers::sit_down(std::uint32_t database, std::int32_t pid, std::int32_t latch) noexcept {
    std::lock_guard guard(lock_);
    Place* place = find_or_take(database);
    if (place == nullptr || place->pid.load(std::memory_order_relaxed) != 0) return -1;
    place->latch.store(latch, std::memory_order_relaxed);
    place->is_called.store(false, std::memory_order_relaxed);
    place->is_awake.store(false, std::memory_order_relaxed);
    place->pid.store(pid, std::memory_order_release);
    return static_cast<std::int32_t>(place - places_);
}

void Pushers::leave(std::int32_t place, std::int32_t pid, Timestamp moment, bool is_wanted) noexcept {
    std::lock_guard guard(lock_);
    Place& own = places_[place];
    if (own.pid.load(std::memory_order_relaxed) != pid) return;
    own.not_before = moment;
    own.is_wanted = own.is_wanted || is_wanted;
    own.pid.store(0, std::memory_order_release);
}

bool Pushers::begin_write(std::uint32_t database) noexcept {
    std::lock_guard guard(lock_);
    Place* place = find_or_take(database);
    if (place != nullptr) place->writers.fetch_add(1, std::memory_order_seq_cst);
    return place != nullptr;
}

/// Its place was not given away while it was counted.
void Pushers::end_write(std::uint32_t database) noexcept {
    if (Place* place = find(database); place != nullptr)
        place->writers.fetch_sub(1, std::memory_order_seq_cst);
}

std::int32_t Pushers::writers(std::int32_t place) const noexcept {
    return places_[place].writers.load(std::memory_order_seq_cst);
}

void Pushers::touch_takings(std::uint32_t database) noexcept {
    if (Place* place = find(database); place != nullptr)
        place->takings_touched.fetch_add(1, std::memory_order_acq_rel);
}

std::uint32_t Pushers::takings_touched(std::int32_t place) const noexcept {
    return places_[place].takings_touched.load(std::memory_order_acquire);
}

bool Pushers::lose(std::uint32_t database, FullXid xid) noexcept {
    std::lock_guard guard(lock_);
    Place* place = find_or_take(database);
    if (place == nullptr) return false;
    if (place->lost.load(std::memory_order_relaxed) < xid) place->lost.store(xid, std::memory_order_release);
    return true;
}

FullXid Pushers::lost(std::int32_t place) const noexcept {
    return places_[place].lost.load(std::memory_order_acquire);
}

void Pushers::found(std::int32_t place, FullXid xid) noexcept {
    FullXid expected = xid;
    places_[place].lost.compare_exchange_strong(expected, 0, std::memory_order_acq_rel);
}

std::int32_t Pushers::find_vacant(std::int32_t from, std::uint32_t& database, Timestamp& moment) noexcept {
    std::lock_guard guard(lock_);
    for (std::int32_t i = from; i < kDatabases; ++i) {
        const Place& place = places_[i];
        if (!place.is_wanted || place.pid.load(std::memory_order_relaxed) != 0) continue;
        database = place.database.load(std::memory_order_relaxed);
        moment = place.not_before;
        return i;
    }
    return -1;
}

void Pushers::forget(std::int32_t place, std::uint32_t database) noexcept {
    std::lock_guard guard(lock_);
    Place& own = places_[place];
    if (own.database.load(std::memory_order_relaxed) != database ||
        own.pid.load(std::memory_order_relaxed) != 0)
        return;
    own.is_wanted = false;
    own.lost.store(0, std::memory_order_relaxed);
}

void Pushers::report(std::int32_t place, const PushReport& report) noexcept {
    std::lock_guard guard(lock_);
    places_[place].report = report;
}

bool Pushers::read_report(std::uint32_t database, PushReport& report) noexcept {
    std::lock_guard guard(lock_);
    const Place* place = find(database);
    if (place == nullptr || place->report.state[0] == 0) return false;
    report = place->report;
    return true;
}

}  // namespace cache_ext::core
