#include "api/compute.hpp"

#include "pg/guard.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/params.h"
#include "parser/parse_param.h"
#include "parser/parser.h"
#include "tcop/cmdtag.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
}

namespace cache_ext::api {

namespace {

// --- the result ---------------------------------------------------------------------------------------

/// Takes rows from the executor as they come. Of a single JSON value it keeps the value; of rows, their objects one behind the other, as
/// the elements of a jsonb array lie.
struct Receiver {
    DestReceiver base;      // first: the server knows it by this
    MemoryContext result;   // the caller's memory
    MemoryContext work;     // until the result is there
    MemoryContext scratch;  // one row's
    bool is_value;
    Oid type;     // of that one column
    Datum value;  // 0 = there was no row
    TupleDesc row;
    FmgrInfo to_jsonb;
    StringInfoData objects;
    std::uint32_t* lengths;  // of each, with the padding before it
    std::uint32_t count;
    std::uint32_t capacity;
};

Receiver* receiver_of(DestReceiver* base) { return reinterpret_cast<Receiver*>(base); }

Datum json_null() { return DirectFunctionCall1(jsonb_in, CStringGetDatum("null")); }

/// to_jsonb(record), to be called row by row.
void prepare_to_jsonb(FmgrInfo& function) {
    fmgr_info(F_TO_JSONB, &function);
    Const* argument = makeNullConst(RECORDOID, -1, InvalidOid);
    FuncExpr* call = makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument), InvalidOid, InvalidOid,
                                  COERCE_EXPLICIT_CALL);
    fmgr_info_set_expr(reinterpret_cast<Node*>(call), &function);
}

void begin_rows(DestReceiver* base, int /*operation*/, TupleDesc description) {
    Receiver& r = *receiver_of(base);
    if (description->natts == 1) {
        const Oid type = getBaseType(TupleDescAttr(description, 0)->atttypid);
        r.is_value = type == JSONOID || type == JSONBOID;
        r.type = type;
    }
    MemoryContext outer = MemoryContextSwitchTo(r.work);
    r.scratch = AllocSetContextCreate(CurrentMemoryContext, "cache_ext row", ALLOCSET_DEFAULT_SIZES);
    if (!r.is_value) {
        r.row = BlessTupleDesc(CreateTupleDescCopy(description));
        prepare_to_jsonb(r.to_jsonb);
        initStringInfo(&r.objects);
        r.capacity = 64;
        r.lengths = static_cast<std::uint32_t*>(palloc(sizeof(std::uint32_t) * r.capacity));
    }
    MemoryContextSwitchTo(outer);
}

void take_value(Receiver& r, TupleTableSlot* slot) {
    if (r.value != 0) {
        pg::raise(ERRCODE_CARDINALITY_VIOLATION, "cached query returned more than one row",
                  "A query with one column of type json or jsonb returns one value.",
                  "Aggregate the rows, or add a column to have them as an array of objects.");
    }
    bool is_null = false;
    const Datum value = slot_getattr(slot, 1, &is_null);
    MemoryContextSwitchTo(r.result);
    if (is_null) {
        r.value = json_null();
    } else if (r.type == JSONBOID) {
        r.value = PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
    } else {
        r.value = DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(value)));
    }
}

void take_row(Receiver& r, TupleTableSlot* slot) {
    slot_getallattrs(slot);
    HeapTuple tuple = heap_form_tuple(r.row, slot->tts_values, slot->tts_isnull);
    const auto* object = DatumGetJsonbP(FunctionCall1(&r.to_jsonb, HeapTupleGetDatum(tuple)));

    if (r.count == r.capacity) {
        r.capacity *= 2;
        r.lengths = static_cast<std::uint32_t*>(repalloc_huge(r.lengths, sizeof(std::uint32_t) * r.capacity));
    }
    const int before = r.objects.len;
    while (r.objects.len % static_cast<int>(sizeof(std::uint32_t)) != 0)
        appendStringInfoCharMacro(&r.objects, '\0');
    appendBinaryStringInfo(&r.objects, reinterpret_cast<const char*>(&object->root),
                           static_cast<int>(VARSIZE(object) - VARHDRSZ));
    if (r.objects.len > static_cast<int>(JENTRY_OFFLENMASK)) {
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("total size of jsonb array elements exceeds the maximum of %u bytes",
                               static_cast<unsigned>(JENTRY_OFFLENMASK))));
    }
    r.lengths[r.count++] = static_cast<std::uint32_t>(r.objects.len - before);
}

bool receive_row(TupleTableSlot* slot, DestReceiver* base) {
    Receiver& r = *receiver_of(base);
    MemoryContext outer = MemoryContextSwitchTo(r.scratch);
    if (r.is_value) {
        take_value(r, slot);
    } else {
        take_row(r, slot);
    }
    MemoryContextSwitchTo(outer);
    MemoryContextReset(r.scratch);
    return true;
}

void end_rows(DestReceiver* /*base*/) {}

/// The array, laid out as the server lays out a jsonb: a header, a word for each element (its length; for each JB_OFFSET_STRIDE'th where it
/// ends), the elements.
Datum make_array(const Receiver& r) {
    const Size bytes =
        VARHDRSZ + sizeof(std::uint32_t) + sizeof(JEntry) * r.count + static_cast<Size>(r.objects.len);
    auto* array = static_cast<Jsonb*>(MemoryContextAlloc(r.result, bytes));
    SET_VARSIZE(array, bytes);
    array->root.header = r.count | JB_FARRAY;
    std::uint32_t end = 0;
    for (std::uint32_t i = 0; i < r.count; ++i) {
        end += r.lengths[i];
        array->root.children[i] =
            JENTRY_ISCONTAINER | (i % JB_OFFSET_STRIDE == 0 ? end | JENTRY_HAS_OFF : r.lengths[i]);
    }
    if (r.count > 0)
        std::memcpy(&array->root.children[r.count], r.objects.data, static_cast<std::size_t>(r.objects.len));
    return PointerGetDatum(array);
}

// --- parameters ---------------------------------------------------------------------------------------

/// The types of $1…, as the parser infers them.
struct ParameterTypes {
    Oid* types;
    int count;
};

void infer_types(ParseState* state, void* argument) {
    auto* inferred = static_cast<ParameterTypes*>(argument);
    setup_parse_variable_parameters(state, &inferred->types, &inferred->count);
}

/// A parameter's text; null for JSON null.
char* text_of(const JsonbValue& value) {
    switch (value.type) {
        case jbvNull:
            return nullptr;
        case jbvString:
            return pnstrdup(value.val.string.val, static_cast<Size>(value.val.string.len));
        case jbvNumeric:
            return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
        case jbvBool:
            return pstrdup(value.val.boolean ? "true" : "false");
        default:
            return JsonbToCString(nullptr, value.val.binary.data, value.val.binary.len);
    }
}

void describe_parameter(void* number) {
    errcontext("parameter $%d of a cached query", *static_cast<const int*>(number));
    errhint(
        "The elements of p_params are bound as text, with the types that the query infers. A cast in the "
        "query, as in $1::text, says what is meant.");
}

ParamListInfo bind(Jsonb* parameters, const ParameterTypes& inferred) {
    const int given = parameters != nullptr ? static_cast<int>(JB_ROOT_COUNT(parameters)) : 0;
    if (given != inferred.count) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_PARAMETER),
                        errmsg("wrong number of parameters for a cached query"),
                        errdetail("The query uses %d, p_params has %d.", inferred.count, given),
                        errhint("Pass one element of p_params for each of $1, $2 and so on.")));
    }
    if (given == 0) return nullptr;

    ParamListInfo list = makeParamList(given);
    JsonbIterator* iterator = JsonbIteratorInit(&parameters->root);
    JsonbValue element;
    int number = 0;
    ErrorContextCallback context{error_context_stack, describe_parameter, &number};
    error_context_stack = &context;
    for (JsonbIteratorToken token; (token = JsonbIteratorNext(&iterator, &element, true)) != WJB_DONE;) {
        if (token != WJB_ELEM) continue;
        ParamExternData& parameter = list->params[number++];
        const Oid type = inferred.types[number - 1];
        if (type == InvalidOid || type == UNKNOWNOID) {
            ereport(ERROR, (errcode(ERRCODE_INDETERMINATE_DATATYPE),
                            errmsg("could not determine data type of parameter $%d", number)));
        }
        Oid input = InvalidOid;
        Oid io_parameter = InvalidOid;
        getTypeInputInfo(type, &input, &io_parameter);
        char* text = text_of(element);
        parameter.value = OidInputFunctionCall(input, text, io_parameter, -1);
        parameter.isnull = text == nullptr;
        parameter.pflags = PARAM_FLAG_CONST;
        parameter.ptype = type;
    }
    error_context_stack = context.previous;
    return list;
}

// --- the query ----------------------------------------------------------------------------------------

[[noreturn]] void raise_statement(const char* message, const char* detail) {
    pg::raise(ERRCODE_SYNTAX_ERROR, message, detail, "Pass a single SELECT, VALUES or TABLE statement.");
}

/// One statement that returns rows, and no utility statement.
void check_statement(SPIPlanPtr plan) {
    List* sources = SPI_plan_get_plan_sources(plan);
    if (list_length(sources) == 0) raise_statement("cached query is empty", nullptr);
    if (list_length(sources) > 1) raise_statement("cached query has more than one statement", nullptr);
    const auto* source = static_cast<const CachedPlanSource*>(linitial(sources));
    const auto* query =
        source->query_list != NIL ? static_cast<const Query*>(linitial(source->query_list)) : nullptr;
    if (source->raw_parse_tree == nullptr || query == nullptr)
        raise_statement("cached query is empty", nullptr);
    const bool is_utility = query->commandType == CMD_UTILITY;
    if (!is_utility && source->resultDesc != nullptr) return;
    // What is called SELECT here and is a utility statement can only be SELECT INTO.
    const char* name =
        source->commandTag == CMDTAG_SELECT ? "SELECT INTO" : GetCommandTagName(source->commandTag);
    char detail[96];
    pg_snprintf(detail, sizeof detail, is_utility ? "%s is a utility statement." : "%s returns no rows.",
                name);
    raise_statement("cached query does not return rows", detail);
}

}  // namespace

void check_parameters(Jsonb* parameters) {
    if (parameters == nullptr || (JB_ROOT_IS_ARRAY(parameters) && !JB_ROOT_IS_SCALAR(parameters))) return;
    pg::raise(ERRCODE_INVALID_PARAMETER_VALUE, "parameters of a cached query must be a JSON array", nullptr,
              "Pass one element for each of $1, $2 and so on.");
}

Datum compute(const Computation& computation) {
    Receiver receiver{};
    receiver.base.receiveSlot = receive_row;
    receiver.base.rStartup = begin_rows;
    receiver.base.rShutdown = end_rows;
    receiver.base.rDestroy = end_rows;
    receiver.base.mydest = DestNone;
    receiver.result = CurrentMemoryContext;

    ParameterTypes inferred{};
    SPI_connect();
    receiver.work = CurrentMemoryContext;
    SPIPrepareOptions prepare{};
    prepare.parserSetup = infer_types;
    prepare.parserSetupArg = &inferred;
    prepare.parseMode = RAW_PARSE_DEFAULT;
    prepare.cursorOptions = computation.may_be_parallel ? CURSOR_OPT_PARALLEL_OK : 0;
    SPIPlanPtr plan = SPI_prepare_extended(computation.query, &prepare);
    if (plan == nullptr)
        elog(ERROR, "could not prepare a cached query: %s", SPI_result_code_string(SPI_result));
    check_statement(plan);

    SPIExecuteOptions execute{};
    execute.params = bind(computation.parameters, inferred);
    execute.read_only = true;
    execute.dest = &receiver.base;
    if (const int result = SPI_execute_plan_extended(plan, &execute); result < 0) {
        elog(ERROR, "could not run a cached query: %s", SPI_result_code_string(result));
    }
    if (!receiver.is_value) {
        receiver.value = make_array(receiver);
    } else if (receiver.value == 0) {
        MemoryContext outer = MemoryContextSwitchTo(receiver.result);
        receiver.value = json_null();
        MemoryContextSwitchTo(outer);
    }
    SPI_finish();
    return receiver.value;
}

}  // namespace cache_ext::api
