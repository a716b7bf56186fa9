#include "pg/trackability.hpp"

#include "pg/body_names.hpp"
#include "pg/compat.hpp"
#include "pg/environment.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/proclang.h"
#include "executor/functions.h"
#include "nodes/nodeFuncs.h"
#include "nodes/primnodes.h"
#include "parser/analyze.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rowsecurity.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/varlena.h"
}

namespace cache_ext::pg {

namespace {

/// How deep functions in functions, and views in views, are followed.
constexpr int kMaxDepth = 16;
/// How many functions, and how many relations, are looked at.
constexpr int kMaxObjects = 256;

struct Seen {
    Oid objects[kMaxObjects];
    int count;
};

struct Walk {
    Trackability* out;
    int depth;
    bool guesses;  ///< bodies in PL/pgSQL are gone through for names: what bears one of them counts as used
    Seen functions;
    Seen relations;
};

/// Whether the object is met for the first time, and there is room to remember it.
bool is_new(Walk& w, Seen& seen, Oid object) {
    if (std::find(seen.objects, seen.objects + seen.count, object) != seen.objects + seen.count) return false;
    if (seen.count == kMaxObjects) {
        w.out->complete = false;
        return false;
    }
    seen.objects[seen.count++] = object;
    return true;
}

void add_finding(Walk& w, Obstacle obstacle, Oid object) {
    Trackability& t = *w.out;
    const auto same = [&](const Finding& f) { return f.obstacle == obstacle && f.object == object; };
    if (std::any_of(t.findings, t.findings + t.finding_count, same)) return;
    if (t.finding_count == Trackability::kMaxFindings) {
        t.complete = false;
    } else {
        t.findings[t.finding_count++] = {obstacle, object};
    }
}

bool walk(Node* node, void* context);
void look_at(Oid function, Walk& w);

// --- relations ----------------------------------------------------------------------------------------

/// What is read with a table: what its policies ask, whoever they are for.
void walk_policies(Relation relation, Walk& w) {
    if (!relation->rd_rel->relrowsecurity || relation->rd_rsdesc == nullptr) return;
    const List* policies = relation->rd_rsdesc->policies;
    for (int i = 0; i < list_length(policies); ++i) {
        const auto* policy = static_cast<const RowSecurityPolicy*>(list_nth(policies, i));
        walk(reinterpret_cast<Node*>(policy->qual), &w);
    }
}

void look_at_relation(Oid oid, Walk& w) {
    Trackability& t = *w.out;
    // A view's own definition names the view.
    if (!is_new(w, w.relations, oid)) return;
    bool holds_rows = false;
    const Obstacle obstacle = obstacle_of_relation(oid, &holds_rows);
    if (obstacle != Obstacle::kNone) add_finding(w, obstacle, oid);
    if (holds_rows) {
        if (t.relation_count < Trackability::kMaxRelations) {
            t.relations[t.relation_count++] = oid;
        } else {
            t.complete = false;
        }
    }
    if (w.depth >= kMaxDepth) {
        t.complete = false;
        return;
    }
    ++w.depth;
    Relation relation = relation_open(oid, AccessShareLock);
    if (relation->rd_rel->relkind == RELKIND_VIEW) {
        walk(static_cast<Node*>(copyObjectImpl(get_view_query(relation))), &w);
    } else {
        walk_policies(relation, w);
    }
    if (relation->rd_rel->relhassubclass) {
        const List* children = find_inheritance_children(oid, AccessShareLock);
        for (int i = 0; i < list_length(children); ++i)
            look_at_relation(list_nth_oid(children, i), w);
    }
    relation_close(relation, NoLock);
    --w.depth;
}

// --- functions ----------------------------------------------------------------------------------------

bool starts_with(const char* text, const char* prefix) {
    return std::strncmp(text, prefix, std::strlen(prefix)) == 0;
}

/// What a function of the server's own that is not immutable may depend on. The server does not say; most depend on nothing but settings of formats and
/// time zones.
Obstacle obstacle_of_builtin(const char* name, char volatility) {
    static constexpr const char* kTimes[] = {"now", "transaction_timestamp", "statement_timestamp"};
    static constexpr const char* kIdentities[] = {"current_user", "session_user"};
    static constexpr const char* kState[] = {"pg_",
                                             "has_",
                                             "txid_",
                                             "inet_",
                                             "current_",
                                             "to_reg",
                                             "col_description",
                                             "obj_description",
                                             "shobj_description",
                                             "format_type",
                                             "row_security_active"};
    if (volatility == PROVOLATILE_VOLATILE) return Obstacle::kVolatile;
    const auto is = [&](const char* other) { return std::strcmp(name, other) == 0; };
    const auto begins = [&](const char* prefix) { return starts_with(name, prefix); };
    if (std::any_of(std::begin(kTimes), std::end(kTimes), is)) return Obstacle::kTime;
    if (std::any_of(std::begin(kIdentities), std::end(kIdentities), is)) return Obstacle::kIdentity;
    if (is("current_setting")) return Obstacle::kSetting;
    if (std::any_of(std::begin(kState), std::end(kState), begins)) return Obstacle::kServerState;
    return Obstacle::kNone;
}

/// What is known of a setting: those that tell callers apart are part of who calls.
Obstacle obstacle_of_setting(const char* setting) {
    if (starts_with(setting, "request.jwt.claim")) return Obstacle::kIdentity;
    List* names = NIL;
    if (settings::scope_settings != nullptr &&
        SplitIdentifierString(pstrdup(settings::scope_settings), ',', &names)) {
        for (int i = 0; i < list_length(names); ++i) {
            if (pg_strcasecmp(static_cast<const char*>(list_nth(names, i)), setting) == 0)
                return Obstacle::kIdentity;
        }
    }
    return Obstacle::kSetting;
}

Obstacle obstacle_of_setting(const List* arguments) {
    const auto* first = static_cast<const Node*>(linitial(arguments));
    if (!IsA(first, Const)) return Obstacle::kSetting;
    const auto* name = reinterpret_cast<const Const*>(first);
    if (name->constisnull) return Obstacle::kNone;
    return obstacle_of_setting(text_to_cstring(DatumGetTextPP(name->constvalue)));
}

/// The search_path that a function sets; null: it sets none.
const char* own_search_path(HeapTuple tuple) {
    constexpr std::string_view kSets = "search_path=";
    bool is_null = false;
    const Datum settings = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_proconfig, &is_null);
    if (is_null) return nullptr;
    Datum* values = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(settings), TEXTOID, -1, false, TYPALIGN_INT, &values, nullptr,
                      &count);
    for (int i = 0; i < count; ++i) {
        const char* setting = TextDatumGetCString(values[i]);
        if (starts_with(setting, kSets.data())) return setting + kSets.size();
    }
    return nullptr;
}

/// The schemas in which names are looked up now, whoever "$user" is.
const char* present_search_path() {
    StringInfoData text;
    initStringInfo(&text);
    const List* schemas = fetch_search_path(false);
    for (int i = 0; i < list_length(schemas); ++i) {
        const Oid schema = list_nth_oid(schemas, i);
        const char* name = isTempNamespace(schema) ? "pg_temp" : get_namespace_name(schema);
        if (name == nullptr) continue;
        if (text.len > 0) appendStringInfoString(&text, ", ");
        appendStringInfoString(&text, quote_identifier(name));
    }
    return text.data;
}

/// Looks with the rights of the function's owner from here on, and no more than look, until the subtransaction ends that the caller rolls back: what a body says
/// runs code as it is parsed (a literal of an array of a domain runs what the domain checks), and that is not for whoever looks to answer for. Names are looked
/// up as where the function is called.
void look_as_owner(HeapTuple tuple) {
    const char* path = own_search_path(tuple);
    if (path == nullptr) path = present_search_path();
    Oid user = InvalidOid;
    int security = 0;
    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(reinterpret_cast<const FormData_pg_proc*>(GETSTRUCT(tuple))->proowner,
                           security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    set_locally("search_path", path);
}

/// Parses and analyzes the body of a function in SQL.
void walk_sql_body(HeapTuple tuple, Walk& w) {
    bool is_null = false;
    const Datum stored = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosqlbody, &is_null);
    if (!is_null) {
        walk(static_cast<Node*>(stringToNode(text_to_cstring(DatumGetTextPP(stored)))), &w);
        return;
    }
    const Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);
    if (is_null) return;
    const char* body = text_to_cstring(DatumGetTextPP(source));
    look_as_owner(tuple);
    SQLFunctionParseInfoPtr arguments = prepare_sql_fn_parse_info(tuple, nullptr, InvalidOid);
    const List* statements = pg_parse_query(body);
    for (int i = 0; i < list_length(statements); ++i) {
        Query* query =
            parse_analyze_withcb(static_cast<RawStmt*>(list_nth(statements, i)), body,
                                 reinterpret_cast<ParserSetupHook>(sql_fn_parser_setup), arguments, nullptr);
        walk(reinterpret_cast<Node*>(query), &w);
    }
}

void walk_aggregate(Oid function, Walk& w) {
    HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) return;
    const auto* row = reinterpret_cast<Form_pg_aggregate>(GETSTRUCT(tuple));
    const Oid parts[] = {row->aggtransfn, row->aggfinalfn};
    ReleaseSysCache(tuple);
    for (const Oid part : parts) {
        if (OidIsValid(part)) look_at(part, w);
    }
}

// --- bodies that nobody can analyze ---------------------------------------------------------------------

/// Every function of that name, in whatever schema.
void look_at_namesakes(const char* name, Walk& w) {
    CatCList* all = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum(name));
    const int count = all->n_members;
    Oid* functions = static_cast<Oid*>(palloc(static_cast<Size>(count + 1) * sizeof(Oid)));
    for (int i = 0; i < count; ++i)
        functions[i] = reinterpret_cast<Form_pg_proc>(GETSTRUCT(&all->members[i]->tuple))->oid;
    ReleaseCatCacheList(all);
    for (int i = 0; i < count; ++i)
        look_at(functions[i], w);
}

/// Every view of that name, and every table with row security. Others hold rows and nothing else.
void look_at_relations_named(const char* name, Walk& w) {
    CatCList* all = SearchSysCacheList1(RELNAMENSP, CStringGetDatum(name));
    const int count = all->n_members;
    Oid* relations = static_cast<Oid*>(palloc(static_cast<Size>(count + 1) * sizeof(Oid)));
    int kept = 0;
    for (int i = 0; i < count; ++i) {
        const auto* row = reinterpret_cast<Form_pg_class>(GETSTRUCT(&all->members[i]->tuple));
        if (row->relkind == RELKIND_VIEW || row->relrowsecurity || row->relispartition)
            relations[kept++] = row->oid;
    }
    ReleaseCatCacheList(all);
    for (int i = 0; i < kept; ++i) {
        // It may be another's altogether: nobody waits for that.
        if (ConditionalLockRelationOid(relations[i], AccessShareLock)) {
            if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relations[i])))
                look_at_relation(relations[i], w);
        } else {
            w.out->complete = false;
        }
    }
}

void look_at_name(const BodyName& word, Oid function, Walk& w) {
    static constexpr const char* kTimes[] = {"current_date", "current_time", "current_timestamp", "localtime",
                                             "localtimestamp"};
    const auto is = [&](const char* other) { return std::strcmp(word.name, other) == 0; };
    if (std::any_of(std::begin(kTimes), std::end(kTimes), is)) {
        add_finding(w, Obstacle::kTime, InvalidOid);
    } else if (is("execute") || is("show")) {
        // A statement that is not there yet.
        add_finding(w, Obstacle::kNotAnalyzed, function);
    } else if (is("current_setting")) {
        const auto bytes = word.literal.size();
        const Obstacle obstacle = word.literal.data() == nullptr
                                      ? Obstacle::kSetting
                                      : obstacle_of_setting(pnstrdup(word.literal.data(), bytes));
        add_finding(w, obstacle, F_CURRENT_SETTING_TEXT);
    } else if (word.is_called) {
        look_at_namesakes(word.name, w);
    } else {
        look_at_relations_named(word.name, w);
    }
}

/// What a function in another language may depend on, if it is not declared to depend on nothing.
void guess(Oid function, HeapTuple tuple, Walk& w) {
    const auto* row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    if (row->provolatile == PROVOLATILE_IMMUTABLE) return;
    bool is_null = true;
    const Datum source = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_prosrc, &is_null);
    if (is_null || row->prolang != get_language_oid("plpgsql", true)) {
        add_finding(w, Obstacle::kNotAnalyzed, function);
        return;
    }
    if (w.depth >= kMaxDepth) {
        w.out->complete = false;
        return;
    }
    ++w.depth;
    BodyNames names(text_to_cstring(DatumGetTextPP(source)));
    for (BodyName name{}; names.next(name);)
        look_at_name(name, function, w);
    --w.depth;
}

void look_at_new(Oid function, HeapTuple tuple, Walk& w) {
    const auto* row = reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple));
    if (row->prolang == INTERNALlanguageId || row->prolang == ClanguageId) {
        // What an extension's code reads nobody knows but by what is declared.
        const Obstacle obstacle = function < FirstNormalObjectId
                                      ? obstacle_of_builtin(NameStr(row->proname), row->provolatile)
                                  : row->provolatile == PROVOLATILE_VOLATILE ? Obstacle::kVolatile
                                                                             : Obstacle::kNone;
        if (row->prokind == PROKIND_AGGREGATE) {
            if (function >= FirstNormalObjectId) walk_aggregate(function, w);
        } else if (obstacle != Obstacle::kNone) {
            add_finding(w, obstacle, function);
        }
        return;
    }
    if (row->prolang != SQLlanguageId) {
        add_finding(w, Obstacle::kNotLookedInto, function);
        if (w.guesses) guess(function, tuple, w);
        return;
    }
    if (w.depth >= kMaxDepth) {
        w.out->complete = false;
        return;
    }
    ++w.depth;
    walk_sql_body(tuple, w);
    --w.depth;
}

void look_at(Oid function, Walk& w) {
    if (!is_new(w, w.functions, function)) return;

    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) {
        add_finding(w, Obstacle::kNotAnalyzed, function);
        return;
    }
    // An error in one body hides nothing of the others. What was found before it stays; the locks of the attempt go.
    const MemoryContext memory = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;
    const int depth = w.depth;
    volatile bool failed = false;
    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(memory);
    PG_TRY();
    { look_at_new(function, tuple, w); }
    PG_CATCH();
    {
        MemoryContextSwitchTo(memory);
        const ErrorData* error = CopyErrorData();
        // Nobody who cancels waits for an answer.
        if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
            PG_RE_THROW();
        FlushErrorState();
        failed = true;
    }
    PG_END_TRY();
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(memory);
    CurrentResourceOwner = owner;
    w.depth = depth;
    ReleaseSysCache(tuple);
    if (failed) add_finding(w, Obstacle::kNotAnalyzed, function);
}

bool look_at_called(Oid function, void* w) {
    look_at(function, *static_cast<Walk*>(w));
    return false;
}

// --- expressions and queries --------------------------------------------------------------------------

void look_at_value(const SQLValueFunction* value, Walk& w) {
    switch (value->op) {
        case SVFOP_CURRENT_ROLE:
        case SVFOP_CURRENT_USER:
        case SVFOP_USER:
        case SVFOP_SESSION_USER:
            add_finding(w, Obstacle::kIdentity, InvalidOid);
            break;
        case SVFOP_CURRENT_CATALOG:
        case SVFOP_CURRENT_SCHEMA:  // of the search path
            break;
        default:
            add_finding(w, Obstacle::kTime, InvalidOid);
    }
}

bool walk(Node* node, void* context) {
    if (node == nullptr) return false;
    auto* w = static_cast<Walk*>(context);
    if (IsA(node, Query)) return walk_query(reinterpret_cast<Query*>(node), walk, w);
    if (IsA(node, RangeTblEntry)) {
        const auto* entry = reinterpret_cast<const RangeTblEntry*>(node);
        if (entry->rtekind == RTE_RELATION) look_at_relation(entry->relid, *w);
        return false;
    }
    if (IsA(node, SQLValueFunction)) {
        look_at_value(reinterpret_cast<const SQLValueFunction*>(node), *w);
        return false;
    }
    if (IsA(node, FuncExpr)) {
        const auto* call = reinterpret_cast<const FuncExpr*>(node);
        if (call->funcid == F_CURRENT_SETTING_TEXT || call->funcid == F_CURRENT_SETTING_TEXT_BOOL) {
            const Obstacle obstacle = obstacle_of_setting(call->args);
            if (obstacle != Obstacle::kNone) add_finding(*w, obstacle, call->funcid);
            return walk_expression(node, walk, w);
        }
    }
    (void)check_functions_in_node(node, look_at_called, w);
    return walk_expression(node, walk, w);
}

}  // namespace

void look_at_function(Oid function, Trackability& out) {
    out = {};
    Walk w{};
    w.out = &out;
    look_at(function, w);
}

bool has_row_security(Oid table) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    if (!HeapTupleIsValid(tuple)) return true;  // gone meanwhile
    const auto* row = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    const bool result = row->relrowsecurity || row->relispartition;
    ReleaseSysCache(tuple);
    return result;
}

void look_at_policies(Oid table, Trackability& out) {
    out = {};
    Walk w{};
    w.out = &out;
    w.guesses = true;
    is_new(w, w.relations, table);
    List* tables = list_make1_oid(table);
    if (get_rel_relispartition(table)) tables = list_concat(tables, get_partition_ancestors(table));
    for (int i = 0; i < list_length(tables); ++i) {
        // Whoever has read it holds a lock, unless that was in a part that was rolled back. Nobody waits for one here.
        const Oid oid = list_nth_oid(tables, i);
        Relation relation =
            ConditionalLockRelationOid(oid, AccessShareLock) ? try_relation_open(oid, NoLock) : nullptr;
        if (relation == nullptr) {
            out.complete = false;
            continue;
        }
        walk_policies(relation, w);
        relation_close(relation, NoLock);
    }
}

}  // namespace cache_ext::pg
