#include "pg/obstacle.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
}

namespace cache_ext::pg {

namespace {

struct Words {
    const char* name;
    const char* phrase;  // %s: what it is in
};

Words words_of(Obstacle obstacle) noexcept {
    switch (obstacle) {
        case Obstacle::kNone:
            break;
        case Obstacle::kTemporary:
            return {"temporary table", "temporary table %s"};
        case Obstacle::kLocked:
            return {"row locks", "rows that it locked"};
        case Obstacle::kForeign:
            return {"foreign table", "foreign table %s"};
        case Obstacle::kCatalog:
            return {"catalog", "system catalog %s"};
        case Obstacle::kSequence:
            return {"sequence", "sequence %s"};
        case Obstacle::kStorage:
            return {"storage", "relation %s, which is not kept as a heap"};
        case Obstacle::kParallel:
            return {"parallel plan", "what parallel workers have read"};
        case Obstacle::kCachedValue:
            return {"cached value", "a cached value that was set without dependencies"};
        case Obstacle::kTooMuch:
            return {"too much", "more tables than an entry has room for"};
        case Obstacle::kVolatile:
            return {"volatile function", "function %s, which is volatile"};
        case Obstacle::kTime:
            return {"time", "function %s, which depends on the time"};
        case Obstacle::kSetting:
            return {"setting", "function %s, which reads a setting"};
        case Obstacle::kServerState:
            return {"server state", "function %s, which reads the state of the server"};
        case Obstacle::kIdentity:
            return {"identity", "function %s, which depends on who calls"};
        case Obstacle::kNotLookedInto:
            return {"not looked into", "function %s, whose body is not looked into"};
        case Obstacle::kNotAnalyzed:
            return {"not analyzed", "function %s, whose body could not be analyzed"};
    }
    return {"none", "%s"};
}

bool is_function(Obstacle obstacle) noexcept { return obstacle >= Obstacle::kVolatile; }

}  // namespace

Obstacle obstacle_of_relation(Oid relation, bool* holds_rows) {
    if (holds_rows != nullptr) *holds_rows = false;
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return Obstacle::kStorage;
    const auto* row = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    Obstacle obstacle = Obstacle::kNone;
    if (row->relpersistence == RELPERSISTENCE_TEMP) {
        // A view of that kind is there because of what it stands for.
        obstacle = Obstacle::kTemporary;
    } else if (row->relkind == RELKIND_VIEW || row->relkind == RELKIND_PARTITIONED_TABLE) {
        obstacle = Obstacle::kNone;
    } else if (row->relkind == RELKIND_FOREIGN_TABLE) {
        obstacle = Obstacle::kForeign;
    } else if (row->relkind == RELKIND_SEQUENCE) {
        obstacle = Obstacle::kSequence;
    } else if (relation < FirstNormalObjectId) {
        obstacle = Obstacle::kCatalog;
    } else if (row->relam != HEAP_TABLE_AM_OID ||
               (row->relkind != RELKIND_RELATION && row->relkind != RELKIND_MATVIEW)) {
        obstacle = Obstacle::kStorage;
    } else if (holds_rows != nullptr) {
        *holds_rows = true;
    }
    ReleaseSysCache(tuple);
    return obstacle;
}

const char* name_of(Obstacle obstacle) noexcept { return words_of(obstacle).name; }

const char* describe(const Finding& finding) {
    const Words words = words_of(finding.obstacle);
    if (std::strstr(words.phrase, "%s") == nullptr) return words.phrase;
    const char* name = "(unknown)";
    if (is_function(finding.obstacle)) {
        // What SQL spells without a function: CURRENT_DATE, CURRENT_USER.
        if (!OidIsValid(finding.object))
            return finding.obstacle == Obstacle::kTime ? "the current time" : "the current user";
        name = format_procedure(finding.object);
    } else if (OidIsValid(finding.object)) {
        const char* relation = get_rel_name(finding.object);
        const char* schema =
            relation != nullptr ? get_namespace_name_or_temp(get_rel_namespace(finding.object)) : nullptr;
        name = schema != nullptr ? quote_qualified_identifier(schema, relation)
                                 : psprintf("with OID %u", finding.object);
    }
    return psprintf(words.phrase, name);
}

}  // namespace cache_ext::pg
