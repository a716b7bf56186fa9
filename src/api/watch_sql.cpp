#include "api/watch_sql.hpp"

#include "api/context.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "parser/parser.h"
#include "tcop/cmdtag.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"
}

namespace cache_ext::api {

namespace {

constexpr char kPairs[] = "cache_ext_rows";
constexpr char kChanged[] = "changed";
constexpr long kRowsAtATime = 1000;

// --- what a session keeps of a watch ------------------------------------------------------------------

/// By trigger.
struct Kept {
    Oid trigger;
    Oid relation;
    bool outdated;            ///< the relation has changed, and with it perhaps the SQL or the rows' type
    std::uint32_t warned_of;  ///< a hash of the SQL that has failed; 0 = none has
    SPIPlanPtr condition;
    SPIPlanPtr cascade;
};

constinit HTAB* kept_watches = nullptr;

void forget_relation(Datum /*argument*/, Oid relation) noexcept {
    if (kept_watches == nullptr) return;
    HASH_SEQ_STATUS scan;
    hash_seq_init(&scan, kept_watches);
    while (auto* kept = static_cast<Kept*>(hash_seq_search(&scan))) {
        if (!OidIsValid(relation) || kept->relation == relation) kept->outdated = true;
    }
}

void free_plan(SPIPlanPtr& plan) {
    if (plan == nullptr) return;
    SPI_freeplan(plan);
    plan = nullptr;
}

Kept& keep(Oid trigger, Oid relation) {
    if (kept_watches == nullptr) {
        HASHCTL how{};
        how.keysize = sizeof(Oid);
        how.entrysize = sizeof(Kept);
        kept_watches = hash_create("cache_ext watches", 16, &how, HASH_ELEM | HASH_BLOBS);
    }
    bool found = false;
    auto* kept = static_cast<Kept*>(hash_search(kept_watches, &trigger, HASH_ENTER, &found));
    if (!found) *kept = {trigger, relation, false, 0, nullptr, nullptr};
    if (kept->outdated || kept->relation != relation) {
        free_plan(kept->condition);
        free_plan(kept->cascade);
        kept->relation = relation;
        kept->outdated = false;
    }
    return *kept;
}

// --- plans ----------------------------------------------------------------------------------------------

/// Both are called with SPI connected, as the watch's owner.
[[noreturn]] void raise_sql(const char* what, const char* detail, const char* hint) {
    ereport(ERROR, (errcode(ERRCODE_SYNTAX_ERROR), errmsg("%s of a watch is not valid", what),
                    errdetail("%s", detail), errhint("%s", hint)));
    pg_unreachable();
}

/// Whoever writes the watched table could put a temporary table in the place of one that is gone, and code of his own behind it.
void check_tables(SPIPlanPtr plan, const char* what) {
    const auto* source = static_cast<const CachedPlanSource*>(linitial(SPI_plan_get_plan_sources(plan)));
    for (int i = 0; i < list_length(source->relationOids); ++i) {
        const Oid relation = list_nth_oid(source->relationOids, i);
        if (get_rel_relkind(relation) != '\0' && get_rel_persistence(relation) == RELPERSISTENCE_TEMP) {
            raise_sql(what, "It reads a temporary table.", "Read tables that are there for all sessions.");
        }
    }
}

/// Opens a plan that may be one of before: what its names mean now is seen only here.
Portal open_rows(SPIPlanPtr plan, const char* what) {
    Portal portal = SPI_cursor_open(nullptr, plan, nullptr, nullptr, true);
    check_tables(plan, what);
    return portal;
}

/// Prepares a query that may only read, and no temporary tables.
SPIPlanPtr prepare(const char* query, const char* what) {
    SPIPrepareOptions options{};
    options.parseMode = RAW_PARSE_DEFAULT;
    SPIPlanPtr plan = SPI_prepare_extended(query, &options);
    if (plan == nullptr) elog(ERROR, "could not prepare a watch: %s", SPI_result_code_string(SPI_result));
    List* sources = SPI_plan_get_plan_sources(plan);
    const auto* source =
        list_length(sources) == 1 ? static_cast<const CachedPlanSource*>(linitial(sources)) : nullptr;
    const auto* parsed = source != nullptr && source->query_list != NIL
                             ? static_cast<const Query*>(linitial(source->query_list))
                             : nullptr;
    if (parsed == nullptr || parsed->commandType != CMD_SELECT || parsed->hasModifyingCTE ||
        source->resultDesc == nullptr) {
        raise_sql(what, "It is not one query that only reads.", "Pass a single SELECT.");
    }
    check_tables(plan, what);
    return plan;
}

/// The rows for the condition: pairs of an old and a new one.
TupleDesc pair_description(Oid row_type) {
    TupleDesc description = CreateTemplateTupleDesc(2);
    TupleDescInitEntry(description, 1, "o", row_type, -1, 0);
    TupleDescInitEntry(description, 2, "n", row_type, -1, 0);
    return description;
}

/// Makes an error's position one in the condition.
void describe_condition(void* condition) {
    const int position = geterrposition();
    if (position <= 0) return;
    errposition(0);
    internalerrposition(position);
    internalerrquery(static_cast<const char*>(condition));
}

SPIPlanPtr prepare_condition(const char* condition) {
    // By itself first, so that nothing in it closes the parenthesis.
    ErrorContextCallback context{error_context_stack, describe_condition, const_cast<char*>(condition)};
    error_context_stack = &context;
    raw_parser(condition, RAW_PARSE_PLPGSQL_EXPR);
    error_context_stack = context.previous;
    SPIPlanPtr plan =
        prepare(psprintf("SELECT %s.o, %s.n FROM %s CROSS JOIN LATERAL (SELECT (%s.o).*) AS old "
                         "CROSS JOIN LATERAL (SELECT (%s.n).*) AS new WHERE (\n%s\n)",
                         kPairs, kPairs, kPairs, kPairs, kPairs, condition),
                "condition");
    return plan;
}

SPIPlanPtr prepare_cascade(const char* cascade) {
    SPIPlanPtr plan = prepare(cascade, "cascade");
    const auto* source = static_cast<const CachedPlanSource*>(linitial(SPI_plan_get_plan_sources(plan)));
    const Oid type =
        source->resultDesc->natts == 1 ? TupleDescAttr(source->resultDesc, 0)->atttypid : InvalidOid;
    const Oid element = OidIsValid(type) ? get_base_element_type(type) : InvalidOid;
    char category = '\0';
    bool preferred = false;
    if (OidIsValid(type))
        get_type_category_preferred(OidIsValid(element) ? element : type, &category, &preferred);
    if (category != TYPCATEGORY_STRING) {
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH), errmsg("cascade of a watch does not return tags"),
                        errdetail("It must return one column of type text or text[].")));
    }
    return plan;
}

void register_rows(const char* name, Oid relation, TupleDesc description, Tuplestorestate* rows) {
    auto* named = static_cast<EphemeralNamedRelation>(palloc0(sizeof(EphemeralNamedRelationData)));
    named->md.name = pstrdup(name);
    named->md.reliddesc = relation;
    named->md.tupdesc = description;
    named->md.enrtype = ENR_NAMED_TUPLESTORE;
    named->md.enrtuples = static_cast<double>(tuplestore_tuple_count(rows));
    named->reldata = rows;
    SPI_register_relation(named);
}

// --- rows ----------------------------------------------------------------------------------------------

/// Reads the pairs of old and new rows that were written. The tables of an update have as many rows, in the same order.
struct RowReader {
    const WrittenRows& rows;
    TupleTableSlot* old_slot;
    TupleTableSlot* new_slot;
    MemoryContext own;  ///< of what the slots hold; what a table that was spilled gives out is theirs to free
    bool single_read;

    explicit RowReader(const WrittenRows& written)
        : rows(written), own(CurrentMemoryContext), single_read(false) {
        const TupleDesc description = RelationGetDescr(rows.relation);
        old_slot = MakeSingleTupleTableSlot(description, &TTSOpsMinimalTuple);
        new_slot = MakeSingleTupleTableSlot(description, &TTSOpsMinimalTuple);
        if (rows.old_table != nullptr) tuplestore_rescan(rows.old_table);
        if (rows.new_table != nullptr) tuplestore_rescan(rows.new_table);
    }

    HeapTuple read(Tuplestorestate* table, TupleTableSlot* slot) const {
        if (table == nullptr) return nullptr;
        const MemoryContext before = MemoryContextSwitchTo(own);
        const bool found = tuplestore_gettupleslot(table, true, false, slot);
        MemoryContextSwitchTo(before);
        if (!found) return nullptr;
        bool must_free = false;
        return ExecFetchSlotHeapTuple(slot, false, &must_free);
    }

    void end() {
        ExecDropSingleTupleTableSlot(old_slot);
        ExecDropSingleTupleTableSlot(new_slot);
    }

    /// In the current memory context. False: there are no more.
    bool next(HeapTuple& old_row, HeapTuple& new_row) {
        if (rows.old_table == nullptr && rows.new_table == nullptr) {
            old_row = rows.old_row;
            new_row = rows.new_row;
            return !std::exchange(single_read, true) && (old_row != nullptr || new_row != nullptr);
        }
        old_row = read(rows.old_table, old_slot);
        new_row = read(rows.new_table, new_slot);
        return old_row != nullptr || new_row != nullptr;
    }
};

/// One evaluation, with SPI connected.
struct Evaluation {
    const WatchSpec& spec;
    const WrittenRows& rows;
    RowTags& tags;
    core::Id128 space;
    Tuplestorestate* pairs;    // for the condition
    Tuplestorestate* changed;  // where the cascade wants them
    MemoryContext scratch;     // for one pair, or some
    bool any;
};

/// Takes a pair for which the condition holds.
void take(Evaluation& e, HeapTuple old_row, HeapTuple new_row) {
    e.any = true;
    for (HeapTuple row : {old_row, new_row}) {
        if (row == nullptr) continue;
        invalidate_row(e.tags, e.space, row, RelationGetDescr(e.rows.relation));
        if (e.changed != nullptr) tuplestore_puttuple(e.changed, row);
    }
}

void take_all(Evaluation& e) {
    RowReader reader(e.rows);
    const MemoryContext before = MemoryContextSwitchTo(e.scratch);
    HeapTuple old_row = nullptr;
    HeapTuple new_row = nullptr;
    while (reader.next(old_row, new_row)) {
        take(e, old_row, new_row);
        MemoryContextReset(e.scratch);
    }
    MemoryContextSwitchTo(before);
    reader.end();
}

void collect_pairs(Evaluation& e, TupleDesc description) {
    e.pairs = tuplestore_begin_heap(false, false, work_mem);
    RowReader reader(e.rows);
    const TupleDesc row_description = RelationGetDescr(e.rows.relation);
    const MemoryContext before = MemoryContextSwitchTo(e.scratch);
    HeapTuple row[2] = {nullptr, nullptr};
    while (reader.next(row[0], row[1])) {
        Datum values[2] = {0, 0};
        bool nulls[2];
        for (int i = 0; i < 2; ++i) {
            nulls[i] = row[i] == nullptr;
            if (!nulls[i]) values[i] = heap_copy_tuple_as_datum(row[i], row_description);
        }
        tuplestore_putvalues(e.pairs, description, values, nulls);
        MemoryContextReset(e.scratch);
    }
    MemoryContextSwitchTo(before);
    reader.end();
}

/// A row inside a composite value. `header` is the caller's, for the tuple to be in.
HeapTuple tuple_of(Datum value, bool is_null, HeapTupleData& tuple) {
    if (is_null) return nullptr;
    HeapTupleHeader header = DatumGetHeapTupleHeader(value);
    tuple = {};
    tuple.t_len = HeapTupleHeaderGetDatumLength(header);
    tuple.t_data = header;
    return &tuple;
}

void take_where_condition_holds(Evaluation& e, SPIPlanPtr plan) {
    Portal portal = open_rows(plan, "condition");
    for (;;) {
        SPI_cursor_fetch(portal, true, kRowsAtATime);
        const std::uint64_t count = SPI_processed;
        const MemoryContext before = MemoryContextSwitchTo(e.scratch);
        for (std::uint64_t i = 0; i < count; ++i) {
            HeapTuple pair = SPI_tuptable->vals[i];
            const TupleDesc description = SPI_tuptable->tupdesc;
            HeapTupleData tuples[2];
            bool is_null = false;
            const Datum o = SPI_getbinval(pair, description, 1, &is_null);
            HeapTuple old_row = tuple_of(o, is_null, tuples[0]);
            const Datum n = SPI_getbinval(pair, description, 2, &is_null);
            HeapTuple new_row = tuple_of(n, is_null, tuples[1]);
            take(e, old_row, new_row);
        }
        MemoryContextSwitchTo(before);
        MemoryContextReset(e.scratch);
        SPI_freetuptable(SPI_tuptable);
        if (count == 0) break;
    }
    SPI_cursor_close(portal);
}

/// What no entry can carry is no tag.
void invalidate_text(const core::Id128& space, FmgrInfo* output, Datum value) {
    const std::string_view tag = OutputFunctionCall(output, value);
    if (!tag.empty() && tag.size() <= core::kMaxTagBytes) invalidate_tag(space, tag);
}

void invalidate_value(const core::Id128& space, FmgrInfo* output, const TypeCacheEntry* element,
                      Datum value) {
    if (element == nullptr) {
        invalidate_text(space, output, value);
        return;
    }
    Datum* values = nullptr;
    bool* nulls = nullptr;
    int count = 0;
    deconstruct_array(DatumGetArrayTypeP(value), element->type_id, element->typlen, element->typbyval,
                      element->typalign, &values, &nulls, &count);
    for (int i = 0; i < count; ++i) {
        if (!nulls[i]) invalidate_text(space, output, values[i]);
    }
}

void run_cascade(Evaluation& e, SPIPlanPtr plan) {
    const auto* source = static_cast<const CachedPlanSource*>(linitial(SPI_plan_get_plan_sources(plan)));
    const Oid type = TupleDescAttr(source->resultDesc, 0)->atttypid;
    const Oid element_type = get_base_element_type(type);
    const TypeCacheEntry* element = OidIsValid(element_type) ? lookup_type_cache(element_type, 0) : nullptr;
    Oid function = InvalidOid;
    bool is_varlena = false;
    FmgrInfo output;
    getTypeOutputInfo(OidIsValid(element_type) ? element_type : type, &function, &is_varlena);
    fmgr_info(function, &output);

    Portal portal = open_rows(plan, "cascade");
    for (;;) {
        SPI_cursor_fetch(portal, true, kRowsAtATime);
        const std::uint64_t count = SPI_processed;
        const MemoryContext before = MemoryContextSwitchTo(e.scratch);
        for (std::uint64_t i = 0; i < count; ++i) {
            bool is_null = false;
            const Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &is_null);
            if (!is_null) invalidate_value(e.space, &output, element, value);
        }
        MemoryContextSwitchTo(before);
        MemoryContextReset(e.scratch);
        SPI_freetuptable(SPI_tuptable);
        if (count == 0) break;
    }
    SPI_cursor_close(portal);
}

/// Evaluates with SPI connected, as the owner. Without `kept` the plans are not kept.
void evaluate(Evaluation& e, Kept* kept) {
    const Oid relation = RelationGetRelid(e.rows.relation);
    e.scratch =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext rows of a watch", ALLOCSET_DEFAULT_SIZES);
    if (e.spec.has_cascade()) e.changed = tuplestore_begin_heap(false, false, work_mem);

    if (e.spec.has_condition()) {
        const Oid row_type = e.rows.relation->rd_rel->reltype;
        TupleDesc description = pair_description(row_type);
        collect_pairs(e, description);
        register_rows(kPairs, InvalidOid, description, e.pairs);
        SPIPlanPtr plan = kept != nullptr ? kept->condition : nullptr;
        if (plan == nullptr) {
            plan = prepare_condition(e.spec.condition);
            if (kept != nullptr && SPI_keepplan(plan) == 0) kept->condition = plan;
        }
        take_where_condition_holds(e, plan);
    } else {
        take_all(e);
    }
    if (e.any) invalidate_plain(e.tags, e.space);
    // Without `kept` it is to be seen whether it runs.
    if (!e.spec.has_cascade() || (!e.any && kept != nullptr)) return;

    register_rows(kChanged, relation, nullptr, e.changed);
    SPIPlanPtr plan = kept != nullptr ? kept->cascade : nullptr;
    if (plan == nullptr) {
        plan = prepare_cascade(e.spec.cascade);
        if (kept != nullptr && SPI_keepplan(plan) == 0) kept->cascade = plan;
    }
    run_cascade(e, plan);
}

/// With whose rights the watch's SQL runs on rows of this table. The table's owner can put code of his own into the most harmless condition, by giving a
/// column a type that has casts. So a superuser's rights are lent to nobody who is none: then it is the table's owner himself.
Oid role_to_run_as(const WatchSpec& spec, Relation table) {
    const Oid owner = get_role_oid(spec.owner, true);
    if (!OidIsValid(owner)) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("role \"%s\" does not exist", spec.owner)));
    }
    const Oid table_owner = table->rd_rel->relowner;
    return superuser_arg(owner) && !superuser_arg(table_owner) ? table_owner : owner;
}

/// The same from outside: as that role, security-restricted, read only, under a snapshot that sees what the statement has written.
void evaluate_as_owner(Evaluation& e, Kept* kept) {
    const Oid owner = role_to_run_as(e.spec, e.rows.relation);
    Oid user = InvalidOid;
    int context = 0;
    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(owner, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    const int settings = NewGUCNestLevel();
    const char* path = *e.spec.search_path != '\0' ? psprintf("%s, pg_temp", e.spec.search_path) : "pg_temp";
    set_config_option("search_path", path, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    // Functions may write otherwise. The end of the subtransaction takes it back.
    XactReadOnly = true;
    CommandCounterIncrement();
    PushActiveSnapshot(GetTransactionSnapshot());
    SPI_connect();
    evaluate(e, kept);
    // Of what was spilled, files are open until here.
    for (Tuplestorestate* rows : {e.pairs, e.changed}) {
        if (rows != nullptr) tuplestore_end(rows);
    }
    SPI_finish();
    PopActiveSnapshot();
    AtEOXact_GUC(false, settings);
    SetUserIdAndSecContext(user, context);
}

/// Runs `body` in a subtransaction. What it raises is thrown, as pg::PgError, after it was rolled back.
template <class Body>
void in_subtransaction(Body&& body) {
    const MemoryContext memory = CurrentMemoryContext;
    const ResourceOwner owner = CurrentResourceOwner;
    const auto end = [memory, owner](void (*how)()) {
        pg::pg_call([how] { how(); });
        MemoryContextSwitchTo(memory);
        CurrentResourceOwner = owner;
    };
    pg::pg_call([memory] {
        BeginInternalSubTransaction(nullptr);
        MemoryContextSwitchTo(memory);
    });
    try {
        pg::pg_call([&body] { body(); });
    } catch (...) {
        end(RollbackAndReleaseCurrentSubTransaction);
        throw;
    }
    end(ReleaseCurrentSubTransaction);
}

/// Whether an error of a watch's SQL is not about that, but ends the statement.
bool ends_statement(int sqlstate) noexcept {
    return sqlstate == ERRCODE_QUERY_CANCELED || sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE;
}

/// The rows are unknown now, or what they mean: all that the tags can stand for.
void invalidate_in_place(Evaluation& e) {
    const RowTags& tags = e.tags;
    if (tags.any_plain) {
        invalidate_plain(tags, e.space);
    } else if (e.spec.has_cascade() || !tags.any_column) {
        invalidate_everything(e.space);
    }
    if (tags.any_column) {
        e.changed = nullptr;
        take_all(e);
    }
}

void warn(const WatchSpec& spec, Relation relation, const char* message) {
    ereport(
        WARNING,
        (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
         errmsg("%s of the watch on table \"%s\" failed",
                spec.has_condition() && spec.has_cascade() ? "condition or cascade"
                : spec.has_condition()                     ? "condition"
                                                           : "cascade",
                RelationGetRelationName(relation)),
         errdetail("%s", message),
         errhint("Its tags are invalidated for all rows instead; without plain tags, that may stand for a "
                 "cascade's, everything is. Call watch_table again to put it right.")));
}

}  // namespace

void check_watch_sql(const WatchSpec& spec, Relation relation) {
    const TupleDesc row = RelationGetDescr(relation);
    for (int i = 1; i <= row->natts; ++i) {
        if (!is_virtual(row, i)) continue;
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("a condition or a cascade cannot watch table \"%s\" with virtual generated columns",
                        RelationGetRelationName(relation)),
                 errhint("Watch it without them, or make the columns STORED.")));
    }
    const WrittenRows none{relation, nullptr, nullptr, nullptr, nullptr};
    RowTags* tags = parse_row_tags(relation, nullptr, 0, true);
    Evaluation e{spec, none, *tags, space_id(), nullptr, nullptr, nullptr, false};
    in_subtransaction([&e] { evaluate_as_owner(e, nullptr); });
}

void run_watch_sql(const WatchSpec& spec, const Trigger& trigger, const WrittenRows& rows, RowTags& tags) {
    Evaluation e{spec, rows, tags, space_id(), nullptr, nullptr, nullptr, false};
    char message[1024] = "";
    bool failed = false;
    try {
        in_subtransaction(
            [&] { evaluate_as_owner(e, &keep(trigger.tgoid, RelationGetRelid(rows.relation))); });
    } catch (const pg::PgError& error) {
        if (ends_statement(error.sqlstate())) throw;
        failed = true;
        pg_snprintf(message, sizeof message, "%s", error.what());
    } catch (const std::bad_alloc&) {
        failed = true;
        pg_snprintf(message, sizeof message, "out of memory");
    }
    if (!failed) return;
    Evaluation again{spec, rows, tags, space_id(), nullptr, nullptr, nullptr, false};
    again.scratch =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext rows of a watch", ALLOCSET_DEFAULT_SIZES);
    invalidate_in_place(again);
    MemoryContextDelete(again.scratch);
    Kept& kept = keep(trigger.tgoid, RelationGetRelid(rows.relation));
    const std::uint32_t sql =
        hash_combine(string_hash(spec.condition, SIZE_MAX), string_hash(spec.cascade, SIZE_MAX)) | 1;
    if (std::exchange(kept.warned_of, sql) != sql) warn(spec, rows.relation, message);
}

void init_watch_sql() { CacheRegisterRelcacheCallback(forget_relation, Datum{0}); }

}  // namespace cache_ext::api
