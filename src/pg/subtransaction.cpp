#include "pg/subtransaction.hpp"

extern "C" {
#include "access/xact.h"
#include "utils/resowner.h"
}

namespace cache_ext::pg {

ErrorData* detail::run_attempt(Attempt attempt, const void* body, bool keeps) {
    MemoryContext memory = CurrentMemoryContext;
    ResourceOwner resources = CurrentResourceOwner;
    ErrorData* volatile error = nullptr;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(memory);
    PG_TRY();
    {
        attempt(body);
        if (keeps) {
            ReleaseCurrentSubTransaction();
        } else {
            RollbackAndReleaseCurrentSubTransaction();
        }
        MemoryContextSwitchTo(memory);
        CurrentResourceOwner = resources;
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(memory);
        error = CopyErrorData();
        FlushErrorState();
        RollbackAndReleaseCurrentSubTransaction();
        MemoryContextSwitchTo(memory);
        CurrentResourceOwner = resources;
        if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
            ReThrowError(error);
    }
    PG_END_TRY();
    return error;
}

}  // namespace cache_ext::pg
