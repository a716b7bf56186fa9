#include "pg/outcome.hpp"

#include "pg/compat.hpp"

extern "C" {
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
constinit std::uint64_t logged = 0;

}  // namespace

Outcome outcome_of(std::uint64_t transaction) {
    const FullTransactionId next = ReadNextFullTransactionId();
    // Of a time that was undone: somebody has restored an older state.
    if (transaction >= U64FromFullTransactionId(next)) return Outcome::kAborted;
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
    return logged != 0 && U64FromFullTransactionId(GetCurrentFullTransactionIdIfAny()) == logged;
}

std::uint64_t lasting_transaction_id() {
    const std::uint64_t transaction = U64FromFullTransactionId(GetCurrentFullTransactionId());
    if (transaction == logged) return transaction;
    // After a crash the server goes on from the highest id that it finds in the log. What this record says is nothing, but it says whose it is; and
    // it makes the commit one that is waited for.
    static char nothing = 0;
    XLogBeginInsert();
    XLogRegisterData(&nothing, sizeof nothing);
    XLogFlush(XLogInsert(RM_XLOG_ID, XLOG_NOOP));
    return logged = transaction;
}

}  // namespace cache_ext::pg
