#include "pg/testing.hpp"

#ifdef CACHE_EXT_TESTING

#include "pg/prelude.hpp"

extern "C" {
#include "access/xact.h"
#include "executor/spi.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
}

namespace cache_ext::pg::testing {

namespace {

int broken_rule = static_cast<int>(Break::kNothing);
int fault = static_cast<int>(Fault::kNothing);
int stop_at = static_cast<int>(Stop::kNowhere);
char* late_statement = nullptr;
bool refresh_early = false;

const config_enum_entry kRules[] = {
    {"nothing", static_cast<int>(Break::kNothing), false},
    {"stamp_late", static_cast<int>(Break::kStampLate), false},
    {"birth_at_set", static_cast<int>(Break::kBirthAtSet), false},
    {"no_ring", static_cast<int>(Break::kNoRing), false},
    {nullptr, 0, false},
};

const config_enum_entry kFaults[] = {
    {"nothing", static_cast<int>(Fault::kNothing), false},
    {"storage_row", static_cast<int>(Fault::kStorageRow), false},
    {"storage_deltas", static_cast<int>(Fault::kStorageDeltas), false},
    {"storage_marks", static_cast<int>(Fault::kStorageMarks), false},
    {nullptr, 0, false},
};

const config_enum_entry kStops[] = {
    {"nowhere", static_cast<int>(Stop::kNowhere), false},
    {"registered", static_cast<int>(Stop::kRegistered), false},
    {"committing", static_cast<int>(Stop::kCommitting), false},
    {nullptr, 0, false},
};

void run_late_statement(XactEvent event, void* /*argument*/) {
    if ((event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE) || *late_statement == '\0' ||
        !TransactionIdIsValid(GetTopTransactionIdIfAny())) {
        return;
    }
    PushActiveSnapshot(GetTransactionSnapshot());
    SPI_connect();
    SPI_execute(late_statement, false, 0);
    SPI_finish();
    PopActiveSnapshot();
}

}  // namespace

bool breaks(Break rule) noexcept { return broken_rule == static_cast<int>(rule); }

bool refreshes_early() noexcept { return refresh_early; }

void fail(Fault which) {
    const bool fails = fault == static_cast<int>(which) ||
                       (which == Fault::kStorageDeltas && fault == static_cast<int>(Fault::kStorageMarks));
    if (fails) ereport(ERROR, (errcode(ERRCODE_DISK_FULL), errmsg("this fails as it is to, for a test")));
}

void reach(Stop stop) {
    if (stop_at != static_cast<int>(stop)) return;
    DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum(kStopLock));
}

void pause() noexcept { pg_usleep(300); }

void init() {
    DefineCustomEnumVariable("cache_ext.debug_break", "Rule of the protocol to break, for tests.", nullptr,
                             &broken_rule, static_cast<int>(Break::kNothing), kRules, PGC_USERSET, 0, nullptr,
                             nullptr, nullptr);
    DefineCustomEnumVariable("cache_ext.debug_fail", "What fails, for tests.", nullptr, &fault,
                             static_cast<int>(Fault::kNothing), kFaults, PGC_USERSET, 0, nullptr, nullptr,
                             nullptr);
    DefineCustomEnumVariable("cache_ext.debug_stop_at", "Where a committing transaction waits, for tests.",
                             nullptr, &stop_at, static_cast<int>(Stop::kNowhere), kStops, PGC_USERSET, 0,
                             nullptr, nullptr, nullptr);
    DefineCustomStringVariable("cache_ext.debug_late_statement",
                               "What is run last before a commit that writes, for tests.", nullptr,
                               &late_statement, "", PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("cache_ext.debug_refresh_early",
                             "Refreshes what chance would refresh, for tests.", nullptr, &refresh_early,
                             false, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    // The server calls last who came first.
    RegisterXactCallback(run_late_statement, nullptr);
}

}  // namespace cache_ext::pg::testing

#endif
