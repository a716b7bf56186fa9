#include "worker/queue_delivery.hpp"

#include <algorithm>
#include <map>

#include "pg/guard.hpp"
#include "pg/queue.hpp"
#include "pg/wal.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "mb/pg_wchar.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
}

namespace cache_ext::worker {

namespace {

constexpr redis::milliseconds kLeaveAlone{5000};

/// What is read of a table at once; a single item may be larger.
constexpr std::size_t kItems = 2000;
constexpr std::size_t kBytes = 8 * 1024 * 1024;
constexpr int kPerFetch = 20;

SPIPlanPtr prepare(const char* format, const char* table, int count, Oid* types) {
    char sql[400];
    std::snprintf(sql, sizeof sql, format, table);
    SPIPlanPtr plan = SPI_prepare(sql, count, types);
    if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
    SPI_keepplan(plan);
    return plan;
}

/// In UTF-8, as Redis has all texts.
std::string text_at(HeapTuple row, int column) {
    bool is_null = true;
    const Datum value = SPI_getbinval(row, SPI_tuptable->tupdesc, column, &is_null);
    const char* own = is_null ? "" : TextDatumGetCString(value);
    return pg_server_to_any(own, static_cast<int>(strlen(own)), PG_UTF8);
}

/// The oldest items of a table that nobody is taking, added to `items`. Whether those are all.
bool read_table(int number, Datum without, std::vector<redis::ListItem>& items) {
    static constinit SPIPlanPtr plans[pg::kQueueTables] = {};
    Oid types[] = {TEXTARRAYOID};
    if (plans[number] == nullptr)
        plans[number] = prepare(
            "SELECT id, queue, id || ' ' || extract(epoch FROM added_at), data::text FROM ONLY "
            "cache_ext_internal.%s "
            "WHERE queue <> ALL ($1) ORDER BY id FOR UPDATE SKIP LOCKED",
            pg::kQueueTable[number], 1, types);
    Portal cursor = SPI_cursor_open(nullptr, plans[number], &without, nullptr, false);
    const std::size_t before = items.size();
    bool is_all = false;
    for (std::size_t bytes = 0; items.size() - before < kItems && bytes < kBytes && !is_all;) {
        SPI_cursor_fetch(cursor, true, kPerFetch);
        is_all = SPI_processed < kPerFetch;
        for (std::uint64_t i = 0; i < SPI_processed; ++i) {
            const HeapTuple row = SPI_tuptable->vals[i];
            bool is_null = true;
            items.push_back({DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 1, &is_null)),
                             text_at(row, 2), text_at(row, 3), text_at(row, 4)});
            bytes += items.back().text.size();
        }
        SPI_freetuptable(SPI_tuptable);
    }
    SPI_cursor_close(cursor);
    return is_all;
}

/// The oldest items of all queues but those, in their order. Whether those are all.
bool read_items(const std::set<std::string>& without, std::vector<redis::ListItem>& items) {
    bool is_all = true;
    std::int64_t most = INT64_MAX;
    pg::pg_call([&] {
        SPI_connect();
        auto* const names = static_cast<Datum*>(palloc(sizeof(Datum) * (without.size() + 1)));
        int count = 0;
        for (const std::string& name : without)
            names[count++] = CStringGetTextDatum(
                pg_any_to_server(pstrdup(name.c_str()), static_cast<int>(name.size()), PG_UTF8));
        const Datum array = PointerGetDatum(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
        for (int i = 0; i < pg::kQueueTables; ++i) {
            if (read_table(i, array, items)) continue;
            is_all = false;
            most = std::min(most, items.back().id);
        }
        SPI_finish();
    });
    // Another table may have older ones than those that a table was not read up to.
    std::erase_if(items, [most](const redis::ListItem& item) { return item.id > most; });
    std::sort(items.begin(), items.end(),
              [](const redis::ListItem& a, const redis::ListItem& b) { return a.id < b.id; });
    return is_all;
}

/// Deletes items; those that were. One that is being moved to another table at this moment is not.
std::vector<redis::ListItem> delete_items(const std::vector<redis::ListItem>& items) {
    static constinit SPIPlanPtr plans[pg::kQueueTables] = {};
    std::map<std::string, std::vector<std::int64_t>> queues;
    for (const redis::ListItem& item : items)
        queues[item.queue].push_back(item.id);
    std::set<std::int64_t> gone;
    pg::pg_call([&] {
        Oid types[] = {TEXTOID, INT8ARRAYOID};
        SPI_connect();
        for (const auto& [name, ids] : queues) {
            auto* const values = static_cast<Datum*>(palloc(sizeof(Datum) * ids.size()));
            std::transform(ids.begin(), ids.end(), values, [](std::int64_t id) { return Int64GetDatum(id); });
            Datum arguments[] = {
                CStringGetTextDatum(
                    pg_any_to_server(pstrdup(name.c_str()), static_cast<int>(name.size()), PG_UTF8)),
                PointerGetDatum(construct_array(values, static_cast<int>(ids.size()), INT8OID, sizeof(int64),
                                                FLOAT8PASSBYVAL, TYPALIGN_DOUBLE))};
            for (int i = 0; i < pg::kQueueTables; ++i) {
                if (plans[i] == nullptr)
                    plans[i] = prepare(
                        "DELETE FROM ONLY cache_ext_internal.%s WHERE queue = $1 AND id = ANY ($2) "
                        "RETURNING id",
                        pg::kQueueTable[i], 2, types);
                if (const int result = SPI_execute_plan(plans[i], arguments, nullptr, false, 0); result < 0)
                    elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
                for (std::uint64_t n = 0; n < SPI_processed; ++n) {
                    bool is_null = true;
                    gone.insert(DatumGetInt64(
                        SPI_getbinval(SPI_tuptable->vals[n], SPI_tuptable->tupdesc, 1, &is_null)));
                }
            }
        }
        SPI_finish();
        // Redis forgets them as soon as that is committed; so a crash must not bring them back.
        (void)set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
                                true, 0, false);
    });
    std::vector<redis::ListItem> deleted;
    std::copy_if(items.begin(), items.end(), std::back_inserter(deleted),
                 [&gone](const redis::ListItem& item) { return gone.contains(item.id); });
    return deleted;
}

}  // namespace

void QueueDelivery::turn(redis::TimePoint now) {
    if (!feeder_.is_done()) return;
    if (!feeder_.refused().empty()) {
        refused_ = feeder_.refused();
        refused_until_ = now + kLeaveAlone;
    }
    if (!feeder_.added().empty()) {
        feeder_.finish(delete_items(feeder_.added()));
        hungry_ = true;
        return;
    }
    feeder_.finish({});
    if (!hungry_ || !client_.can_take(now)) return;
    if (now >= refused_until_) refused_.clear();
    std::vector<redis::ListItem> items;
    hungry_ = !read_items(refused_, items);
    if (items.empty()) return feeder_.rest();
    // What is added there is to be there after a crash here, too.
    pg::pg_call([] { pg::flush_wal(); });
    feeder_.start(std::move(items));
}

}  // namespace cache_ext::worker
