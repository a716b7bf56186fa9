// The handler of the language `cached`: what runs when a cached function is called.

#include "api/cached_call.hpp"

#include "api/args.hpp"
#include "api/cached_function.hpp"
#include "api/cached_key.hpp"
#include "api/context.hpp"
#include "api/filling.hpp"
#include "api/reading.hpp"
#include "api/result.hpp"
#include "api/template.hpp"
#include "core/hash.hpp"
#include "pg/compat.hpp"
#include "pg/environment.hpp"
#include "pg/guard.hpp"
#include "pg/settings.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "nodes/makefuncs.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"
}

namespace cache_ext::api {

namespace {

/// What is known of a place that calls a cached function, for all its calls. In the memory of the call's own FmgrInfo.
struct CallSite {
    Definition* definition;
    MemoryContextCallback on_reset;
    MemoryContext memory;  ///< of what is below, where it was described anew
    bool is_described;     ///< false: an error was in the way
    std::uint32_t types;   ///< types_generation() when it was
    int calls;             ///< that have begun and not ended
    KeyFrame frame;
    ArgumentType* arguments;
    TagTemplate* tags;
    ResultType result;
    bool is_cacheable;  ///< arguments and result can be kept and told apart
};

void end_call_site(void* site) {
    auto& definition = static_cast<CallSite*>(site)->definition;
    if (definition != nullptr) release_definition(definition);
    definition = nullptr;
}

// --- the place of the call ----------------------------------------------------------------------------

Oid argument_type(FunctionCallInfo fcinfo, const Definition& d, int number) {
    if (!IsPolymorphicType(d.argument_types[number])) return d.argument_types[number];
    const Oid type = get_fn_expr_argtype(fcinfo->flinfo, number);
    if (!OidIsValid(type)) {
        ereport(ERROR, (errcode(ERRCODE_INDETERMINATE_DATATYPE),
                        errmsg("could not determine data type for argument %d of cached function \"%s\"",
                               number + 1, d.key_name)));
    }
    return type;
}

/// The result of a single value. The rows of an anonymous type are described by whoever calls, or by OUT arguments.
ResultType single_result_of(FunctionCallInfo fcinfo, const Definition& d) {
    if (d.result != RECORDOID && !IsPolymorphicType(d.result)) return single_result(d.result, nullptr);
    Oid type = InvalidOid;
    TupleDesc row = nullptr;
    const TypeFuncClass kind = get_call_result_type(fcinfo, &type, &row);
    if (d.result == RECORDOID)
        return single_result(RECORDOID, kind == TYPEFUNC_COMPOSITE ? BlessTupleDesc(row) : nullptr);
    if (!OidIsValid(type))
        elog(ERROR, "could not determine the result type of cached function %s", d.key_name);
    return single_result(type, nullptr);
}

/// Where a set is called from decides what its rows look like.
ResultType set_result_of(FunctionCallInfo fcinfo, const Definition& d) {
    const auto* result = reinterpret_cast<const ReturnSetInfo*>(fcinfo->resultinfo);
    if (result == nullptr || !IsA(result, ReturnSetInfo) || (result->allowedModes & SFRM_Materialize) == 0) {
        pg::raise(ERRCODE_FEATURE_NOT_SUPPORTED,
                  "set-valued function called in context that cannot accept a set");
    }
    if (result->expectedDesc == nullptr) {
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("cached function \"%s\" is called where the columns of its rows are not known",
                               d.key_name),
                        errhint("Call it in FROM, with a list of columns where it returns records.")));
    }
    return set_result(CreateTupleDescCopy(result->expectedDesc));
}

void describe_call(CallSite& site, FunctionCallInfo fcinfo) {
    const Definition& d = *site.definition;
    site.arguments =
        static_cast<ArgumentType*>(palloc0(sizeof(ArgumentType) * static_cast<Size>(d.argument_count + 1)));
    site.is_cacheable = true;
    std::uint64_t shape = 0;
    for (int i = 0; i < d.argument_count; ++i) {
        ArgumentType& argument = site.arguments[i];
        argument.type = argument_type(fcinfo, d, i);
        get_typlenbyval(argument.type, &argument.bytes, &argument.by_value);
        site.is_cacheable = add_type_shape(shape, argument.type) && site.is_cacheable;
    }
    site.result = d.is_set ? set_result_of(fcinfo, d) : single_result_of(fcinfo, d);
    site.is_cacheable = site.is_cacheable && site.result.is_storable &&
                        // Nothing without preloading tells which relations were written.
                        (!d.is_tracked || pg::tracks_writes());
    site.frame = {site.arguments, d.argument_count, fcinfo->fncollation, d.is_polymorphic,
                  core::mix(shape ^ site.result.shape, 0x9e3779b97f4a7c15ULL + shape)};
    site.tags = static_cast<TagTemplate*>(palloc0(sizeof(TagTemplate) * static_cast<Size>(d.tag_count + 1)));
    auto* types = static_cast<Oid*>(palloc(sizeof(Oid) * static_cast<Size>(d.argument_count + 1)));
    std::transform(site.arguments, site.arguments + d.argument_count, types,
                   [](const ArgumentType& argument) { return argument.type; });
    ArgumentFinder finder{&d, types};
    for (int i = 0; i < d.tag_count; ++i)
        site.tags[i] = checked_template(d.tags[i], ArgumentFinder::find, &finder, "argument");
}

CallSite* make_call_site(FunctionCallInfo fcinfo) {
    MemoryContext memory = fcinfo->flinfo->fn_mcxt;
    auto* site = static_cast<CallSite*>(MemoryContextAllocZero(memory, sizeof(CallSite)));
    site->on_reset.func = end_call_site;
    site->on_reset.arg = site;
    MemoryContextRegisterResetCallback(memory, &site->on_reset);
    fcinfo->flinfo->fn_extra = site;
    return site;
}

/// Where a place is described: first in the memory of the call, which may last as long as the session, and then in some that is used again.
MemoryContext memory_for(CallSite& site, FunctionCallInfo fcinfo, bool is_first) {
    if (is_first) return fcinfo->flinfo->fn_mcxt;
    if (site.memory == nullptr) {
        site.memory =
            AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "cache_ext call site", ALLOCSET_SMALL_SIZES);
    }
    MemoryContextReset(site.memory);
    return site.memory;
}

/// The place of this call: described when it is first called from, and again when one of the functions, or a type, has changed.
CallSite& call_site(FunctionCallInfo fcinfo) {
    auto* site = static_cast<CallSite*>(fcinfo->flinfo->fn_extra);
    if (site != nullptr && site->is_described && site->definition->is_current &&
        site->types == types_generation()) [[likely]]
        return *site;
    // A call that is under way keeps what it began with.
    const bool is_first = site == nullptr || site->calls > 0;
    if (is_first) site = make_call_site(fcinfo);
    site->is_described = false;
    end_call_site(site);
    site->definition = acquire_definition(fcinfo->flinfo->fn_oid);
    MemoryContext outer = MemoryContextSwitchTo(memory_for(*site, fcinfo, is_first));
    const std::uint32_t types = types_generation();
    describe_call(*site, fcinfo);
    MemoryContextSwitchTo(outer);
    site->types = types;
    site->is_described = true;
    return *site;
}

// --- calling the function underneath ------------------------------------------------------------------

/// One call, and its result once that was computed: it need not be unpacked then.
struct Call {
    CallSite& site;
    FunctionCallInfo fcinfo;
    MemoryContext memory;  // of the caller
    bool is_computed = false;
    Datum value = 0;
    bool is_null = true;
    // That a set's rows are put into: at once if they have no stored form, else at the end.
    Tuplestorestate* rows = nullptr;
    std::size_t limit = 0;          // to the bytes of the stored form
    varlena* packed = nullptr;      // that form; null: not wanted, or too large
    SetRequest* request = nullptr;  // gets its tags when there is something to be stored
    bool is_warmed = false;         // see Source
};

/// The function underneath with these arguments, as the parser would have made it.
FuncExpr* call_expression(const Call& call) {
    const Definition& d = *call.site.definition;
    List* arguments = NIL;
    for (int i = 0; i < d.argument_count; ++i) {
        const ArgumentType& type = call.site.arguments[i];
        arguments = lappend(
            arguments, makeConst(type.type, -1, call.fcinfo->fncollation, type.bytes,
                                 call.fcinfo->args[i].value, call.fcinfo->args[i].isnull, type.by_value));
    }
    const Oid result = IsPolymorphicType(d.result) ? get_fn_expr_rettype(call.fcinfo->flinfo) : d.result;
    FuncExpr* expression = makeFuncExpr(d.underneath.oid, result, arguments, InvalidOid,
                                        call.fcinfo->fncollation, COERCE_EXPLICIT_CALL);
    expression->funcretset = d.is_set;
    expression->funcvariadic = d.is_variadic;
    return expression;
}

/// Calls it as FROM does: for sets, and for rows whose columns only the caller knows. Ends with the context.
Tuplestorestate* call_for_rows(const Call& call, ExprContext* context) {
    MemoryContext arguments =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext arguments", ALLOCSET_SMALL_SIZES);
    SetExprState* state =
        ExecInitTableFunctionResult(reinterpret_cast<Expr*>(call_expression(call)), context, nullptr);
    return ExecMakeTableFunctionResult(state, context, arguments, call.site.result.row, false);
}

void call_for_set(Call& call) {
    ExprContext* context = CreateStandaloneExprContext();
    // Where these rows are is for the function to say, and may be gone with this call.
    Tuplestorestate* rows = call_for_rows(call, context);
    MemoryContext work = MemoryContextSwitchTo(call.memory);
    call.packed = pack_rows(call.site.result, rows, call.rows, call.limit);
    MemoryContextSwitchTo(work);
    tuplestore_end(rows);
    FreeExprContext(context, true);
}

void call_for_row(Call& call) {
    const ResultType& type = call.site.result;
    ExprContext* context = CreateStandaloneExprContext();
    Tuplestorestate* rows = call_for_rows(call, context);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(type.row, &TTSOpsMinimalTuple);
    if (tuplestore_gettupleslot(rows, true, false, slot)) {
        slot_getallattrs(slot);
        MemoryContext work = MemoryContextSwitchTo(call.memory);
        call.value = HeapTupleGetDatum(heap_form_tuple(type.row, slot->tts_values, slot->tts_isnull));
        call.is_null = false;
        MemoryContextSwitchTo(work);
    }
    ExecDropSingleTupleTableSlot(slot);
    tuplestore_end(rows);
    FreeExprContext(context, true);
}

void call_for_value(Call& call) {
    ExprContext* context = CreateStandaloneExprContext();
    ExprState* state = ExecInitExpr(reinterpret_cast<Expr*>(call_expression(call)), nullptr);
    const Datum value = ExecEvalExprSwitchContext(state, context, &call.is_null);
    if (!call.is_null) {
        MemoryContext work = MemoryContextSwitchTo(call.memory);
        call.value = datumTransfer(value, call.site.result.by_value, call.site.result.bytes);
        MemoryContextSwitchTo(work);
    }
    FreeExprContext(context, true);
}

const ReturnSetInfo* set_info(FunctionCallInfo fcinfo) {
    const auto* info = reinterpret_cast<const ReturnSetInfo*>(fcinfo->resultinfo);
    return info != nullptr && IsA(info, ReturnSetInfo) ? info : nullptr;
}

/// Calls it and notes its result.
void call_underneath(Call& call) {
    MemoryContext work = AllocSetContextCreate(call.memory, "cache_ext computation", ALLOCSET_DEFAULT_SIZES);
    MemoryContext outer = MemoryContextSwitchTo(work);
    const ReturnSetInfo* info = set_info(call.fcinfo);
    if (call.site.definition->is_set) {
        call_for_set(call);
    } else if (call.site.result.row != nullptr && info != nullptr && info->expectedDesc != nullptr) {
        call_for_row(call);
    } else {
        call_for_value(call);
    }
    MemoryContextSwitchTo(outer);
    MemoryContextDelete(work);
    call.is_computed = true;
}

/// Empties a setting of the caller's until its nesting level ends.
void empty_locally(const char* name) {
    const char* value = GetConfigOption(name, true, false);
    if (value == nullptr || value[0] == '\0') return;
    // One that a library defines may take no empty text.
    if (set_config_option(name, "", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, DEBUG1, false) <= 0)
        pg::set_locally(name, nullptr);
}

/// Empties all that says who calls: what the interface before the server tells of a request, and the settings that are part of the scope.
void forget_caller() {
    pg::visit_settings("request.", empty_locally);
    List* names = NIL;
    if (pg::settings::scope_settings == nullptr ||
        !SplitGUCList(pstrdup(pg::settings::scope_settings), ',', &names))
        return;
    for (int i = 0; i < list_length(names); ++i) {
        const auto* name = static_cast<const char*>(list_nth(names, i));
        // The server's own have other ways of saying nothing.
        if (std::strchr(name, '.') != nullptr) empty_locally(name);
    }
}

/// Whoever asks, a shared result is what the function's owner would be given, who is nobody in particular: no claims, and names looked up where they were when
/// it was declared shared. Else the first who asks would decide what everybody gets, and could have the owner run code of his own.
void call_as_owner(Call& call) {
    const Definition& d = *call.site.definition;
    Oid role = InvalidOid;
    int security = 0;
    GetUserIdAndSecContext(&role, &security);
    const int level = NewGUCNestLevel();
    SetUserIdAndSecContext(d.owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    if (d.search_path != nullptr) pg::set_locally("search_path", d.search_path);
    forget_caller();
    call_underneath(call);
    AtEOXact_GUC(false, level);
    SetUserIdAndSecContext(role, security);
}

void compute(Call& call) {
    const Definition& d = *call.site.definition;
    const int level = d.avoids_parallel ? NewGUCNestLevel() : 0;
    if (d.avoids_parallel) pg::set_locally("max_parallel_workers_per_gather", "0");
    if (d.is_shared) {
        call_as_owner(call);
    } else {
        call_underneath(call);
    }
    if (d.avoids_parallel) AtEOXact_GUC(false, level);
}

/// The tags of a call. False: one of them cannot be carried by any entry, so that nobody could invalidate the result by it.
bool make_tags(const CallSite& site, FunctionCallInfo fcinfo, Texts& tags) {
    const int count = site.definition->tag_count;
    if (count == 0) return true;
    tags.begin_ = static_cast<std::string_view*>(palloc(sizeof(std::string_view) * static_cast<Size>(count)));
    for (int i = 0; i < count; ++i) {
        bool has_null = false;
        const std::string_view tag = make_tag(site.tags[i], [&](int field, bool& is_null) {
            has_null = is_null = fcinfo->args[field - 1].isnull;
            return fcinfo->args[field - 1].value;
        });
        if (tag.empty() && !has_null) return false;
        if (!tag.empty() && std::find(tags.begin(), tags.end(), tag) == tags.end())
            std::construct_at(tags.begin_ + tags.count++, tag);
    }
    return true;
}

/// As read_or_fill wants it: what is to be stored of the result. Nothing of a function that writes, which has to run each time.
Datum compute_packed(void* context) {
    Call& call = *static_cast<Call*>(context);
    const TransactionId xid = GetTopTransactionIdIfAny();
    const CommandId command = GetCurrentCommandId(false);
    call.limit = std::size_t{static_cast<unsigned>(pg::settings::max_entry_size_kb)} * 1024;
    const std::uint64_t begin = nanoseconds();
    compute(call);
    pg::region().header().functions.add_computation(count_id(call.site.definition->function.oid),
                                                    (nanoseconds() - begin) / 1000);
    if (GetTopTransactionIdIfAny() != xid || GetCurrentCommandId(false) != command) return 0;
    if (!make_tags(call.site, call.fcinfo, call.request->tags)) return 0;
    if (!call.site.definition->is_set)
        call.packed = pack_value(call.site.result, call.value, call.is_null, call.limit);
    return PointerGetDatum(call.packed);
}

/// As read_or_fill wants it. What was computed may be of rows that are there no more.
void forget_computed(void* context) {
    Call& call = *static_cast<Call*>(context);
    call.is_computed = false;
    call.value = 0;
    call.is_null = true;
    call.packed = nullptr;
    if (call.rows != nullptr)
        call.rows = start_rows_again(*reinterpret_cast<ReturnSetInfo*>(call.fcinfo->resultinfo));
}

// --- the cached call ----------------------------------------------------------------------------------

void read_or_compute(Call& call) {
    CallSite& site = call.site;
    Definition& d = *site.definition;
    if (!site.is_cacheable || !usable()) return compute(call);

    SetRequest request;
    if (d.duration_argument >= 0) request.duration = duration_argument(call.fcinfo, d.duration_argument);
    request.max_age = request.duration;
    // How long others are given a shared result is for its owner to say.
    if (request.duration == 0 || d.is_shared) request.duration = d.duration;
    request.grace = d.grace;
    request.by_policy = false;
    request.is_binary = true;
    std::uint64_t person[2];
    if (!d.is_shared) pg::personal_id(person);
    char buffer[core::kMaxKeyBytes];
    request.key = make_key(d, site.frame, call.fcinfo, d.is_shared ? nullptr : person, buffer);
    call.request = &request;
    const pg::Caller& caller = pg::caller();
    const core::Scope scope = function_scope(d.is_shared ? shared_scope(caller) : own_scope(caller));
    const Place place{&scope, true};
    pg::Finding obstacle;
    const Source source{compute_packed, &call, "cached function", forget_computed, &obstacle, call.is_warmed};
    const Tracking tracking = d.is_tracked          ? Tracking::kAll
                              : pg::tracks_writes() ? Tracking::kRowSecurity
                                                    : Tracking::kNone;
    const Datum packed = read_or_fill(request, place, source, tracking);
    if (obstacle.obstacle == pg::Obstacle::kParallel) d.avoids_parallel = true;
    if (call.is_computed) {
        if (d.is_set && call.packed != nullptr) unpack_rows(site.result, call.packed, call.rows);
        return;
    }
    pg::session().function_hits.add(count_id(d.function.oid), pg::region().header().functions);
    auto* bytes = reinterpret_cast<varlena*>(DatumGetPointer(packed));
    if (d.is_set) {
        unpack_rows(site.result, bytes, call.rows);
        pfree(bytes);
    } else {
        call.value = unpack_value(site.result, bytes, call.is_null);
    }
}

bool has_null_argument(const Definition& d, FunctionCallInfo fcinfo) {
    return std::any_of(fcinfo->args, fcinfo->args + d.argument_count,
                       [](const NullableDatum& argument) { return argument.isnull; });
}

/// Where a set's rows go, which the server finds there.
Tuplestorestate* start_rows(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
    return reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo)->setResult;
}

}  // namespace

Warmed warm_call(FunctionCallInfo fcinfo, std::string_view key) {
    CallSite& site = call_site(fcinfo);
    Definition& d = *site.definition;
    check_permission(d);
    if (!site.is_cacheable || !d.is_shared || !usable() || (d.is_strict && has_null_argument(d, fcinfo)))
        return Warmed::kNotDue;
    char buffer[core::kMaxKeyBytes];
    const core::Scope scope = function_scope(shared_scope(pg::caller()));
    const auto is_fresh = [&] { return look_up(key, scope).where != Visible::Where::kNowhere; };
    if (make_key(d, site.frame, fcinfo, nullptr, buffer) != key || is_fresh()) return Warmed::kNotDue;
    Call call{site, fcinfo, CurrentMemoryContext};
    call.is_warmed = true;
    if (d.is_set) call.rows = start_rows(fcinfo);
    read_or_compute(call);
    if (!call.is_computed) return Warmed::kNotDue;  // somebody else has been faster
    return is_fresh() ? Warmed::kComputed : Warmed::kNot;
}

CACHE_EXT_FUNCTION(call_cached_function) {
    if (CALLED_AS_TRIGGER(fcinfo) || CALLED_AS_EVENT_TRIGGER(fcinfo))
        pg::raise(ERRCODE_FEATURE_NOT_SUPPORTED, "a trigger function cannot be cached");
    CallSite& site = call_site(fcinfo);
    Definition& d = *site.definition;
    check_permission(d);
    Call call{site, fcinfo, CurrentMemoryContext};
    if (d.is_set) call.rows = start_rows(fcinfo);
    ++site.calls;
    if (!d.is_strict || !has_null_argument(d, fcinfo)) read_or_compute(call);
    --site.calls;
    fcinfo->isnull = !d.is_set && call.is_null;
    return call.value;
}

}  // namespace cache_ext::api
