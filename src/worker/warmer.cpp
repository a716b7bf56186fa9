#include "worker/warmer.hpp"

#include "api/warming.hpp"
#include "pg/attach.hpp"
#include "pg/settings.hpp"
#include "worker/worker.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/lock.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
}

namespace cache_ext::worker {

namespace {

/// The longest computation, in milliseconds: below the five seconds for which whoever drops or copies a database waits for others to leave it.
constexpr int kLongestMs = 4000;

/// The longest stay in a database.
constexpr TimestampTz kLongestStay = 300 * USECS_PER_SEC;

/// How often the launcher tries to start a worker in a database while the server has none to give.
constexpr int kTries = 30;

/// Computes one within its time.
api::Warmed warm_in_time(api::WarmPlan& plan, int number) {
    enable_timeout_after(STATEMENT_TIMEOUT, kLongestMs);
    const api::Warmed result = api::warm_one(plan, number, LOG);
    disable_timeout(STATEMENT_TIMEOUT, false);
    // It may have gone off at the very end.
    QueryCancelPending = false;
    return result;
}

/// The launcher's list of databases, and where it has got to.
struct Round {
    Oid* databases;
    int count;
    int next;
    int tries;
    bool has_begun;
    BackgroundWorkerHandle* worker;
};
constinit Round round{};

/// Lists the databases that take connections; nobody computes in a template.
void begin_round() {
    round.has_begun = true;
    begin("cache_ext: looking for databases to warm");
    int capacity = 0;
    Relation catalog = table_open(DatabaseRelationId, AccessShareLock);
    // The heap: an index cannot be opened before a database has been.
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        const auto* row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        if (!row->datallowconn || row->datistemplate) continue;
        if (round.count == capacity) {
            capacity = 2 * capacity + 16;
            const Size bytes = sizeof(Oid) * static_cast<Size>(capacity);
            round.databases =
                static_cast<Oid*>(round.databases == nullptr ? MemoryContextAlloc(TopMemoryContext, bytes)
                                                             : repalloc(round.databases, bytes));
        }
        round.databases[round.count++] = row->oid;
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    commit();
}

bool is_running(BackgroundWorkerHandle* worker) {
    pid_t pid = 0;
    const BgwHandleStatus status = GetBackgroundWorkerPid(worker, &pid);
    return status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED;
}

}  // namespace

/// Those lock it first.
bool is_wanted_by_others() {
    LOCKTAG tag;
    SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
    if (LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL) return true;
    LockRelease(&tag, RowExclusiveLock, false);
    return false;
}

int warm(Warmth which) {
    if (pg::settings::warm_rate == 0) return 0;
    MemoryContext memory =
        AllocSetContextCreate(TopMemoryContext, "cache_ext warming plan", ALLOCSET_DEFAULT_SIZES);
    begin("cache_ext: choosing what to warm");
    MemoryContextSwitchTo(memory);
    api::WarmPlan plan = api::plan_warming(which == Warmth::kStale);
    commit();

    const TimestampTz until = GetCurrentTimestamp() + kLongestStay;
    api::WarmPace pace;
    int computed = 0;
    for (int i = 0; i < plan.keys.count() && GetCurrentTimestamp() < until; ++i) {
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
        if (pg::settings::warm_rate == 0) break;
        begin("cache_ext: warming");
        const bool is_wanted = is_wanted_by_others();
        pace.start();
        const api::Warmed result = is_wanted ? api::Warmed::kNotDue : warm_in_time(plan, i);
        commit();
        if (is_wanted) break;
        if (result == api::Warmed::kNotDue) continue;
        computed += result == api::Warmed::kComputed ? 1 : 0;
        pace.wait();
    }
    MemoryContextDelete(memory);
    return computed;
}

std::int64_t attend_to_warming(std::int64_t busy_ms, std::int64_t most_ms) {
    if (!round.has_begun) begin_round();
    if (round.worker != nullptr) {
        if (is_running(round.worker)) return busy_ms;
        pfree(round.worker);
        round.worker = nullptr;
    }
    // With nothing to warm too: the worker sees to it that Redis is told what is left from before.
    while (round.next < round.count) {
        MemoryContext outer = MemoryContextSwitchTo(TopMemoryContext);
        const Start started = start_warming(round.databases[round.next], MyProcPid, &round.worker);
        MemoryContextSwitchTo(outer);
        if (started == Start::kNoSlot && ++round.tries >= kTries) {
            ++round.next;
            round.tries = 0;
            continue;
        }
        if (started == Start::kStarted) {
            ++round.next;
            round.tries = 0;
        }
        return busy_ms;
    }
    return most_ms;
}

}  // namespace cache_ext::worker
