#include "worker/launcher.hpp"

#include "api/context.hpp"
#include "pg/attach.hpp"
#include "pg/compat.hpp"
#include "pg/guard.hpp"
#include "pg/replication.hpp"
#include "worker/cleanup.hpp"
#include "worker/pusher.hpp"
#include "worker/warmer.hpp"
#include "worker/worker.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/backend_status.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

CACHE_EXT_EXPORT void cache_ext_launcher_main(Datum argument);

namespace cache_ext::worker {

namespace {

/// Seconds until the postmaster starts the launcher again after it was ended.
constexpr int kRestartSeconds = 5;

/// How soon it looks again when a worker was wanted and both seats were taken, in milliseconds; and the least and most that it sleeps.
constexpr std::int64_t kBusyMs = 1000;
constexpr std::int64_t kLeastMs = 100;
constexpr std::int64_t kMostMs = 3'600'000;

void forget_launcher(int /*code*/, Datum /*argument*/) noexcept {
    std::int32_t own = MyProcPid;
    pg::region().duties().launcher().compare_exchange_strong(own, 0);
}

/// What there is of each database.
struct Survey {
    std::uint64_t entries[core::Duties::kDatabases] = {};
    std::uint64_t removable[core::Duties::kDatabases] = {};
    std::uint64_t used[core::Duties::kDatabases] =
        {};  ///< results of cached functions that a worker may note
};

/// Looks through all entries; what is of no database that is known and could be removed is.
void look_through(Survey& survey) {
    core::Store& store = pg::region().store();
    const core::Duties& duties = pg::region().duties();
    const core::Base base = pg::region().base();
    const TimestampTz now = GetCurrentTimestamp();
    core::Swept nobodys;
    for (std::uint32_t bucket = 0; bucket < store.bucket_count(); ++bucket) {
        if (bucket % 256 == 0) CHECK_FOR_INTERRUPTS();
        bool homeless = false;
        store.visit(base, bucket, [&](const core::EntryInfo& e) {
            const bool removable = e.dead || e.gone_at() <= now;
            const std::int32_t place = duties.find(e.space);
            if (place < 0) {
                homeless = homeless || removable;
            } else {
                ++survey.entries[place];
                survey.removable[place] += removable ? 1 : 0;
                survey.used[place] +=
                    !e.is_private && e.hits > 0 && e.key.starts_with(api::kFunctionKeys) ? 1 : 0;
            }
        });
        if (homeless)
            core::sweep_bucket(pg::region(), bucket, now, nobodys,
                               [&](const core::EntryInfo& e) { return duties.find(e.space) < 0; });
    }
    pg::session().counters.add(core::Counter::kExpired, nobodys.expired);
}

enum class Database : std::uint8_t { kGone, kClosed, kOpen };

/// Whether a database is still there, and whether it takes connections. From the catalog that all databases share.
Database look_database_up(std::uint32_t oid) {
    Database result = Database::kGone;
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    Relation catalog = table_open(DatabaseRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_database_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(oid));
    // The heap: an index cannot be opened before a database has been.
    SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, nullptr, 1, &key);
    if (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple)) {
        result = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple))->datallowconn ? Database::kOpen
                                                                                    : Database::kClosed;
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    PopActiveSnapshot();
    CommitTransactionCommand();
    return result;
}

bool is_there(std::uint32_t database) { return look_database_up(database) != Database::kGone; }

/// Sees to one database whose sweep is due. False: it has to wait for a seat.
bool attend(std::int32_t place, const Survey& survey) {
    core::Duties& duties = pg::region().duties();
    const core::Duty duty = duties.get(place);
    if (duty.database == 0) return true;
    if (survey.entries[place] == 0) {
        duties.forget(duty.space);
        return true;
    }
    const Database database = look_database_up(duty.database);
    if (database == Database::kGone) {
        drop_space(duty.space);
        return true;
    }
    if (survey.removable[place] == 0 && survey.used[place] == 0) {
        duties.swept(duty.space, 0, 0, GetCurrentTimestamp());
        return true;
    }
    if (database == Database::kOpen) {
        switch (start(place, MyProcPid)) {
            case Start::kStarted:
                return true;
            case Start::kNotNow:
                return false;
            case Start::kNoSlot:
                break;
        }
    }
    // No connection to be had: the memory is what matters, and that needs none. The log lacks a row.
    double duration_ms = 0;
    sweep_space(duty.space, duration_ms);
    return true;
}

/// Sees to whatever is due; how long to sleep after it, in milliseconds.
std::int64_t attend_to_all() {
    core::Duties& duties = pg::region().duties();
    const auto any_due = [&duties] {
        const TimestampTz now = GetCurrentTimestamp();
        for (std::int32_t i = 0; i < core::Duties::kDatabases; ++i) {
            if (duties.due(i, now, interval())) return true;
        }
        return false;
    };

    std::int64_t sleep = std::min(interval() / 1000, kMostMs);
    if (any_due()) {
        pgstat_report_activity(STATE_RUNNING, "cache_ext: looking for databases to sweep");
        Survey survey;
        look_through(survey);
        for (std::int32_t i = 0; i < core::Duties::kDatabases; ++i) {
            if (duties.due(i, GetCurrentTimestamp(), interval()) && !attend(i, survey))
                sleep = std::min(sleep, kBusyMs);
        }
        pgstat_report_activity(STATE_IDLE, nullptr);
    }
    // Who sets for the first time while this sleeps is due no sooner than an interval later, by when this is awake.
    const TimestampTz now = GetCurrentTimestamp();
    for (std::int32_t i = 0; i < core::Duties::kDatabases; ++i) {
        const core::Duty duty = duties.get(i);
        if (duty.database == 0) continue;
        const std::int64_t left = (std::max(duty.swept_at + interval(), duty.not_before) - now) / 1000;
        sleep = std::min(sleep, std::max(left, std::int64_t{0}));
    }
    return std::max(sleep, kLeastMs);
}

/// Starts workers where storage usage wants one; how long to sleep after it, in milliseconds.
std::int64_t attend_to_storage() {
    core::StorageBook& book = pg::region().storage();
    std::int64_t sleep = kMostMs;
    for (std::int32_t i = 0; i < core::StorageBook::kDatabases; ++i) {
        if (book.database(i) == 0 || !book.wanted(i)) continue;
        if (start_for_storage(book.database(i), MyProcPid) == Start::kStarted) {
            book.begin_fold(i);
        } else {
            sleep = kBusyMs;
        }
    }
    return sleep;
}

}  // namespace

void register_launcher() {
    BackgroundWorker launcher{};
    // A connection to no database in particular: it lets the launcher read which databases there are.
    launcher.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    launcher.bgw_start_time = BgWorkerStart_RecoveryFinished;
    launcher.bgw_restart_time = kRestartSeconds;
    std::snprintf(launcher.bgw_library_name, BGW_MAXLEN, "cache_ext");
    std::snprintf(launcher.bgw_function_name, BGW_MAXLEN, "cache_ext_launcher_main");
    std::snprintf(launcher.bgw_name, BGW_MAXLEN, "cache_ext launcher");
    std::snprintf(launcher.bgw_type, BGW_MAXLEN, "cache_ext launcher");
    RegisterBackgroundWorker(&launcher);
}

}  // namespace cache_ext::worker

extern "C" void cache_ext_launcher_main(Datum /*argument*/) {
    using namespace cache_ext;
    using namespace cache_ext::worker;

    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    pgstat_report_appname("cache_ext launcher");
    // Without a region there is nothing to do for it, ever: not to be started again.
    if (!pg::attached()) proc_exit(0);
    pg::region().duties().launcher_process().store(pg::process_number());
    pg::region().duties().launcher().store(MyProcPid);
    before_shmem_exit(forget_launcher, Datum{0});

    while (!ShutdownRequestPending) {
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
        const std::int64_t sleep =
            std::min({pg::adjust_logging(), attend_to_all(), attend_to_warming(kBusyMs, kMostMs),
                      attend_to_storage(), attend_to_pushers(kMostMs, is_there)});
        WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, static_cast<long>(sleep),
                  PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    // 1, so that the postmaster starts it again if it is not itself ending.
    proc_exit(1);
}
