#include "api/policies.hpp"

#include "api/args.hpp"
#include "pg/guard.hpp"
#include "pg/space.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

constexpr char kInternalSchema[] = "cache_ext_internal";
constexpr char kTable[] = "policies";

/// The columns of the table, in their order, which upgrades only add to.
enum Column {
    kPrefix = 1,
    kDuration,
    kGrace,
    kJitter,
    kTags,
    kShared,
    kWriteThrough,
    kColumns = kWriteThrough
};

/// The policies of this database, the longest prefix first. Made on first use and never freed.
struct Cache {
    std::vector<Policy> policies;
    bool valid = false;
    Oid table = InvalidOid;
    std::uint32_t invalidations = 0;
};

Cache& cache() noexcept {
    static Cache instance;
    return instance;
}

void forget_policies(Datum /*argument*/, Oid relation) noexcept {
    Cache& c = cache();
    if (!OidIsValid(relation) || !OidIsValid(c.table) || relation == c.table) {
        c.valid = false;
        ++c.invalidations;
    }
}

std::int64_t micros(Datum interval) {
    const Interval* i = DatumGetIntervalP(interval);
    return i->time + (std::int64_t{i->month} * DAYS_PER_MONTH + i->day) * USECS_PER_DAY;
}

/// Reads one row. The texts are palloc'd copies; C++ objects are made from them where nothing can raise.
struct Row {
    Datum values[kColumns];
    bool nulls[kColumns];
    Datum* tags;
    bool* tag_nulls;
    int tag_count;
};

Policy policy_of(const Row& row) {
    const auto text_of = [](Datum d) {
        return std::string(VARDATA_ANY(DatumGetPointer(d)), VARSIZE_ANY_EXHDR(DatumGetPointer(d)));
    };
    Policy policy;
    policy.prefix = text_of(row.values[kPrefix - 1]);
    if (!row.nulls[kDuration - 1]) policy.duration = micros(row.values[kDuration - 1]);
    if (!row.nulls[kGrace - 1]) policy.grace = micros(row.values[kGrace - 1]);
    policy.jitter = DatumGetFloat4(row.values[kJitter - 1]);
    for (int i = 0; i < row.tag_count; ++i) {
        if (!row.tag_nulls[i]) policy.tags.push_back(text_of(row.tags[i]));
    }
    policy.shared = DatumGetBool(row.values[kShared - 1]);
    policy.write_through = DatumGetBool(row.values[kWriteThrough - 1]);
    return policy;
}

/// Reads the table as the newest snapshot sees it; no privilege on it is needed.
void read_policies(Relation table, std::vector<Policy>& policies) {
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        Row row;
        for (int i = 0; i < kColumns; ++i)
            row.values[i] = heap_getattr(tuple, i + 1, RelationGetDescr(table), &row.nulls[i]);
        row.values[kPrefix - 1] = PointerGetDatum(PG_DETOAST_DATUM(row.values[kPrefix - 1]));
        row.tag_count = 0;
        if (!row.nulls[kTags - 1]) {
            deconstruct_array(DatumGetArrayTypeP(row.values[kTags - 1]), TEXTOID, -1, false, TYPALIGN_INT,
                              &row.tags, &row.tag_nulls, &row.tag_count);
            for (int i = 0; i < row.tag_count; ++i) {
                if (!row.tag_nulls[i]) row.tags[i] = PointerGetDatum(PG_DETOAST_DATUM(row.tags[i]));
            }
        }
        policies.push_back(policy_of(row));
    }
    systable_endscan(scan);
}

void load(Cache& c) {
    const std::uint32_t before = c.invalidations;
    c.policies.clear();
    c.table = InvalidOid;
    const Oid schema = get_namespace_oid(kInternalSchema, true);
    const Oid table = OidIsValid(schema) ? get_relname_relid(kTable, schema) : InvalidOid;
    if (Relation relation = OidIsValid(table) ? try_table_open(table, AccessShareLock) : nullptr;
        relation != nullptr) {
        read_policies(relation, c.policies);
        table_close(relation, AccessShareLock);
    }
    std::stable_sort(c.policies.begin(), c.policies.end(),
                     [](const Policy& a, const Policy& b) { return a.prefix.size() > b.prefix.size(); });
    c.table = table;
    c.valid = c.invalidations == before;
}

}  // namespace

const Policy* find_policy(std::string_view key) {
    Cache& c = cache();
    if (!c.valid) {
        if (!IsTransactionState() || !pg::current_space().exists) return nullptr;
        load(c);
    }
    for (const Policy& policy : c.policies) {
        if (key.starts_with(policy.prefix)) return &policy;
    }
    return nullptr;
}

void init_policies() { CacheRegisterRelcacheCallback(forget_policies, Datum{0}); }

/// Checks what set_cache_policy is given.
CACHE_EXT_FUNCTION(check_policy) {
    if (PG_ARGISNULL(0)) pg::raise(ERRCODE_NULL_VALUE_NOT_ALLOWED, "policy prefix must not be null");
    checked_key(PG_GETARG_TEXT_PP(0), "policy prefix");
    if (!PG_ARGISNULL(1)) checked_duration(PG_GETARG_INTERVAL_P(1), "cache duration");
    if (!PG_ARGISNULL(2)) checked_duration(PG_GETARG_INTERVAL_P(2), "grace period");
    if (!PG_ARGISNULL(3) && !(PG_GETARG_FLOAT4(3) >= 0 && PG_GETARG_FLOAT4(3) <= 1)) {
        pg::raise(ERRCODE_INVALID_PARAMETER_VALUE, "jitter must be between 0 and 1");
    }
    tags_argument(fcinfo, 4, static_cast<int>(core::kMaxTags));
    PG_RETURN_VOID();
}

/// The trigger on tables that sessions keep copies of: a write to a table tells nobody by itself.
CACHE_EXT_FUNCTION(settings_changed) {
    if (!CALLED_AS_TRIGGER(fcinfo)) {
        pg::raise(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED, "settings_changed must be called as a trigger");
    }
    CacheInvalidateRelcacheByRelid(
        RelationGetRelid(reinterpret_cast<TriggerData*>(fcinfo->context)->tg_relation));
    return PointerGetDatum(nullptr);
}

}  // namespace cache_ext::api
