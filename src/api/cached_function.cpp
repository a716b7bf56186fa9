#include "api/cached_function.hpp"

#include <unordered_map>

#include "api/args.hpp"
#include "api/context.hpp"
#include "api/template.hpp"
#include "core/hash.hpp"
#include "pg/compat.hpp"
#include "pg/environment.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/proclang.h"
#include "funcapi.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

namespace cache_ext::api {

namespace {

/// The definitions in use, by the cached function. Made once and never freed.
using Definitions = std::unordered_map<Oid, Definition*>;
constinit Definitions* definitions = nullptr;

/// Raised when any type, or column of a row type, changes.
constinit std::uint32_t types = 1;

/// Raised when any function, role or membership changes.
constinit std::uint32_t privilege_generation = 1;

// --- the body -----------------------------------------------------------------------------------------

/// What the body of a cached function says. In the memory context in which it was read.
struct Body {
    const char* function = nullptr;
    std::int64_t duration = 0;
    std::int64_t grace = 0;
    const char* search_path = nullptr;
    bool is_shared = false;
    bool has_tags = false;
    const char** tags = nullptr;
    int tag_count = 0;
};

[[noreturn]] void raise_body(const char* detail) {
    pg::raise(ERRCODE_INVALID_FUNCTION_DEFINITION, "definition of cached function is not valid", detail,
              "Use create_cached_function().");
}

const char* text_of(const JsonbValue& value) {
    if (value.type == jbvNull) return nullptr;
    if (value.type != jbvString) raise_body("A member that must be a string is not.");
    return pnstrdup(value.val.string.val, static_cast<Size>(value.val.string.len));
}

void read_tags(const JsonbValue& value, Body& body) {
    if (value.type == jbvNull) return;
    if (value.type != jbvBinary || !JsonContainerIsArray(value.val.binary.data))
        raise_body("\"tags\" is no array.");
    JsonbContainer* array = value.val.binary.data;
    body.has_tags = true;
    body.tags = static_cast<const char**>(palloc(sizeof(char*) * (JsonContainerSize(array) + 1)));
    for (std::uint32_t i = 0; i < JsonContainerSize(array); ++i) {
        body.tags[body.tag_count] = text_of(*getIthJsonbValueFromContainer(array, i));
        if (body.tags[body.tag_count++] == nullptr) raise_body("A tag is null.");
    }
}

std::int64_t duration_of(const char* text, const char* what) {
    if (text == nullptr) return 0;
    const Datum interval = DirectFunctionCall3(interval_in, CStringGetDatum(text),
                                               ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
    return checked_duration(DatumGetPointer(interval), what);
}

Body read_body(char* source) {
    Jsonb* json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(source)));
    if (!JB_ROOT_IS_OBJECT(json)) raise_body("It is no JSON object.");
    Body body;
    const auto member = [json](const char* name, JsonbValue& value) {
        return getKeyJsonValueFromContainer(&json->root, name, static_cast<int>(std::strlen(name)), &value) !=
               nullptr;
    };
    JsonbValue value;
    if (member("function", value)) body.function = text_of(value);
    if (body.function == nullptr) raise_body("It names no function.");
    if (member("duration", value)) body.duration = duration_of(text_of(value), "cache duration");
    if (member("grace", value)) body.grace = duration_of(text_of(value), "grace period");
    if (member("search_path", value)) body.search_path = text_of(value);
    if (member("tags", value)) read_tags(value, body);
    if (member("shared", value)) {
        if (value.type != jbvBool) raise_body("\"shared\" is neither true nor false.");
        body.is_shared = value.val.boolean;
    }
    return body;
}

// --- the function underneath --------------------------------------------------------------------------

/// The function that a cached one depends on, which is the one underneath whatever it is called by now.
Oid depended_on(Oid function) {
    Relation catalog = table_open(DependRelationId, AccessShareLock);
    ScanKeyData keys[2];
    ScanKeyInit(&keys[0], Anum_pg_depend_classid, BTEqualStrategyNumber, F_OIDEQ,
                ObjectIdGetDatum(ProcedureRelationId));
    ScanKeyInit(&keys[1], Anum_pg_depend_objid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(function));
    SysScanDesc scan = systable_beginscan(catalog, DependDependerIndexId, true, nullptr, 2, keys);
    Oid found = InvalidOid;
    for (HeapTuple tuple; HeapTupleIsValid(tuple = systable_getnext(scan));) {
        const auto* row = reinterpret_cast<Form_pg_depend>(GETSTRUCT(tuple));
        if (row->refclassid == ProcedureRelationId && row->deptype == DEPENDENCY_AUTO) found = row->refobjid;
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return found;
}

/// The function underneath, by what the cached one depends on, or else by its name.
Oid find_underneath(Oid function, const char* name) {
    const Oid found = depended_on(function);
    if (OidIsValid(found)) return found;
    // to_regprocedure() gives null where there is none, which a direct call takes for an error.
    LOCAL_FCINFO(call, 1);
    InitFunctionCallInfoData(*call, nullptr, 1, InvalidOid, nullptr, nullptr);
    call->args[0].value = PointerGetDatum(cstring_to_text(name));
    call->args[0].isnull = false;
    const Datum result = to_regprocedure(call);
    return call->isnull ? InvalidOid : DatumGetObjectId(result);
}

[[noreturn]] void raise_misfit(const char* detail) {
    pg::raise(ERRCODE_INVALID_FUNCTION_DEFINITION, "cached function does not fit the function underneath",
              detail, "Call create_cached_function() again.");
}

RowVersion version_of(HeapTuple tuple) {
    const std::string_view content{reinterpret_cast<const char*>(GETSTRUCT(tuple)),
                                   tuple->t_len - tuple->t_data->t_hoff};
    return {reinterpret_cast<Form_pg_proc>(GETSTRUCT(tuple))->oid, HeapTupleHeaderGetRawXmin(tuple->t_data),
            tuple->t_self, core::hash_bytes(content, 0)};
}

/// Takes what the catalog has of both functions. ERROR where one cannot be called in the place of the other.
void read_catalog(Definition& d, HeapTuple outer, HeapTuple inner) {
    const auto* o = reinterpret_cast<Form_pg_proc>(GETSTRUCT(outer));
    const auto* i = reinterpret_cast<Form_pg_proc>(GETSTRUCT(inner));
    d.function = version_of(outer);
    d.underneath = version_of(inner);
    d.owner = i->proowner;
    if (!has_privs_of_role(o->proowner, i->proowner)) {
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("owner of cached function \"%s\" does not own the function underneath",
                               NameStr(o->proname))));
    }
    if (i->prokind != PROKIND_FUNCTION) raise_misfit("The latter is no plain function.");
    if (i->prolang == o->prolang) raise_misfit("The latter is a cached function itself.");
    const int extra = o->pronargs - i->pronargs;
    if ((extra != 0 && extra != 1) || o->prorettype != i->prorettype || o->proretset != i->proretset ||
        o->provariadic != i->provariadic ||
        std::memcmp(o->proargtypes.values, i->proargtypes.values,
                    sizeof(Oid) * static_cast<std::size_t>(i->pronargs)) != 0) {
        raise_misfit("Their arguments or results have other types.");
    }
    if (extra == 1 && o->proargtypes.values[i->pronargs] != INTERVALOID)
        raise_misfit("An argument was added that is no interval.");
    if (o->proisstrict) raise_misfit("The former is strict.");
    d.result = o->prorettype;
    d.is_set = o->proretset;
    d.is_strict = i->proisstrict;
    d.is_variadic = OidIsValid(i->provariadic);
    d.argument_count = i->pronargs;
    d.duration_argument = extra == 1 ? i->pronargs : -1;
    d.argument_types = static_cast<Oid*>(palloc(sizeof(Oid) * static_cast<std::size_t>(i->pronargs + 1)));
    std::copy_n(i->proargtypes.values, i->pronargs, d.argument_types);
    d.is_polymorphic =
        IsPolymorphicType(d.result) || std::any_of(d.argument_types, d.argument_types + d.argument_count,
                                                   [](Oid type) { return IsPolymorphicType(type); });
    d.key_name = psprintf("%s.%s", get_namespace_name(o->pronamespace), NameStr(o->proname));

    bool is_null = true;
    const Datum names = SysCacheGetAttr(PROCOID, inner, Anum_pg_proc_proargnames, &is_null);
    if (!is_null) {
        bool no_modes = true;
        const Datum modes = SysCacheGetAttr(PROCOID, inner, Anum_pg_proc_proargmodes, &no_modes);
        (void)get_func_input_arg_names(names, no_modes ? Datum{0} : modes, &d.argument_names);
    }
    const Datum settings = SysCacheGetAttr(PROCOID, inner, Anum_pg_proc_proconfig, &is_null);
    if (is_null) return;
    ArrayType* array = DatumGetArrayTypeP(settings);
    Datum* values = nullptr;
    int count = 0;
    deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &values, nullptr, &count);
    for (int n = 0; n < count; ++n) {
        char* setting = TextDatumGetCString(values[n]);
        if (char* equals = std::strchr(setting, '='); equals != nullptr) *equals = '\0';
        d.environment |= pg::environment_bit(setting);
    }
}

// --- making and keeping -------------------------------------------------------------------------------

HeapTuple function_row(Oid function) {
    HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for function %u", function);
    return tuple;
}

/// Reads a definition, in the current memory context.
void read_definition(Definition& d, Oid function) {
    HeapTuple outer = function_row(function);
    char* source = TextDatumGetCString(SysCacheGetAttr(PROCOID, outer, Anum_pg_proc_prosrc, &d.is_strict));
    const Body body = read_body(source);
    const Oid underneath = find_underneath(function, body.function);
    if (!OidIsValid(underneath)) {
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("function %s does not exist", body.function),
                 errdetail("It is what a cached function calls."),
                 errhint("Create it, or drop the cached function.")));
    }
    HeapTuple inner = function_row(underneath);
    read_catalog(d, outer, inner);
    d.hashes[0] = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function));
    d.hashes[1] = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(underneath));
    ReleaseSysCache(inner);
    ReleaseSysCache(outer);
    d.is_shared = body.is_shared;
    if (d.is_shared) d.environment |= pg::environment_bit("search_path");
    d.is_tracked = !body.has_tags;
    d.tags = body.tags;
    d.tag_count = body.tag_count;
    d.duration = body.duration;
    d.grace = body.grace;
    d.search_path = body.search_path;
}

void forget(Definition* d) noexcept {
    if (d->users > 0) return;
    MemoryContextDelete(d->memory);
}

/// Forgets those that are out of date, of functions that are gone most often.
void forget_unused() noexcept {
    std::erase_if(*definitions, [](const auto& place) {
        if (place.second->is_current || place.second->users > 0) return false;
        forget(place.second);
        return true;
    });
}

void forget_functions(Datum /*argument*/, int /*cache*/, uint32 hash) noexcept {
    ++privilege_generation;
    if (definitions == nullptr) return;
    for (auto& [function, d] : *definitions) {
        if (hash == 0 || d->hashes[0] == hash || d->hashes[1] == hash) d->is_current = false;
    }
}

void forget_types(Datum /*argument*/, int /*cache*/, uint32 /*hash*/) noexcept { ++types; }

/// Who owns what by way of whom is part of a definition too.
void forget_privileges(Datum /*argument*/, int /*cache*/, uint32 /*hash*/) noexcept {
    forget_functions(Datum{0}, PROCOID, 0);
}

}  // namespace

std::uint32_t types_generation() noexcept { return types; }

Definition* acquire_definition(Oid function) {
    if (definitions == nullptr) definitions = new Definitions;
    if (const auto place = definitions->find(function);
        place != definitions->end() && place->second->is_current) {
        ++place->second->users;
        return place->second;
    }
    MemoryContext memory =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext cached function", ALLOCSET_SMALL_SIZES);
    const std::uint32_t generation = privilege_generation;
    MemoryContext outer = MemoryContextSwitchTo(memory);
    auto* d = static_cast<Definition*>(palloc0(sizeof(Definition)));
    d->memory = memory;
    read_definition(*d, function);
    MemoryContextSwitchTo(outer);
    MemoryContextSetParent(memory, CacheMemoryContext);
    // What changed while it was read is told only once.
    d->is_current = generation == privilege_generation;
    d->users = 1;
    const auto [place, is_new] = definitions->try_emplace(function, d);
    if (is_new) {
        forget_unused();
    } else {
        forget(std::exchange(place->second, d));
    }
    return d;
}

void release_definition(Definition* d) noexcept {
    --d->users;
    const auto place = definitions->find(d->function.oid);
    if (place == definitions->end() || place->second != d) forget(d);
}

Oid underneath_of(Oid function) {
    HeapTuple row = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
    if (!HeapTupleIsValid(row)) return InvalidOid;
    const Oid language = reinterpret_cast<Form_pg_proc>(GETSTRUCT(row))->prolang;
    bool is_null = false;
    char* source = TextDatumGetCString(SysCacheGetAttr(PROCOID, row, Anum_pg_proc_prosrc, &is_null));
    ReleaseSysCache(row);
    if (language != get_language_oid("cached", true)) return InvalidOid;
    return find_underneath(function, read_body(source).function);
}

Oid checked_underneath(Oid function) {
    Definition* d = acquire_definition(function);
    const Oid underneath = d->underneath.oid;
    PG_TRY();
    {
        ArgumentFinder finder{d, d->argument_types};
        for (int i = 0; i < d->tag_count && !d->is_polymorphic; ++i)
            (void)checked_template(d->tags[i], ArgumentFinder::find, &finder, "argument");
    }
    PG_FINALLY();
    { release_definition(d); }
    PG_END_TRY();
    return underneath;
}

int ArgumentFinder::find(void* finder, const char* name, Oid& type) {
    const auto& f = *static_cast<const ArgumentFinder*>(finder);
    const Definition& d = *f.definition;
    int number = name[0] == '$' ? static_cast<int>(std::strtol(name + 1, nullptr, 10)) : 0;
    for (int i = 0; i < d.argument_count && number == 0 && d.argument_names != nullptr; ++i) {
        if (d.argument_names[i] != nullptr && std::strcmp(d.argument_names[i], name) == 0) number = i + 1;
    }
    if (number < 1 || number > d.argument_count) return 0;
    type = f.types[number - 1];
    return number;
}

std::uint64_t count_id(Oid function) {
    const core::Id128 space = space_id();
    return std::max<std::uint64_t>(core::mix(space.hi ^ space.lo, function), 1);
}

void check_permission(Definition& d) {
    const Oid role = GetUserId();
    if (d.permitted_generation == privilege_generation && d.permitted_role == role) [[likely]]
        return;
    const std::uint32_t generation = privilege_generation;
    if (!pg::may_execute(d.underneath.oid, role))
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(d.underneath.oid));
    d.permitted_role = role;
    d.permitted_generation = generation;
}

void init_cached_functions() {
    CacheRegisterSyscacheCallback(PROCOID, forget_functions, Datum{0});
    CacheRegisterSyscacheCallback(AUTHOID, forget_privileges, Datum{0});
    CacheRegisterSyscacheCallback(AUTHMEMMEMROLE, forget_privileges, Datum{0});
    // The owner of the database is a member of pg_database_owner.
    CacheRegisterSyscacheCallback(DATABASEOID, forget_privileges, Datum{0});
    CacheRegisterSyscacheCallback(TYPEOID, forget_types, Datum{0});
    CacheRegisterSyscacheCallback(ATTNUM, forget_types, Datum{0});
}

}  // namespace cache_ext::api
