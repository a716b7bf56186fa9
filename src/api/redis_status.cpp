// cache_redis_status: what the process that talks to Redis says of itself.

#include "pg/attach.hpp"
#include "pg/guard.hpp"
#include "pg/redis_settings.hpp"
#include "pg/space.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

enum Column {
    kEnabled,
    kState,
    kServer,
    kPid,
    kUpSince,
    kLastError,
    kLastErrorAt,
    kSequence,
    kRowsSent,
    kKeysDeleted,
    kValuesPut,
    kMessagesReceived,
    kCompactions,
    kRoundTripMs,
    kListening,
    kColumns
};

}  // namespace

CACHE_EXT_FUNCTION(redis_status) {
    TupleDesc row = nullptr;
    if (get_call_result_type(fcinfo, nullptr, &row) != TYPEFUNC_COMPOSITE || row->natts != kColumns)
        elog(ERROR, "redis_status returns a row of %d columns", static_cast<int>(kColumns));
    core::PushReport report{};
    std::int32_t pid = 0;
    const bool enabled = pg::current_space().exists && pg::pushes_to_redis();
    bool known = false;
    if (pg::attached()) {
        known = pg::region().pushers().read_report(MyDatabaseId, report);
        pid = pg::region().pushers().pid_of(MyDatabaseId);
    }
    Datum values[kColumns] = {};
    bool nulls[kColumns];
    std::fill(std::begin(nulls), std::end(nulls), true);
    const auto set = [&](Column column, Datum value) {
        values[column] = value;
        nulls[column] = false;
    };
    const char* state = report.state;
    if (!enabled) {
        state = "off";
    } else if (pid == 0) {
        state = "not running";
    } else if (!known) {
        state = "starting";
    }
    set(kEnabled, BoolGetDatum(enabled));
    set(kState, CStringGetTextDatum(state));
    if (pid != 0) set(kPid, Int32GetDatum(pid));
    if (!known) return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));

    set(kServer, CStringGetTextDatum(report.server));
    if (pid != 0 && report.up_since != 0) set(kUpSince, TimestampTzGetDatum(report.up_since));
    if (report.last_error[0] != 0) set(kLastError, CStringGetTextDatum(report.last_error));
    if (report.last_error_at != 0) set(kLastErrorAt, TimestampTzGetDatum(report.last_error_at));
    const auto count = [&](Column column, std::uint64_t value) {
        set(column, Int64GetDatum(static_cast<int64>(value)));
    };
    count(kSequence, report.sequence);
    count(kRowsSent, report.rows_sent);
    count(kKeysDeleted, report.keys_deleted);
    count(kValuesPut, report.values_put);
    count(kMessagesReceived, report.messages_received);
    count(kCompactions, report.compactions);
    set(kRoundTripMs, Float8GetDatum(static_cast<double>(report.round_trip_us) / 1e3));
    set(kListening, BoolGetDatum(pid != 0 && report.listening != 0));
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(row), values, nulls));
}

}  // namespace cache_ext::api
