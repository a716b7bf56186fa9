#include "api/warm_list.hpp"
#include "pg/attach.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"
#include "worker/cleanup.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
}

namespace cache_ext::api {

/// Works in a READ ONLY transaction too; only the log then stays as it is.
CACHE_EXT_FUNCTION(cleanup_expired_cache) {
    const pg::Space space = pg::current_space();
    if (!space.exists || !pg::attached()) PG_RETURN_INT32(0);
    const bool writes = !XactReadOnly && !RecoveryInProgress();
    if (writes) note_most_used();
    double duration_ms = 0;
    const core::Swept swept = worker::sweep_space(worker::id_of(space), duration_ms);
    if (writes) worker::write_log(space, worker::Source::kFunction, swept, duration_ms);
    PG_RETURN_INT32(static_cast<std::int32_t>(swept.removed()));
}

}  // namespace cache_ext::api
