// enqueue, dequeue, queue_length.

#include "api/args.hpp"
#include "pg/guard.hpp"
#include "pg/queue.hpp"
#include "pg/queue_in_redis.hpp"
#include "worker/pusher.hpp"
#include "worker/worker.hpp"

extern "C" {
#include "access/detoast.h"
#include "tcop/utility.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// Of an item as it is stored.
constexpr Size kMostBytes = 16 * 1024 * 1024;

/// How often a session asks for somebody to look after the tables, at most.
constexpr TimestampTz kAskEvery = USECS_PER_SEC;

std::string_view queue_argument(FunctionCallInfo fcinfo) {
    require_argument(fcinfo, 0, "queue name");
    return checked_key(PG_GETARG_TEXT_PP(0), "queue name");
}

void see_to_tables() {
    static constinit TimestampTz asked_at = 0;
    if (!pg::queues_want_keeper()) return;
    const TimestampTz now = GetCurrentTimestamp();
    if (now - asked_at < kAskEvery && now >= asked_at) return;
    asked_at = now;
    (void)worker::start_queue_keeper();
}

}  // namespace

CACHE_EXT_FUNCTION(enqueue) {
    const std::string_view queue = queue_argument(fcinfo);
    require_argument(fcinfo, 1, "queue item");
    PreventCommandIfReadOnly("enqueue()");
    PreventCommandDuringRecovery("enqueue()");
    const Size size = toast_raw_datum_size(PG_GETARG_DATUM(1));
    if (size > kMostBytes)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("queue item is too large"),
                        errdetail("It has %zu bytes; the limit is %zu.", size, kMostBytes)));
    const std::int64_t id = pg::enqueue(queue, PG_GETARG_DATUM(1));
    if (pg::queues_are_delivered()) worker::ensure_pusher();
    see_to_tables();
    PG_RETURN_INT64(id);
}

CACHE_EXT_FUNCTION(dequeue) {
    const std::string_view queue = queue_argument(fcinfo);
    PreventCommandIfReadOnly("dequeue()");
    PreventCommandDuringRecovery("dequeue()");
    Datum data = 0;
    bool found = false;
    if (pg::queues_are_delivered()) {
        PreventCommandIfParallelMode("dequeue()");
        // Who drops it there, or puts it back.
        worker::ensure_pusher();
        found = pg::dequeue_from_redis(queue, data);
    } else {
        found = pg::dequeue(queue, data);
    }
    see_to_tables();
    if (!found) PG_RETURN_NULL();
    PG_RETURN_DATUM(data);
}

CACHE_EXT_FUNCTION(queue_length) { PG_RETURN_INT64(pg::queue_length(queue_argument(fcinfo))); }

}  // namespace cache_ext::api
