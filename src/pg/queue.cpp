#include "pg/queue.hpp"

#include "pg/append.hpp"
#include "pg/outbox.hpp"
#include "pg/queue_floor.hpp"
#include "pg/redis_settings.hpp"
#include "pg/space.hpp"

extern "C" {
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_am.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

namespace cache_ext::pg {

namespace {

constexpr char kItemId[] = "queue_item_id";
constexpr const char* kIndex[kQueueTables] = {"queue_items_0_pkey", "queue_items_1_pkey",
                                              "queue_items_2_pkey"};

enum Column : int { kQueue = 1, kId, kAddedAt, kData, kColumns = kData };

/// The least number that this transaction has taken; whether it has added something for Redis.
constinit std::int64_t first_taken = QueueFloor::kNothing;
constinit bool has_added = false;
constinit bool wants_keeper = false;
/// The sequence of the items' numbers; InvalidOid: not known yet.
constinit Oid item_id = InvalidOid;
/// The number of moves that floors are good for.
constinit std::int64_t moves_seen = -1;

[[noreturn]] void raise_missing(const char* name) {
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                    errmsg("relation \"cache_ext_internal.%s\" does not exist", name)));
    pg_unreachable();
}

Oid find(const char* name) {
    const Oid oid = find_own_table(name);
    if (!OidIsValid(oid)) raise_missing(name);
    return oid;
}

void check_table(Relation table) {
    if (table->rd_rel->relkind != RELKIND_RELATION || table->rd_rel->relam != HEAP_TABLE_AM_OID ||
        RelationGetNumberOfAttributes(table) != kColumns)
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                 errmsg("table \"%s\" is not as the extension made it", RelationGetRelationName(table))));
}

/// A table that is locked: null where it was dropped meanwhile.
Relation open_locked(Oid oid) {
    Relation table = try_table_open(oid, NoLock);
    if (table != nullptr) check_table(table);
    return table;
}

void note_size(BlockNumber pages) {
    if (pages >= kQueueTablePages) wants_keeper = true;
}

/// The table that new items go to: the one that is written to at present, or another one where somebody has locked that.
Relation open_for_adding() {
    const auto current =
        static_cast<int>(read_own_sequence(kQueueState).last_value % kStateTables) % kQueueTables;
    for (int i = 0; i < kQueueTables; ++i) {
        const Oid oid = find(kQueueTable[(current + i) % kQueueTables]);
        if (!ConditionalLockRelationOid(oid, RowExclusiveLock)) continue;
        if (Relation table = open_locked(oid)) return table;
    }
    // All of them: not what this extension does.
    const Oid oid = find(kQueueTable[current]);
    LockRelationOid(oid, RowExclusiveLock);
    Relation table = open_locked(oid);
    if (table == nullptr) raise_missing(kQueueTable[current]);
    return table;
}

/// A search for a queue's items in one table, in the order of their numbers.
struct Search {
    Oid oid;
    Relation table;  // null: there is nothing to search
    Relation index;
    SysScanDesc scan;
    QueueFloor* floor;
    std::int64_t floor_id;
    HeapTuple item;  // the next one; null: there is none
    std::int64_t id;
    bool may_take;  // locked for it
};

void advance(Search& search) {
    search.item = systable_getnext_ordered(search.scan, ForwardScanDirection);
    search.id = QueueFloor::kNothing;
    if (search.item == nullptr) return;
    bool is_null = false;
    search.id = DatumGetInt64(heap_getattr(search.item, kId, RelationGetDescr(search.table), &is_null));
}

/// Opens the table if there is anything in it and nobody has locked it.
void open(Search& search, int number, std::string_view queue) {
    search = Search{};
    search.oid = find(kQueueTable[number]);
    const Oid index = find(kIndex[number]);
    if (!ConditionalLockRelationOid(search.oid, AccessShareLock)) return;
    Relation table = open_locked(search.oid);
    const BlockNumber pages = table != nullptr ? RelationGetNumberOfBlocks(table) : 0;
    note_size(pages);
    if (pages == 0 || !ConditionalLockRelationOid(index, AccessShareLock)) {
        if (table != nullptr) table_close(table, NoLock);
        UnlockRelationOid(search.oid, AccessShareLock);
        return;
    }
    search.table = table;
    search.index = index_open(index, NoLock);
    QueueFloor& floor = QueueFloor::of(number, search.oid, queue);
    floor.prepare();
    search.floor = &floor;
    search.floor_id = floor.get();
}

/// All three of them, and the snapshot of what is committed by now.
struct Searches {
    Search each[kQueueTables];
    Snapshot snapshot;
};

void begin(Searches& searches, std::string_view queue, Datum name) {
    // Before any table is locked, so before anything is moved that this would not see.
    const std::int64_t moves = read_own_sequence(kQueueState).last_value / kStateTables;
    if (moves != moves_seen || !OidIsValid(item_id)) QueueFloor::forget_all();
    item_id = find(kItemId);
    moves_seen = moves;

    CommandCounterIncrement();
    for (int i = 0; i < kQueueTables; ++i)
        open(searches.each[i], i, queue);
    searches.snapshot = RegisterSnapshot(GetLatestSnapshot());
    for (Search& search : searches.each) {
        if (search.table == nullptr) continue;
        ScanKeyData keys[2];
        ScanKeyInit(&keys[0], kQueue, BTEqualStrategyNumber, F_TEXTEQ, name);
        ScanKeyInit(&keys[1], kId, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(search.floor_id));
        search.scan = systable_beginscan_ordered(search.table, search.index, searches.snapshot, 2, keys);
        advance(search);
        // Where nothing is, the numbers that were drawn so far tell.
        search.floor->saw(search.id,
                          search.item != nullptr ? search.id : read_own_sequence(kItemId).last_value);
    }
}

/// Gives back what is not needed until the transaction's end. `taken`: the table of which a row was taken, or null.
void end(Searches& searches, const Search* taken) {
    for (Search& search : searches.each) {
        if (search.table == nullptr) continue;
        systable_endscan_ordered(search.scan);
        index_close(search.index, AccessShareLock);
        table_close(search.table, AccessShareLock);
        if (search.may_take && &search != taken) UnlockRelationOid(search.oid, RowExclusiveLock);
    }
    UnregisterSnapshot(searches.snapshot);
}

Search* first_of(Searches& searches) {
    Search* first = nullptr;
    for (Search& search : searches.each) {
        if (search.item != nullptr && (first == nullptr || search.id < first->id)) first = &search;
    }
    return first;
}

/// Deletes the row, if nobody else does.
bool take(Search& search) {
    if (!search.may_take) {
        if (!ConditionalLockRelationOid(search.oid, RowExclusiveLock)) {
            search.item = nullptr;
            return false;
        }
        search.may_take = true;
    }
    TM_FailureData failure;
    return heap_delete(search.table, &search.item->t_self, GetCurrentCommandId(true), InvalidSnapshot, false,
                       &failure, false) == TM_Ok;
}

/// What Redis is given nobody takes here: who has come this far has begun before that was switched on.
void refuse_where_delivered() {
    if (queues_are_delivered())
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("items of queues are delivered to Redis from now on"),
                        errhint("Try again, to be given one from there.")));
}

/// What was taken is there again, or may be.
void give_back() noexcept {
    if (first_taken != QueueFloor::kNothing) QueueFloor::lower(first_taken);
}

void on_transaction(XactEvent event) noexcept {
    if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE) give_back();
    if (has_added && event == XACT_EVENT_COMMIT) wake_pusher();
    if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE || event == XACT_EVENT_COMMIT) {
        first_taken = QueueFloor::kNothing;
        has_added = false;
    }
}

void on_subtransaction(SubXactEvent event) noexcept {
    if (event == SUBXACT_EVENT_ABORT_SUB) give_back();
}

}  // namespace

std::int64_t enqueue(std::string_view queue, Datum data) {
    wants_keeper = false;
    // Locked before the number is drawn: see queue_floor.hpp.
    Relation table = open_for_adding();
    note_size(RelationGetNumberOfBlocks(table));
    const std::int64_t id = nextval_internal(find(kItemId), false);
    Datum values[kColumns];
    bool nulls[kColumns] = {};
    values[kQueue - 1] =
        PointerGetDatum(cstring_to_text_with_len(queue.data(), static_cast<int>(queue.size())));
    values[kId - 1] = Int64GetDatum(id);
    values[kAddedAt - 1] = TimestampTzGetDatum(GetCurrentTimestamp());
    values[kData - 1] = data;
    // Meant for catalogs, which is what these tables are to the extension.
    CatalogTupleInsert(table, heap_form_tuple(RelationGetDescr(table), values, nulls));
    table_close(table, NoLock);
    has_added = has_added || queues_are_delivered();
    CommandCounterIncrement();
    return id;
}

bool dequeue(std::string_view queue, Datum& data) {
    wants_keeper = false;
    Searches searches;
    begin(searches, queue,
          PointerGetDatum(cstring_to_text_with_len(queue.data(), static_cast<int>(queue.size()))));
    Search* taken = nullptr;
    while (Search* search = first_of(searches)) {
        if (take(*search)) {
            taken = search;
            break;
        }
        if (search->item != nullptr) advance(*search);
    }
    if (taken != nullptr) {
        first_taken = std::min(first_taken, taken->id);
        bool is_null = false;
        data = PointerGetDatum(PG_DETOAST_DATUM_COPY(
            heap_getattr(taken->item, kData, RelationGetDescr(taken->table), &is_null)));
    }
    end(searches, taken);
    // After the row was marked, which whoever delivers it would see; and after a look at what others have committed.
    AcceptInvalidationMessages();
    refuse_where_delivered();
    if (taken != nullptr) CommandCounterIncrement();
    return taken != nullptr;
}

std::int64_t queue_length(std::string_view queue) {
    wants_keeper = false;
    Searches searches;
    begin(searches, queue,
          PointerGetDatum(cstring_to_text_with_len(queue.data(), static_cast<int>(queue.size()))));
    std::int64_t length = 0;
    for (Search& search : searches.each) {
        for (; search.item != nullptr; advance(search)) {
            ++length;
            CHECK_FOR_INTERRUPTS();
        }
    }
    end(searches, nullptr);
    return length;
}

bool queue_has_committed(std::string_view queue) {
    wants_keeper = false;
    Searches searches;
    begin(searches, queue,
          PointerGetDatum(cstring_to_text_with_len(queue.data(), static_cast<int>(queue.size()))));
    bool found = false;
    for (Search& search : searches.each) {
        for (; !found && search.item != nullptr; advance(search)) {
            found = !TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(search.item->t_data));
            CHECK_FOR_INTERRUPTS();
        }
    }
    end(searches, nullptr);
    return found;
}

bool queues_are_delivered() {
    // Not known before that is.
    return current_space().exists && queues_go_to_redis();
}

bool queues_want_keeper() noexcept { return wants_keeper; }

void init_queues() {
    RegisterXactCallback([](XactEvent event, void* /*argument*/) { on_transaction(event); }, nullptr);
    RegisterSubXactCallback([](SubXactEvent event, SubTransactionId /*own*/, SubTransactionId /*parent*/,
                               void* /*argument*/) { on_subtransaction(event); },
                            nullptr);
    // Somebody has changed a table or a sequence, perhaps one of these.
    CacheRegisterRelcacheCallback(
        [](Datum /*argument*/, Oid relation) {
            if (!OidIsValid(relation) || relation == item_id)
                QueueFloor::forget_all();
            else
                QueueFloor::forget(relation);
        },
        Datum{0});
}

}  // namespace cache_ext::pg
