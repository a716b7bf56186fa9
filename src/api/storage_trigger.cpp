// handle_storage_change(): the triggers on the table of objects. They look at each row that is written and at TRUNCATE, and never fail whoever writes.

#include "api/context.hpp"
#include "api/storage_listing.hpp"
#include "api/storage_pending.hpp"
#include "api/storage_recompute.hpp"
#include "api/storage_tables.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"
#include "pg/subtransaction.hpp"
#include "pg/testing.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "utils/rel.h"
}

namespace cache_ext::api {

namespace {

/// A row as the trigger is given it: its tuple, and the slot with that, which remembers what of it has been looked at.
struct Row {
    HeapTuple tuple = nullptr;
    TupleTableSlot* slot = nullptr;
    Share share{};
};

/// What a row was and is.
struct Change {
    Row before;
    Row after;

    const Share* old_or_null() const noexcept { return before.tuple != nullptr ? &before.share : nullptr; }
    const Share* new_or_null() const noexcept { return after.tuple != nullptr ? &after.share : nullptr; }
};

void look_at(Change& change, const ObjectShape& shape) {
    pg::testing::fail(pg::testing::Fault::kStorageRow);
    for (Row* row : {&change.before, &change.after}) {
        if (row->tuple != nullptr) row->share = share_of(shape, row->slot);
    }
}

void warn_lost(const char* why) {
    ereport(WARNING, (errmsg("could not count a change of the storage usage: %s", why),
                      errdetail("It is marked, and will be recomputed.")));
}

/// Looks at the row. False: that failed, and a warning has told.
bool look(Change& change, const ObjectShape& shape, TupleDesc description) {
    const auto is_elsewhere = [&](const Row& row) {
        return row.tuple != nullptr && is_stored_elsewhere(shape, row.tuple, description);
    };
    if (is_elsewhere(change.before) || is_elsewhere(change.after)) {
        ErrorData* error = pg::attempt([&] { look_at(change, shape); });
        if (error == nullptr) return true;
        warn_lost(error->message);
        FreeErrorData(error);
        return false;
    }
    // Nothing is locked or held in there, so nothing is left behind by an error: it needs no subtransaction.
    try {
        pg::pg_call([&] { look_at(change, shape); });
        return true;
    } catch (const std::exception& error) {
        warn_lost(error.what());
    }
    return false;
}

/// Whose listings go. Looking that up anew could fail, and it is what it was when the tables were looked up.
core::Id128 last_space_id() noexcept { return id_of(pg::last_space().id); }

/// The command that wrote the row. All rows of a statement have the same.
CommandId command_of(const Change& change) noexcept {
    return change.after.tuple != nullptr ? HeapTupleHeaderGetCmin(change.after.tuple->t_data)
                                         : HeapTupleHeaderGetCmax(change.before.tuple->t_data);
}

void handle_row(const TriggerData& data, const ObjectShape& shape) {
    Change change;
    if (TRIGGER_FIRED_BY_INSERT(data.tg_event)) {
        change.after = {data.tg_trigtuple, data.tg_trigslot};
    } else {
        change.before = {data.tg_trigtuple, data.tg_trigslot};
        if (TRIGGER_FIRED_BY_UPDATE(data.tg_event)) change.after = {data.tg_newtuple, data.tg_newslot};
    }
    const core::Id128 space = last_space_id();
    if (!look(change, shape, RelationGetDescr(data.tg_relation))) {
        lose_storage_row();
        invalidate_listings(space);
        return;
    }
    const Share* before = change.old_or_null();
    const Share* after = change.new_or_null();
    count_storage_row(before, after, command_of(change));
    if (before != nullptr) invalidate_listings(space, before->bucket, before->name);
    const bool has_moved = before == nullptr || after == nullptr || before->bucket != after->bucket ||
                           before->name != after->name;
    if (after != nullptr && has_moved) invalidate_listings(space, after->bucket, after->name);
}

/// The tables, if they say that this trigger is to count; null otherwise, or where that cannot be found out.
const StorageTables* counting_tables(const TriggerData& data) {
    if (!detail::storage_tables_valid) {
        if (ErrorData* error = pg::attempt([] { (void)storage_tables(); }); error != nullptr) {
            warn_lost(error->message);
            FreeErrorData(error);
            lose_storage_row();
            invalidate_listings(last_space_id());
            return nullptr;
        }
    }
    const StorageTables& tables = detail::storage_tables;
    if (tables.unknown) {
        lose_storage_row();
        return nullptr;
    }
    const char* wanted = TRIGGER_FIRED_FOR_ROW(data.tg_event) ? kStorageRowTrigger : kStorageTruncateTrigger;
    const bool counts = tables.enabled && tables.objects == RelationGetRelid(data.tg_relation) &&
                        std::strcmp(data.tg_trigger->tgname, wanted) == 0;
    return counts ? &tables : nullptr;
}

}  // namespace

/// Another trigger of this function, on this table or on another, does nothing: a row is counted once.
CACHE_EXT_FUNCTION(handle_storage_change) {
    if (!CALLED_AS_TRIGGER(fcinfo)) {
        pg::raise(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
                  "handle_storage_change must be called as a trigger", nullptr,
                  "enable_storage_usage_cache makes it.");
    }
    const auto& data = *reinterpret_cast<TriggerData*>(fcinfo->context);
    if (!TRIGGER_FIRED_AFTER(data.tg_event)) {
        // Before the event there is nothing to count; the row goes on as it is.
        return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data.tg_event) ? data.tg_newtuple : data.tg_trigtuple);
    }
    const StorageTables* tables = counting_tables(data);
    if (tables == nullptr) return PointerGetDatum(nullptr);
    if (TRIGGER_FIRED_BY_TRUNCATE(data.tg_event)) {
        count_storage_truncated(truncate_storage_sums());
        invalidate_listings(last_space_id());
    } else if (TRIGGER_FIRED_FOR_ROW(data.tg_event)) {
        handle_row(data, tables->shape);
    }
    return PointerGetDatum(nullptr);
}

}  // namespace cache_ext::api
