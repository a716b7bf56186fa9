// list_storage_objects: a page of the objects whose names begin with a prefix, as the caller may see them, from the cache.
//
// A page is its caller's alone: it is kept with the rights, the claims and the settings that it was read with in its key, where no set reaches. It goes when an
// object in its folder changes, which the triggers of enable_storage_usage_cache tell, and when anything changes that row security has read or rests on, which
// only preloading tells.

#include "api/storage_listing.hpp"

#include "api/args.hpp"
#include "api/context.hpp"
#include "api/filling.hpp"
#include "api/result.hpp"
#include "api/storage_folders.hpp"
#include "api/storage_objects.hpp"
#include "api/storage_tables.hpp"
#include "pg/compat.hpp"
#include "pg/environment.hpp"
#include "pg/guard.hpp"
#include "pg/settings.hpp"
#include "pg/sha256.hpp"
#include "pg/temporary.hpp"
#include "pg/trackability.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "nodes/params.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
}

namespace cache_ext::api {

namespace {

constexpr std::int32_t kMaxPage = 1000;

/// What is asked for.
struct Page {
    std::string_view bucket;
    std::string_view prefix;
    std::int32_t limit;
    std::int32_t offset;
};

/// One call.
struct Call {
    Page page;
    Oid objects;
    ResultType row;
    ReturnSetInfo& result;  ///< where the caller finds the rows
    MemoryContext memory;   ///< of the caller
    bool is_computed = false;
    varlena* packed = nullptr;  ///< the rows that were computed, if they have a stored form
};

// --- arguments ----------------------------------------------------------------------------------------

std::string_view text_argument(FunctionCallInfo fcinfo, int number, const char* name) {
    require_argument(fcinfo, number, name);
    const text* value = PG_GETARG_TEXT_PP(number);
    return {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)};
}

Page page_argument(FunctionCallInfo fcinfo) {
    Page page{text_argument(fcinfo, 0, "bucket"), text_argument(fcinfo, 1, "prefix of names"), 0, 0};
    require_argument(fcinfo, 2, "limit of a page");
    require_argument(fcinfo, 3, "offset of a page");
    page.limit = PG_GETARG_INT32(2);
    page.offset = PG_GETARG_INT32(3);
    if (page.limit < 1 || page.limit > kMaxPage) {
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("limit of a page must be between 1 and %d", kMaxPage),
                        errhint("Ask for the next page with p_offset.")));
    }
    if (page.offset < 0) pg::raise(ERRCODE_INVALID_PARAMETER_VALUE, "offset of a page must not be negative");
    return page;
}

// --- reading the table --------------------------------------------------------------------------------

ParamListInfo bind(const Page& page) {
    const auto text_datum = [](std::string_view value) {
        return PointerGetDatum(cstring_to_text_with_len(value.data(), static_cast<int>(value.size())));
    };
    const Datum values[] = {text_datum(page.bucket), text_datum(page.prefix), Int32GetDatum(page.limit),
                            Int32GetDatum(page.offset)};
    const Oid types[] = {TEXTOID, TEXTOID, INT4OID, INT4OID};
    ParamListInfo list = makeParamList(4);
    for (int i = 0; i < 4; ++i)
        list->params[i] = {values[i], false, PARAM_FLAG_CONST, types[i]};
    return list;
}

/// The rows as the caller may see them now. Not by parallel workers, in which what policies read could not be seen.
Tuplestorestate* read_page(const Call& call) {
    static constexpr char kQuery[] =
        "SELECT o.name::pg_catalog.text, o.id::pg_catalog.uuid, o.updated_at::pg_catalog.timestamptz, "
        "o.created_at::pg_catalog.timestamptz, o.last_accessed_at::pg_catalog.timestamptz, "
        "o.metadata::pg_catalog.jsonb "
        "FROM storage.objects o WHERE o.bucket_id OPERATOR(pg_catalog.=) $1 "
        "AND o.name COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.^@) $2 "
        "ORDER BY o.name COLLATE pg_catalog.\"C\" USING OPERATOR(pg_catalog.<) LIMIT $3 OFFSET $4";
    Oid types[] = {TEXTOID, TEXTOID, INT4OID, INT4OID};
    MemoryContext outer = CurrentMemoryContext;
    Tuplestorestate* rows = tuplestore_begin_heap(false, false, work_mem);
    DestReceiver* receiver = CreateTuplestoreDestReceiver();
    SetTuplestoreDestReceiverParams(receiver, rows, outer, true, nullptr, nullptr);
    SPI_connect();
    SPIPlanPtr plan = SPI_prepare_cursor(kQuery, 4, types, 0);
    if (plan == nullptr) elog(ERROR, "could not prepare a listing: %s", SPI_result_code_string(SPI_result));
    SPIExecuteOptions execute{};
    execute.params = bind(call.page);
    execute.read_only = true;
    execute.dest = receiver;
    if (const int result = SPI_execute_plan_extended(plan, &execute); result < 0)
        elog(ERROR, "could not list objects: %s", SPI_result_code_string(result));
    SPI_finish();
    receiver->rDestroy(receiver);
    return rows;
}

/// The same in the form in which it is kept; to the caller where that would take more than `limit` bytes.
void compute(Call& call, std::size_t limit) {
    MemoryContext work = AllocSetContextCreate(call.memory, "cache_ext listing", ALLOCSET_DEFAULT_SIZES);
    MemoryContext outer = MemoryContextSwitchTo(work);
    const int level = NewGUCNestLevel();
    set_storage_operation("storage.object.list");
    Tuplestorestate* rows = read_page(call);
    AtEOXact_GUC(false, level);
    MemoryContextSwitchTo(call.memory);
    call.packed = pack_rows(call.row, rows, call.result.setResult, limit);
    tuplestore_end(rows);
    MemoryContextSwitchTo(outer);
    MemoryContextDelete(work);
    call.is_computed = true;
}

// --- what a page rests on -----------------------------------------------------------------------------

/// Whether row security may give the same caller another answer although nothing was written: by the time, by chance, by what is set.
bool may_change_by_itself(Oid objects) {
    if (check_enable_rls(objects, InvalidOid, true) != RLS_ENABLED) return false;
    // Looking into functions takes subtransactions.
    if (IsInParallelMode()) return true;
    pg::Trackability policies;
    pg::look_at_policies(objects, policies);
    return !policies.complete || policies.has(pg::Obstacle::kTime) || policies.has(pg::Obstacle::kVolatile) ||
           policies.has(pg::Obstacle::kSetting) || policies.has(pg::Obstacle::kServerState) ||
           policies.has(pg::Obstacle::kNotAnalyzed);
}

Datum compute_packed(void* context) {
    Call& call = *static_cast<Call*>(context);
    const std::size_t limit = std::size_t{static_cast<unsigned>(pg::settings::max_entry_size_kb)} * 1024;
    compute(call, limit);
    if (call.packed == nullptr || may_change_by_itself(call.objects)) return 0;
    return PointerGetDatum(call.packed);
}

void forget_computed(void* context) {
    Call& call = *static_cast<Call*>(context);
    call.is_computed = false;
    call.packed = nullptr;
    start_rows_again(call.result);
}

bool writes_objects(void* objects, Oid written) { return *static_cast<const Oid*>(objects) == written; }

/// Whether the caller is shown the whole table, whoever it is that asks.
bool sees_everything(Oid objects) {
    return check_enable_rls(objects, InvalidOid, true) != RLS_ENABLED &&
           pg_class_aclcheck(objects, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

/// How it becomes known that a page has changed. False: it does not.
bool find_tracking(Oid objects, bool is_told, Tracking& tracking) {
    if (!usable()) return false;
    // What this transaction has written there the triggers may not have seen yet.
    if (TransactionIdIsValid(GetTopTransactionIdIfAny()) &&
        pg::any_written_relation(writes_objects, &objects))
        return false;
    if (pg::tracks_writes()) {
        tracking = Tracking::kAll;
        return true;
    }
    // Nothing tells then of what row security and privileges rest on.
    tracking = Tracking::kNone;
    return is_told && sees_everything(objects);
}

// --- the key --------------------------------------------------------------------------------------------

template <class T>
void append_fixed(StringInfoData& to, const T& value) {
    appendBinaryStringInfo(&to, reinterpret_cast<const char*>(&value), sizeof value);
}

/// `storage:list:{bucket}:{hash}`, the hash over all that the page may depend on but rows.
std::string_view make_key(const Page& page) {
    /// Of a longer name the key shows so much.
    constexpr int kShownBytes = 256;
    std::uint64_t person[2];
    pg::personal_id(person);
    StringInfoData asked;
    initStringInfo(&asked);
    append_fixed(asked, person);
    append_fixed(asked, GetUserId());
    append_fixed(asked, GetSessionUserId());
    if (const std::uint64_t temporary = pg::temporary_number(); temporary != 0) {
        append_fixed(asked, temporary);
        append_fixed(asked, MyProcPid);
        append_fixed(asked, MyStartTimestamp);
    }
    (void)pg::environment_number();
    pg::append_environment(&asked, 0);
    // Where the triggers were off for a while, nobody has told of what was written meanwhile.
    append_fixed(asked, storage_tables().fingerprint);
    append_fixed(asked, page.limit);
    append_fixed(asked, page.offset);
    append_fixed(asked, page.bucket.size());
    appendBinaryStringInfo(&asked, page.bucket.data(), static_cast<int>(page.bucket.size()));
    appendBinaryStringInfo(&asked, page.prefix.data(), static_cast<int>(page.prefix.size()));
    const pg::Digest128 hash = pg::sha256_128(asked.data, static_cast<std::size_t>(asked.len));

    StringInfoData key;
    initStringInfo(&key);
    appendStringInfoString(&key, "storage:list:");
    appendBinaryStringInfo(
        &key, page.bucket.data(),
        pg_mbcliplen(page.bucket.data(), static_cast<int>(page.bucket.size()), kShownBytes));
    appendStringInfoChar(&key, ':');
    for (const std::uint8_t byte : hash.bytes)
        appendStringInfo(&key, "%02x", byte);
    return {key.data, static_cast<std::size_t>(key.len)};
}

void list(Call& call) {
    const bool is_told = tells_of_changes(call.objects);
    Tracking tracking = Tracking::kNone;
    if (!find_tracking(call.objects, is_told, tracking)) {
        compute(call, 0);
        return;
    }
    FolderTag folder;
    std::string_view tags[] = {folder.of(call.page.bucket, folder_of(call.page.prefix)), all_listings_tag()};
    SetRequest request;
    request.key = make_key(call.page);
    request.is_binary = true;
    request.tags = {tags, is_told ? 2 : 0};
    const core::Scope scope = function_scope(own_scope(pg::caller()));
    Source source{compute_packed, &call, "storage listing", forget_computed};
    if (is_told) source.told = call.objects;
    const Datum kept = read_or_fill(request, {&scope, true}, source, tracking);
    const auto* packed =
        call.is_computed ? call.packed : reinterpret_cast<const varlena*>(DatumGetPointer(kept));
    if (packed != nullptr) unpack_rows(call.row, packed, call.result.setResult);
}

}  // namespace

CACHE_EXT_FUNCTION(list_storage_objects) {
    const Page page = page_argument(fcinfo);
    InitMaterializedSRF(fcinfo, 0);
    auto& result = *reinterpret_cast<ReturnSetInfo*>(fcinfo->resultinfo);
    Call call{page, storage_table("objects"), set_result(result.setDesc), result, CurrentMemoryContext};
    list(call);
    // Rows tell that their bucket is there.
    if (tuplestore_tuple_count(result.setResult) == 0 && !storage_bucket_exists(page.bucket)) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
                        errmsg("storage bucket \"%s\" does not exist",
                               pnstrdup(page.bucket.data(), static_cast<Size>(page.bucket.size())))));
    }
    PG_RETURN_NULL();
}

}  // namespace cache_ext::api
