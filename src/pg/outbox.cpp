#include "pg/outbox.hpp"

#include "pg/append.hpp"
#include "pg/attach.hpp"
#include "pg/redis_settings.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "mb/pg_wchar.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace cache_ext::pg {

namespace {

/// What says more than this says "everything" instead.
constexpr std::size_t kMostNames = 200'000;
constexpr std::size_t kMostBytes = 16 * 1024 * 1024;

constinit bool told_by_redis = false;
constinit bool is_counted = false;  // among those who may have taken a number

/// Where the name of an invalidation goes; kCount: it is no business of Redis'. Of private callers only tags are told.
OutboxColumn column_of(const Invalidation& i) noexcept {
    switch (i.kind) {
        case InvalidationKind::kTag:
        case InvalidationKind::kExpireTag:
            return OutboxColumn::kTags;
        case InvalidationKind::kKeyEverywhere:
            return OutboxColumn::kKeys;
        case InvalidationKind::kKey:
        case InvalidationKind::kExpire:
            return i.scope.is_private ? OutboxColumn::kCount : OutboxColumn::kKeys;
        case InvalidationKind::kPatternEverywhere:
        case InvalidationKind::kElsewhere:
            return OutboxColumn::kPatterns;
        case InvalidationKind::kPattern:
            return i.scope.is_private ? OutboxColumn::kCount : OutboxColumn::kPatterns;
        case InvalidationKind::kSpace:
            return OutboxColumn::kEverything;
    }
    return OutboxColumn::kCount;
}

/// What is to be told, as far as it is known before the row is made.
struct Content {
    const Pending* pending;
    std::size_t from;
    std::size_t names;
    std::size_t bytes;
    bool everything;
};

Content survey(const Pending& pending, std::size_t from, bool everything) noexcept {
    Content content{&pending, from, 0, 0, everything};
    const auto& all = pending.invalidations();
    for (std::size_t n = from; n < all.size(); ++n) {
        const OutboxColumn column = column_of(all[n]);
        if (column == OutboxColumn::kCount) continue;
        if (column == OutboxColumn::kEverything) content.everything = true;
        ++content.names;
        content.bytes += all[n].text.size();
    }
    if (content.names > kMostNames || content.bytes > kMostBytes) content.everything = true;
    return content;
}

/// A one-dimensional array of the names that go into a column.
Datum names(const Content& content, OutboxColumn column) {
    auto* const texts = static_cast<Datum*>(palloc(sizeof(Datum) * (content.names + 1)));
    int count = 0;
    const auto& all = content.pending->invalidations();
    for (std::size_t n = content.from; !content.everything && n < all.size(); ++n) {
        if (column_of(all[n]) != column) continue;
        texts[count++] = PointerGetDatum(
            cstring_to_text_with_len(all[n].text.data(), static_cast<int>(all[n].text.size())));
    }
    return PointerGetDatum(construct_array(texts, count, TEXTOID, -1, false, TYPALIGN_INT));
}

HeapTuple make_row(TupleDesc row, void* context) {
    const auto& content = *static_cast<const Content*>(context);
    constexpr int kColumns = static_cast<int>(OutboxColumn::kCount);
    if (row->natts != kColumns) elog(ERROR, "table \"%s\" has %d columns", kOutbox, row->natts);
    Datum values[kColumns];
    bool nulls[kColumns] = {};
    const auto at = [&values](OutboxColumn column) -> Datum& { return values[static_cast<int>(column)]; };

    // "Read only" forbids statements to write, not the server to keep its books; the subtransaction's end puts it back.
    XactReadOnly = false;
    // The transaction has its id by now, so whoever sends can tell which numbers are settled.
    at(OutboxColumn::kId) = Int64GetDatum(nextval_internal(find_own_table(kOutboxSequence), false));
    at(OutboxColumn::kAddedAt) = TimestampTzGetDatum(GetCurrentTimestamp());
    at(OutboxColumn::kKeys) = names(content, OutboxColumn::kKeys);
    at(OutboxColumn::kTags) = names(content, OutboxColumn::kTags);
    at(OutboxColumn::kPatterns) = names(content, OutboxColumn::kPatterns);
    at(OutboxColumn::kEverything) = BoolGetDatum(content.everything);
    return heap_form_tuple(row, values, nulls);
}

void append(Content& content, FullTransactionId xid) {
    if (!is_counted && attached()) is_counted = region().pushers().begin_write(MyDatabaseId);
    if (append_row(kOutbox, make_row, &content, "invalidations could not be kept for Redis")) return;
    if (!attached() || !region().pushers().lose(MyDatabaseId, U64FromFullTransactionId(xid)))
        ereport(WARNING, (errmsg("Redis will not be told of this transaction's invalidations")));
}

}  // namespace

bool write_outbox(const Pending& pending, std::size_t from, bool everything) {
    if (told_by_redis || RecoveryInProgress()) return false;
    // Before it looks: a pusher that begins later waits for all who have an id by then.
    const FullTransactionId xid = GetTopFullTransactionId();
    const bool is_on = pushes_to_redis();
    if (!is_on && !(attached() && region().pushers().knows(MyDatabaseId))) return false;
    Content content = survey(pending, from, everything);
    if (content.names == 0 && !content.everything) return false;

    if (is_on) {
        append(content, xid);
        return true;
    }
    // It may be on by now, which a session that has been in a transaction all the time cannot know; or be on again before anybody notices that it was off.
    return region().pushers().lose(MyDatabaseId, U64FromFullTransactionId(xid));
}

void tell_redis_everything() {
    const Pending nothing;
    Content content{&nothing, 0, 0, 0, true};
    append(content, GetTopFullTransactionId());
}

void wake_pusher() noexcept {
    if (!region()) return;
    if (const std::int32_t latch = region().pushers().call(MyDatabaseId); latch >= 0)
        SetLatch(&ProcGlobal->allProcs[latch].procLatch);
}

void end_outbox() noexcept {
    if (is_counted) region().pushers().end_write(MyDatabaseId);
    is_counted = told_by_redis = false;
}

void set_told_by_redis(bool is_told) noexcept { told_by_redis = is_told; }

}  // namespace cache_ext::pg
