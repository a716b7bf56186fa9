#include "worker/worker.hpp"

#include "api/storage_recompute.hpp"
#include "api/warm_list.hpp"
#include "pg/attach.hpp"
#include "pg/guard.hpp"
#include "pg/settings.hpp"
#include "pg/snapshot.hpp"
#include "pg/space.hpp"
#include "pg/transaction.hpp"
#include "worker/cleanup.hpp"
#include "worker/launcher.hpp"
#include "worker/pusher.hpp"
#include "worker/queue_keeper.hpp"
#include "worker/warmer.hpp"

extern "C" {
#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

CACHE_EXT_EXPORT void cache_ext_worker_main(Datum argument);

namespace cache_ext::worker {

namespace {

/// How often a session looks whether something is due, at most.
constexpr TimestampTz kLook = USECS_PER_SEC;

constinit bool is_worker = false;
constinit std::int32_t own_seat = -1;

/// This transaction, once it has committed, makes work for who looks after the storage usage.
constinit bool storage_wanted = false;

void leave_seat(int /*code*/, Datum /*argument*/) noexcept {
    if (own_seat >= 0) pg::region().duties().leave(own_seat, MyProcPid);
    own_seat = -1;
}

enum class Task : std::uint8_t {
    kSweep,  ///< and all that is done then
    kWarm,
    kStorage,
    kKeepQueues,
};

/// What a worker is started for.
struct Assignment {
    core::Duty duty;  ///< unless it sweeps, no more than the database is known of it
    Task task;
};
static_assert(sizeof(Assignment) <= BGW_EXTRALEN);

void tend_storage() {
    begin("cache_ext: looking after the storage usage");
    if (!XactReadOnly) api::tend_storage();
    commit();
}

/// What is to be done in the database.
void work(const Assignment& assignment) {
    const core::Duty& duty = assignment.duty;
    begin("cache_ext: looking at the extension");
    const pg::Space space = pg::current_space();
    pg::raise_clock_floor();
    if (space.exists) ensure_pusher();
    commit();

    begin("cache_ext: looking whether Redis is told");
    if (space.exists) note_where_off();
    commit();

    if (assignment.task == Task::kStorage) {
        tend_storage();
        return;
    }
    if (assignment.task == Task::kKeepQueues) {
        if (space.exists) keep_queues();
        return;
    }
    if (assignment.task == Task::kWarm) {
        // Its entries will have to be swept.
        if (space.exists && warm(Warmth::kAll) > 0)
            pg::region().duties().note(id_of(space), duty.database, GetCurrentTimestamp());
        return;
    }
    if (!space.exists || !(id_of(space) == duty.space)) {
        // Dropped, perhaps created anew: what is left of the old one nobody can reach.
        drop_space(duty.space);
        return;
    }

    begin("cache_ext: noting what is used most");
    if (!XactReadOnly) api::note_most_used();
    commit();

    pgstat_report_activity(STATE_RUNNING, "cache_ext: sweeping");
    double duration_ms = 0;
    const core::Swept swept = sweep_space(duty.space, duration_ms);
    if (swept.remaining == 0) pg::region().duties().forget(duty.space);  // noted again with the next set

    begin("cache_ext: writing the cleanup log");
    if (!XactReadOnly) write_log(space, Source::kWorker, swept, duration_ms);
    commit();
    tend_storage();
    (void)warm(Warmth::kStale);
}

/// Starts a worker for a seat that was taken.
Start launch(std::int32_t seat, const Assignment& assignment, std::int32_t notify,
             BackgroundWorkerHandle** handle) noexcept {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = Int32GetDatum(seat);
    worker.bgw_notify_pid = notify;
    std::snprintf(worker.bgw_library_name, BGW_MAXLEN, "cache_ext");
    std::snprintf(worker.bgw_function_name, BGW_MAXLEN, "cache_ext_worker_main");
    std::snprintf(worker.bgw_name, BGW_MAXLEN, "cache_ext worker for database %u", assignment.duty.database);
    std::snprintf(worker.bgw_type, BGW_MAXLEN, "cache_ext worker");
    std::memcpy(worker.bgw_extra, &assignment, sizeof assignment);

    // Nothing in there is known to raise an error; but this is somebody's commit.
    bool registered = false;
    try {
        registered = pg::pg_call([&] { return RegisterDynamicBackgroundWorker(&worker, handle); });
    } catch (...) {
    }
    if (registered) return Start::kStarted;
    pg::region().duties().leave(seat, 0);
    return Start::kNoSlot;
}

/// Where nobody else does, a session's commit starts the worker that the storage usage wants, once in a while.
void start_wanted_for_storage() noexcept {
    static constinit TimestampTz looked_at = 0;
    core::StorageBook& book = pg::region().storage();
    const std::int32_t place = book.place(MyDatabaseId);
    const TimestampTz now = GetCurrentStatementStartTimestamp();
    if (!book.wanted(place) || pg::region().duties().launcher().load(std::memory_order_relaxed) != 0 ||
        (now - looked_at < kLook && now >= looked_at))
        return;
    looked_at = now;
    if (start_for_storage(MyDatabaseId, 0) == Start::kStarted) book.begin_fold(place);
}

/// A session's end of a transaction that has made work for it.
void tell_wanted_for_storage(bool committed) noexcept {
    if (!storage_wanted) return;
    storage_wanted = false;
    if (!committed || !pg::attached()) return;
    core::StorageBook& book = pg::region().storage();
    book.want(book.place(MyDatabaseId));
    wake_for_storage();
}

/// Starts a worker for a task that needs no more than a database.
Start start_for(Oid database, Task task, std::int32_t notify, BackgroundWorkerHandle** handle) noexcept {
    const std::int32_t seat = pg::region().duties().take_seat_in(database, GetCurrentTimestamp());
    if (seat < 0) return Start::kNotNow;
    Assignment assignment{{}, task};
    assignment.duty.database = database;
    return launch(seat, assignment, notify, handle);
}

/// A session's commit: notes the database if there is something of it in the cache, and starts a worker where nobody else does.
void on_transaction(XactEvent event, void* /*argument*/) noexcept {
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
        tell_wanted_for_storage(event == XACT_EVENT_COMMIT);
    if (event != XACT_EVENT_PRE_COMMIT || pg::detail::session == nullptr || is_worker || IsParallelWorker())
        return;
    if (pg::pending().has_invalidations()) ensure_pusher();
    if (!pg::detail::space_valid || !pg::detail::space.exists ||
        pg::detail::disabled->load(std::memory_order_relaxed))
        return;

    start_wanted_for_storage();
    static constinit TimestampTz looked_at = 0;
    static constinit std::uint64_t sets_seen = 0;
    static constinit bool noted = false;
    const std::uint64_t sets = pg::session().counters.get(core::Counter::kSets);
    const bool sets_something = pg::pending().has_sets() || sets != sets_seen;
    const TimestampTz now = GetCurrentStatementStartTimestamp();
    if (now - looked_at < kLook && now >= looked_at && (noted || !sets_something)) return;
    looked_at = now;

    core::Duties& duties = pg::region().duties();
    const core::Id128 space = id_of(pg::detail::space);
    std::int32_t place = duties.find(space);
    const bool is_alone = duties.launcher().load(std::memory_order_relaxed) == 0;
    if (place < 0 && sets_something) {
        place = duties.note(space, MyDatabaseId, now);
        // Nothing of it has been there: what used to be may be wanted again.
        if (is_alone && place >= 0 && pg::settings::warm_rate > 0 && !RecoveryInProgress())
            start_warming(MyDatabaseId, 0);
    }
    sets_seen = sets;
    noted = place >= 0;
    if (noted && is_alone && duties.due(place, now, interval())) start(place, 0);
}

}  // namespace

void set_for_worker(const char* name, const char* value) {
    SetConfigOption(name, value, PGC_SUSET, PGC_S_OVERRIDE);
}

void mark_as_worker() noexcept { is_worker = true; }

void begin(const char* activity) {
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot());
    pgstat_report_activity(STATE_RUNNING, activity);
}

void commit() {
    PopActiveSnapshot();
    CommitTransactionCommand();
    pgstat_report_activity(STATE_IDLE, nullptr);
}

core::Timestamp interval() noexcept { return std::int64_t{pg::settings::cleanup_interval_s} * USECS_PER_SEC; }

Start start(std::int32_t place, std::int32_t notify) noexcept {
    core::Duties& duties = pg::region().duties();
    const std::int32_t seat = duties.take_seat(place, GetCurrentTimestamp(), interval());
    if (seat < 0) return Start::kNotNow;
    return launch(seat, {duties.get(place), Task::kSweep}, notify, nullptr);
}

Start start_warming(Oid database, std::int32_t notify, BackgroundWorkerHandle** handle) noexcept {
    return start_for(database, Task::kWarm, notify, handle);
}

Start start_queue_keeper() noexcept {
    if (!pg::attached() || is_worker) return Start::kNotNow;
    return start_for(MyDatabaseId, Task::kKeepQueues, 0, nullptr);
}

Start start_for_storage(Oid database, std::int32_t notify) noexcept {
    return start_for(database, Task::kStorage, notify, nullptr);
}

void wake_for_storage() noexcept {
    if (!pg::attached()) return;
    core::Duties& duties = pg::region().duties();
    // It may just have gone, and another process have its latch: that one wakes for nothing.
    if (duties.launcher().load(std::memory_order_relaxed) != 0)
        SetLatch(&ProcGlobal->allProcs[duties.launcher_process().load(std::memory_order_relaxed)].procLatch);
}

void want_for_storage() noexcept { storage_wanted = true; }

const char* state() noexcept {
    if (!pg::attached()) return "off";
    core::Duties& duties = pg::region().duties();
    if (duties.seated() > 0) return "running";
    if (duties.launcher().load(std::memory_order_relaxed) != 0) return "idle";
    return max_worker_processes > 0 ? "on demand" : "off";
}

void init_worker() {
    if (process_shared_preload_libraries_in_progress) register_launcher();
    RegisterXactCallback([](XactEvent event, void* argument) { on_transaction(event, argument); }, nullptr);
}

}  // namespace cache_ext::worker

/// The worker. It ends as soon as it is done or told to: a process in a database keeps that from being dropped or copied, for five seconds by waiting and
/// then by an error.
extern "C" void cache_ext_worker_main(Datum argument) {
    using namespace cache_ext;
    using namespace cache_ext::worker;

    // Not the default handler of background workers, which ends the process wherever it is: within the region's lock, say.
    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    mark_as_worker();

    Assignment assignment;
    std::memcpy(&assignment, MyBgworkerEntry->bgw_extra, sizeof assignment);
    const core::Duty& duty = assignment.duty;
    BackgroundWorkerInitializeConnectionByOid(duty.database, InvalidOid, 0);
    pgstat_report_appname("cache_ext worker");

    // It waits for nobody: no lock, no standby, no disk.
    set_for_worker("lock_timeout", "1s");
    set_for_worker("synchronous_commit", "off");
    set_for_worker("default_transaction_read_only", "off");
    set_for_worker("default_transaction_isolation", "read committed");

    if (!pg::attached() || !pg::region().duties().sit_down(DatumGetInt32(argument), duty.database, MyProcPid))
        proc_exit(0);
    own_seat = DatumGetInt32(argument);
    before_shmem_exit(leave_seat, Datum{0});
    work(assignment);
    proc_exit(0);
}
