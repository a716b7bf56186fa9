#include "pg/outcome.hpp"

#include "pg/compat.hpp"

extern "C" {
#include "access/timeline.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "catalog/pg_control.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
}

namespace cache_ext::pg {

namespace {

/// The last one that the log has.
constinit LastingId logged;

/// Whether a place in the log is in what led to the present state.
bool is_in_history(const LastingId& id) {
    const TimeLineID present = GetWALInsertionTimeLine();
    if (id.timeline == 0 || id.timeline == present) return true;
    List* const history = readTimeLineHistory(present);
    return tliInHistory(id.timeline, history) && id.position <= tliSwitchPoint(id.timeline, history, nullptr);
}

}  // namespace

Outcome outcome_of(const LastingId& id) {
    const std::uint64_t transaction = id.transaction;
    const FullTransactionId next = ReadNextFullTransactionId();
    // Of a time that was undone: somebody has restored an older state.
    if (transaction >= U64FromFullTransactionId(next) || !is_in_history(id)) return Outcome::kAborted;
    const auto xid = static_cast<TransactionId>(transaction);
    // As in pg_xact_status: what is looked up must not be cut off meanwhile.
    LWLockAcquire(XactTruncationLock, LW_SHARED);
    const std::uint64_t oldest =
        U64FromFullTransactionId(next) - (XidFromFullTransactionId(next) - oldest_known_transaction());
    Outcome outcome = Outcome::kForgotten;
    if (transaction >= oldest) {
        // In this order: it is marked as committed before it is no longer under way.
        if (TransactionIdIsInProgress(xid))
            outcome = Outcome::kOpen;
        else
            outcome = TransactionIdDidCommit(xid) ? Outcome::kCommitted : Outcome::kAborted;
    }
    LWLockRelease(XactTruncationLock);
    return outcome;
}

bool has_lasting_transaction_id() noexcept {
    return logged.transaction != 0 &&
           U64FromFullTransactionId(GetCurrentFullTransactionIdIfAny()) == logged.transaction;
}

LastingId lasting_transaction_id() {
    const std::uint64_t transaction = U64FromFullTransactionId(GetCurrentFullTransactionId());
    if (transaction == logged.transaction) return logged;
    // After a crash the server goes on from the highest id that it finds in the log. What this record says is nothing, but it says whose it is; and
    // it makes the commit one that is waited for.
    static char nothing = 0;
    XLogBeginInsert();
    XLogRegisterData(&nothing, sizeof nothing);
    const XLogRecPtr position = XLogInsert(RM_XLOG_ID, XLOG_NOOP);
    XLogFlush(position);
    return logged = {transaction, GetWALInsertionTimeLine(), position};
}

}  // namespace cache_ext::pg
