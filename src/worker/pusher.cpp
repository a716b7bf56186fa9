#include "worker/pusher.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "pg/append.hpp"
#include "pg/attach.hpp"
#include "pg/compat.hpp"
#include "pg/guard.hpp"
#include "pg/redis_settings.hpp"
#include "pg/space.hpp"
#include "pg/subtransaction.hpp"
#include "pg/wait_set.hpp"
#include "worker/push_session.hpp"
#include "worker/warmer.hpp"
#include "worker/worker.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
}

CACHE_EXT_EXPORT void cache_ext_pusher_main(Datum argument);

namespace cache_ext::worker {

namespace {

using redis::TimePoint;
using std::chrono::milliseconds;

/// How long others leave a database alone that somebody wanted to drop or copy, or in which something went wrong.
constexpr TimestampTz kAway = 10 * USECS_PER_SEC;
constexpr TimestampTz kRetry = USECS_PER_SEC;

/// The same trouble is told at most so often.
constexpr TimestampTz kComplainEvery = 60 * USECS_PER_SEC;

constexpr milliseconds kLookEvery{1000};
constexpr milliseconds kShortenEvery{5000};

/// From one look at the outbox to the next, at least: where many write, each look finds the rows of several.
constexpr std::chrono::microseconds kTurnEvery{500};

/// For so long after it was called it stays awake and asks each kTurnEvery whether it was called again: nobody has to wake it then.
constexpr milliseconds kAwake{100};

/// How often it looks, as it starts, whether it is to send, before it goes again.
constexpr int kFirstLooks = 5;

constinit std::int32_t own_place = -1;
constinit TimestampTz away = kRetry;
constinit bool is_wanted = true;  // another one is to be started when this one has ended

void leave_place(int /*code*/, Datum /*argument*/) noexcept {
    if (own_place >= 0)
        pg::region().pushers().leave(own_place, MyProcPid, GetCurrentTimestamp() + away, is_wanted);
    own_place = -1;
}

TimePoint now() noexcept { return std::chrono::steady_clock::now(); }

/// Tells the log, which need not know each second that it is still so.
void complain(const char* what) noexcept {
    static constinit TimestampTz told_at = 0;
    static constinit char told[200] = "";
    const TimestampTz moment = GetCurrentTimestamp();
    if (moment - told_at < kComplainEvery && std::strncmp(told, what, sizeof told - 1) == 0) return;
    told_at = moment;
    std::snprintf(told, sizeof told, "%s", what);
    ereport(LOG, (errmsg("could not send invalidations to Redis: %s", what)));
}

/// Runs `body` in a transaction. False: it failed, which the log tells, and nothing of it was done.
template <class Body>
bool in_transaction(const char* activity, Body&& body) {
    try {
        pg::pg_call([&] { begin(activity); });
        body();
        pg::pg_call([] { commit(); });
        return true;
    } catch (const pg::PgError& error) {
        const int code = error.sqlstate();
        complain(error.what());
        pg::pg_call([] { AbortCurrentTransaction(); });
        if (code == ERRCODE_ADMIN_SHUTDOWN) proc_exit(0);
    } catch (const std::exception& error) {
        complain(error.what());
        pg::pg_call([] { AbortCurrentTransaction(); });
    }
    return false;
}

/// Sleeps until something may have changed.
void nap() {
    pg::pg_call([] {
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kLookEvery.count(),
                        PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    });
}

enum class Look : std::uint8_t { kFailed, kOff, kOn };

/// Whatever is invalidated from now on goes into no outbox.
void forget_completeness() {
    PushState state = read_push_state();
    if (!state.complete) return;
    state.complete = false;
    write_push_state(state);
}

/// What holds here at present.
Look look_at_settings(pg::RedisSettings& settings) {
    Look look = Look::kOff;
    const bool read = in_transaction("cache_ext: reading the settings", [&] {
        const bool exists = pg::pg_call([] { return pg::current_space().exists; });
        if (!exists) return;
        settings = pg::redis_settings();
        if (settings.enabled) {
            look = Look::kOn;
            return;
        }
        pg::pg_call([] { forget_completeness(); });
    });
    return read ? look : Look::kFailed;
}

/// Whether another look at the settings is due: they changed in the configuration or in the table.
class SettingsWatch {
public:
    bool changed() {
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            pg::pg_call([] { ProcessConfigFile(PGC_SIGHUP); });
            return true;
        }
        const std::uint32_t seen = pg::redis_settings_changes();
        return std::exchange(seen_, seen) != seen;
    }

private:
    std::uint32_t seen_ = pg::redis_settings_changes();
};

/// Whether it sleeps, or stays awake for a while since it was called.
class Attention {
public:
    Attention() = default;
    Attention(const Attention&) = delete;
    Attention& operator=(const Attention&) = delete;
    ~Attention() { (void)pushers().fall_asleep(own_place); }

    /// Whether somebody has called since.
    bool was_called() {
        if (!pushers().was_called(own_place)) return false;
        pushers().stay_awake(own_place);
        is_awake_ = true;
        until_ = now() + kAwake;
        return true;
    }

    /// Whether it has to ask before long, and is not to sleep.
    bool is_awake() {
        if (is_awake_ && now() >= until_) is_awake_ = !pushers().fall_asleep(own_place);
        return is_awake_;
    }

private:
    static core::Pushers& pushers() noexcept { return pg::region().pushers(); }

    bool is_awake_ = false;
    TimePoint until_{};
};

enum class End : std::uint8_t { kSettings, kFailure, kWanted };

/// Sends until the settings change, something fails, or somebody wants the database for himself.
End run(pg::RedisSettings settings, SettingsWatch& watch) {
    PushSession session(std::move(settings), own_place);
    pg::WaitSet set;
    TimePoint look_at{};
    TimePoint turned_at{};
    std::span<const redis::Ready> ready;
    Attention attention;
    bool woken = true;
    for (;;) {
        // Only where it was seen to be set: somebody may have set it since.
        if (std::exchange(woken, false)) {
            pg::pg_call([] {
                ResetLatch(MyLatch);
                CHECK_FOR_INTERRUPTS();
            });
            session.expect_rows();
        }
        if (attention.was_called()) session.expect_rows();
        session.service(ready, now());
        if (session.wants_turn(now())) {
            // What is committed until then is found by the same look; nobody wakes it for that.
            for (const TimePoint due = turned_at + kTurnEvery; now() < due;)
                session.service(set.wait_for_sockets(session.driven(), due), now());
            turned_at = now();
            // Changed settings are noticed as the transaction begins, and hold for what it sends.
            bool changed = false;
            const bool done = in_transaction("cache_ext: sending invalidations to Redis", [&] {
                changed = watch.changed();
                if (!changed) session.turn(now());
            });
            if (!done) return End::kFailure;
            if (changed) return End::kSettings;
            session.service({}, now());
        }
        if (session.has_mail() &&
            !in_transaction("cache_ext: invalidating what Redis tells", [&] { session.read_mail(); }))
            return End::kFailure;
        if (now() >= look_at) {
            look_at = now() + kLookEvery;
            session.report(now());
            bool wanted = false;
            if (!in_transaction("cache_ext: looking around", [&wanted] { wanted = is_wanted_by_others(); }))
                return End::kFailure;
            if (wanted) return End::kWanted;
        }
        if (watch.changed()) return End::kSettings;
        // Also where there is more to do at once, or what has come in would be left lying.
        const TimePoint until =
            session.wants_turn(now()) ? now() : std::min(session.next_deadline(), look_at);
        if (attention.is_awake()) {
            ready = set.wait_for_sockets(session.driven(), std::min(until, now() + kTurnEvery));
            woken = MyLatch->is_set != 0;
        } else {
            ready = set.wait(session.driven(), until, kLookEvery, woken);
        }
    }
}

/// Where no sensible address is set: says so, and waits for another one. What is to be told waits too, and is kept short.
End wait_for_address(const pg::RedisSettings& settings, SettingsWatch& watch) {
    core::PushReport report{};
    std::snprintf(report.state, sizeof report.state, "misconfigured");
    std::snprintf(report.last_error, sizeof report.last_error, "%s", settings.url_error.c_str());
    report.last_error_at = GetCurrentTimestamp();
    complain(settings.url_error.c_str());
    pg::region().pushers().report(own_place, report);
    for (TimePoint shorten_at{}; !watch.changed();) {
        nap();
        // Changes are noticed as a transaction begins.
        bool is_wanted_elsewhere = false;
        (void)in_transaction("cache_ext: looking around", [&] {
            is_wanted_elsewhere = is_wanted_by_others();
            if (is_wanted_elsewhere || now() < shorten_at) return;
            shorten_at = now() + kShortenEvery;
            (void)shorten_outbox({}, settings.max_backlog);
        });
        if (is_wanted_elsewhere) return End::kWanted;
    }
    return End::kSettings;
}

/// Sends for as long as Redis is to be told.
void push() {
    SettingsWatch watch;
    int looks = 0;
    for (;;) {
        pg::RedisSettings settings;
        pg::region().pushers().doubt(own_place);
        switch (look_at_settings(settings)) {
            case Look::kFailed:
                nap();
                continue;
            case Look::kOff:
                // Started by a transaction that switches it on, and is not visible yet.
                if (looks++ < kFirstLooks) {
                    nap();
                    (void)in_transaction("cache_ext: looking around", [] {});
                    continue;
                }
                is_wanted = false;
                away = 0;
                return;
            case Look::kOn:
                looks = kFirstLooks;
                break;
        }
        switch (settings.url ? run(std::move(settings), watch) : wait_for_address(settings, watch)) {
            case End::kSettings:
                break;
            case End::kFailure:
                nap();
                break;
            case End::kWanted:
                away = kAway;
                return;
        }
    }
}

/// Whether it will be started.
bool launch(Oid database) {
    BackgroundWorker worker{};
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = ObjectIdGetDatum(database);
    // The launcher is to know when it ends.
    worker.bgw_notify_pid = pg::region().duties().launcher().load(std::memory_order_relaxed);
    std::snprintf(worker.bgw_library_name, BGW_MAXLEN, "cache_ext");
    std::snprintf(worker.bgw_function_name, BGW_MAXLEN, "cache_ext_pusher_main");
    std::snprintf(worker.bgw_name, BGW_MAXLEN, "cache_ext pusher for database %u", database);
    std::snprintf(worker.bgw_type, BGW_MAXLEN, "cache_ext pusher");
    return RegisterDynamicBackgroundWorker(&worker, nullptr);
}

void start_pusher(Oid database) noexcept {
    if (!pg::region().pushers().claim_start(database, GetCurrentTimestamp())) return;
    try {
        pg::pg_call([database] {
            if (!launch(database))
                ereport(LOG, (errmsg("could not start a background worker to send invalidations to Redis"),
                              errhint("You may need to increase max_worker_processes.")));
        });
    } catch (...) {
    }
}

}  // namespace

void ensure_pusher() noexcept {
    if (!pg::attached() || RecoveryInProgress() || !pg::pushes_to_redis()) return;
    if (!pg::region().pushers().has_pusher(MyDatabaseId)) start_pusher(MyDatabaseId);
}

void want_pusher() noexcept {
    if (!pg::attached() || RecoveryInProgress() || !pg::pushes_to_redis()) return;
    pg::region().pushers().want(MyDatabaseId);
    ensure_pusher();
}

void note_where_off() {
    if (RecoveryInProgress() || pg::pushes_to_redis()) return;
    // Whoever drops the extension has locked some of its tables, perhaps, and waits for the others.
    for (const char* name : {"redis_state", "redis_sent"}) {
        const Oid table = pg::find_own_table(name);
        if (!OidIsValid(table) || !ConditionalLockRelationOid(table, RowExclusiveLock)) return;
    }
    ErrorData* error = pg::attempt([] { forget_completeness(); });
    if (error != nullptr) FreeErrorData(error);
}

std::int64_t attend_to_pushers(std::int64_t most_ms, bool (*exists)(std::uint32_t database)) {
    core::Pushers& pushers = pg::region().pushers();
    std::int64_t sleep = most_ms;
    std::uint32_t database = 0;
    TimestampTz moment = 0;
    for (std::int32_t at = 0; (at = pushers.find_vacant(at, database, moment)) >= 0; ++at) {
        const TimestampTz left = moment - GetCurrentTimestamp();
        if (left <= 0 && !exists(database)) {
            pushers.forget(at, database);
            continue;
        }
        if (left <= 0) start_pusher(database);
        sleep = std::min(sleep, std::max<std::int64_t>(left / 1000 + 1, left <= 0 ? 1000 : 1));
    }
    return sleep;
}

}  // namespace cache_ext::worker

extern "C" void cache_ext_pusher_main(Datum argument) {
    using namespace cache_ext;
    using namespace cache_ext::worker;

    pqsignal(SIGTERM, die);
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    BackgroundWorkerUnblockSignals();
    mark_as_worker();
    BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(argument), InvalidOid, 0);
    pgstat_report_appname("cache_ext pusher");
    // Sooner than anybody else finds a deadlock: it is this process that gives way to who drops the extension.
    set_for_worker("lock_timeout", "200ms");
    set_for_worker("synchronous_commit", "off");
    set_for_worker("default_transaction_read_only", "off");
    set_for_worker("default_transaction_isolation", "read committed");
    set_for_worker("search_path", "pg_catalog");
    // Its rows come and go faster than they are counted; it always wants the first ones.
    set_for_worker("enable_seqscan", "off");
    set_for_worker("enable_bitmapscan", "off");
    // A scan that is done nevertheless, as of a queue's tables, has so high a cost then that the query would be compiled first.
    set_for_worker("jit", "off");

    if (!pg::attached()) proc_exit(0);
    own_place = pg::region().pushers().sit_down(MyDatabaseId, MyProcPid, pg::process_number());
    if (own_place < 0) proc_exit(0);
    before_shmem_exit(leave_place, Datum{0});

    pg::guarded([] { push(); });
    proc_exit(0);
}
