#include "pg/flight.hpp"

#include "pg/attach.hpp"
#include "pg/compat.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

namespace cache_ext::pg {

namespace {

/// How long a wait goes on before it is looked whether the leader waits for a lock of this session's, in milliseconds.
constexpr long kLookMs = 100;

/// How many leaders and holders of locks are looked at, from one to the next.
constexpr int kMaxProcesses = 32;

core::Flights& flights() noexcept { return region().flights(); }

std::uint32_t own_number() noexcept { return static_cast<std::uint32_t>(backend_index()); }

core::Flights::Passenger passenger() noexcept {
    return {own_number(), static_cast<std::uint32_t>(process_number())};
}

void wake(std::uint32_t process) noexcept { SetLatch(&ProcGlobal->allProcs[process].procLatch); }

/// The longest wait, in milliseconds.
int patience() noexcept {
    // An interrupt could not end it.
    if (!INTERRUPTS_CAN_BE_PROCESSED()) return 0;
    const int most = settings::single_flight_timeout_ms;
    return StatementTimeout > 0 ? std::min(most, StatementTimeout / 4) : most;
}

/// The processes that a process waits for on account of locks.
ArrayType* blockers_of(int pid) {
    return DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pid)));
}

/// Whether one of those who are waited for waits for a lock that this session holds, or for somebody who does.
bool leader_waits_for_us() {
    std::uint32_t processes[kMaxProcesses];
    const std::size_t leaders = flights().leaders(region().base(), own_number(), processes);
    int pids[kMaxProcesses];
    int count = 0;
    for (std::size_t i = 0; i < leaders; ++i) {
        // Looked at without a lock: who does not wait now may wait at the next look.
        const PGPROC& process = ProcGlobal->allProcs[processes[i]];
        if (process.pid != 0 && (process.waitLock != nullptr || process.lockGroupLeader != nullptr))
            pids[count++] = process.pid;
    }
    if (count == 0) return false;

    const MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext flight", ALLOCSET_DEFAULT_SIZES);
    const MemoryContext outer = MemoryContextSwitchTo(scratch);
    bool found = false;
    for (int at = 0; at < count && !found; ++at) {
        const ArrayType* blockers = blockers_of(pids[at]);
        const int n = ArrayGetNItems(ARR_NDIM(blockers), ARR_DIMS(blockers));
        const auto* blocking = reinterpret_cast<const std::int32_t*>(ARR_DATA_PTR(blockers));
        for (int i = 0; i < n; ++i) {
            found = found || blocking[i] == MyProcPid;
            // A prepared transaction is 0: it waits for nobody.
            if (blocking[i] != 0 && count < kMaxProcesses &&
                std::find(pids, pids + count, blocking[i]) == pids + count)
                pids[count++] = blocking[i];
        }
    }
    MemoryContextSwitchTo(outer);
    MemoryContextDelete(scratch);
    return found;
}

/// Sleeps until the flight has landed. kNotYet: it did not, in time or because it could not.
core::Landing sleep_until_landing(TimestampTz until) {
    const core::Base base = region().base();
    TimestampTz look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kLookMs);
    for (;;) {
        if (const core::Landing how = flights().landing(base, own_number()); how != core::Landing::kNotYet)
            return how;
        const TimestampTz now = GetCurrentTimestamp();
        if (now >= until) return core::Landing::kNotYet;
        if (now >= look_at) {
            if (leader_waits_for_us()) return core::Landing::kNotYet;
            look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), kLookMs);
        }
        const long most = TimestampDifferenceMilliseconds(now, std::min(until, look_at));
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, std::max(most, 1L),
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
}

/// The same, and leaves the flight whatever comes.
core::Landing wait_for_landing(TimestampTz until) {
    core::Landing how = core::Landing::kNotYet;
    PG_TRY();
    { how = sleep_until_landing(until); }
    PG_CATCH();
    {
        flights().leave(region().base(), own_number());
        PG_RE_THROW();
    }
    PG_END_TRY();
    // It may have landed by now.
    return how != core::Landing::kNotYet ? how : flights().leave(region().base(), own_number());
}

}  // namespace

core::Boarding lead_flight(std::uint64_t key, bool may_lead, std::uint32_t& flight) {
    return flights().board(region().base(), passenger(), key, may_lead, false, flight);
}

Arrival join_flight(std::uint64_t key, bool may_lead, std::uint32_t& flight) {
    const int most = patience();
    const TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), std::int64_t{most});
    for (;;) {
        const bool may_wait = most > 0 && GetCurrentTimestamp() < until;
        const core::Boarding boarding =
            flights().board(region().base(), passenger(), key, may_lead, may_wait, flight);
        if (boarding == core::Boarding::kLeads) return Arrival::kLeads;
        if (boarding != core::Boarding::kWaits) return Arrival::kAlone;
        switch (wait_for_landing(until)) {
            case core::Landing::kStored:
                return Arrival::kStored;
            case core::Landing::kFailed:
                continue;  // whoever is first now leads
            case core::Landing::kNotStored:
            case core::Landing::kNotYet:
                return Arrival::kAlone;
        }
    }
}

void land(std::uint32_t flight, core::Landing how) noexcept {
    flights().land(region().base(), flight, how, wake);
}

bool rests(std::uint64_t key) noexcept {
    return settings::refresh_pause_ms > 0 &&
           flights().rests(key, GetCurrentTimestamp(), core::Timestamp{settings::refresh_pause_ms} * 1000);
}

void note_failed_refresh(std::uint64_t key, core::Timestamp begin) noexcept {
    const core::Timestamp now = GetCurrentTimestamp();
    flights().note_failure(key, now, std::max<core::Timestamp>(now - begin, 0));
}

void end_flights() noexcept { flights().end_session(region().base(), own_number(), wake); }

}  // namespace cache_ext::pg
