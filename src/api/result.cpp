#include "api/result.hpp"

#include "core/hash.hpp"
#include "pg/compat.hpp"

extern "C" {
#include "access/detoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
}

namespace cache_ext::api {

namespace {

struct Packed {
    std::int32_t varlena_header;
    std::uint32_t rows;
    char data[FLEXIBLE_ARRAY_MEMBER];
};
constexpr std::size_t kHead = offsetof(Packed, data);
static_assert(kHead == MAXALIGN(kHead));

void add_shape(std::uint64_t& shape, std::uint64_t what) noexcept {
    shape = core::mix(shape ^ what, 0x9e3779b97f4a7c15ULL + shape);
}

void add_row_shape(std::uint64_t& shape, TupleDesc row);

void add_row_shape(std::uint64_t& shape, TupleDesc row) {
    add_shape(shape, static_cast<std::uint64_t>(row->natts));
    for (int i = 0; i < row->natts; ++i) {
        const auto* attribute = TupleDescAttr(row, i);
        add_shape(shape, attribute->attisdropped ? 1 : 2);
        if (attribute->attisdropped) {
            add_shape(shape, static_cast<std::uint64_t>(attribute->attlen) << 8 |
                                 static_cast<std::uint8_t>(attribute->attalign));
        } else {
            add_shape(shape, static_cast<std::uint32_t>(attribute->atttypmod));
            add_type_shape(shape, attribute->atttypid);
        }
    }
}

bool is_storable(TupleDesc row) {
    std::uint64_t shape = 0;
    for (int i = 0; i < row->natts; ++i) {
        const auto* attribute = TupleDescAttr(row, i);
        if (!attribute->attisdropped && !add_type_shape(shape, attribute->atttypid)) return false;
    }
    return true;
}

Packed* make_packed(std::size_t data_bytes, std::uint32_t rows) {
    auto* packed = static_cast<Packed*>(palloc(kHead + data_bytes));
    SET_VARSIZE(packed, kHead + data_bytes);
    packed->rows = rows;
    return packed;
}

/// A row as it may be stored: values that lie elsewhere are brought in. In the current memory context, unless the slot's own will do.
MinimalTuple storable_row(TupleTableSlot* slot, TupleDesc row) {
    bool must_free = false;
    bool lies_elsewhere = false;
    slot_getallattrs(slot);
    for (int i = 0; i < row->natts && !lies_elsewhere; ++i) {
        lies_elsewhere = !slot->tts_isnull[i] && TupleDescAttr(row, i)->attlen == -1 &&
                         VARATT_IS_EXTERNAL(DatumGetPointer(slot->tts_values[i]));
    }
    if (!lies_elsewhere) return ExecFetchSlotMinimalTuple(slot, &must_free);
    auto* values = static_cast<Datum*>(palloc(sizeof(Datum) * static_cast<std::size_t>(row->natts)));
    for (int i = 0; i < row->natts; ++i) {
        values[i] = slot->tts_values[i];
        if (!slot->tts_isnull[i] && TupleDescAttr(row, i)->attlen == -1)
            values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
    }
    return pg::form_minimal_tuple(row, values, slot->tts_isnull);
}

/// Puts rows that lie one behind the other into a store.
void put_rows(const ResultType& type, const char* at, std::uint32_t count, Tuplestorestate* to) {
    TupleTableSlot* slot = MakeSingleTupleTableSlot(type.row, &TTSOpsMinimalTuple);
    for (std::uint32_t i = 0; i < count; ++i) {
        auto* row = reinterpret_cast<MinimalTuple>(const_cast<char*>(at));
        ExecStoreMinimalTuple(row, slot, false);
        tuplestore_puttupleslot(to, slot);
        at += MAXALIGN(row->t_len);
    }
    ExecDropSingleTupleTableSlot(slot);
}

}  // namespace

bool add_type_shape(std::uint64_t& shape, Oid type) {
    check_stack_depth();
    add_shape(shape, type);
    const Oid base = getBaseType(type);
    if (base != type) add_shape(shape, base);
    // It names a cursor that is open where it was made, and only there.
    if (base == REFCURSOROID) return false;
    const char kind = get_typtype(base);
    if (kind == TYPTYPE_PSEUDO) return false;
    if (kind == TYPTYPE_COMPOSITE) {
        TupleDesc row = lookup_rowtype_tupdesc(base, -1);
        add_row_shape(shape, row);
        ReleaseTupleDesc(row);
    } else if (kind == TYPTYPE_RANGE) {
        return add_type_shape(shape, get_range_subtype(base));
    } else if (kind == TYPTYPE_MULTIRANGE) {
        return add_type_shape(shape, get_multirange_range(base));
    } else if (const Oid element = get_element_type(base); OidIsValid(element)) {
        return add_type_shape(shape, element);
    }
    return true;
}

ResultType single_result(Oid type, TupleDesc row) {
    ResultType result;
    result.type = type;
    result.row = row;
    get_typlenbyval(type, &result.bytes, &result.by_value);
    if (row != nullptr) {
        add_row_shape(result.shape, row);
        result.is_storable = is_storable(row);
    } else {
        result.is_storable = add_type_shape(result.shape, type);
    }
    return result;
}

ResultType set_result(TupleDesc row) {
    ResultType result;
    result.type = row->tdtypeid;
    result.row = row;
    add_row_shape(result.shape, row);
    result.is_storable = is_storable(row);
    return result;
}

varlena* pack_value(const ResultType& type, Datum value, bool is_null, std::size_t limit) {
    if (is_null) return reinterpret_cast<varlena*>(make_packed(0, 0));
    if (type.by_value) {
        Packed* packed = make_packed(sizeof value, 1);
        std::memcpy(packed->data, &value, sizeof value);
        return reinterpret_cast<varlena*>(packed);
    }
    if (type.bytes == -1) {
        if (toast_raw_datum_size(value) > limit) return nullptr;
        value = PointerGetDatum(PG_DETOAST_DATUM(value));
    }
    const std::size_t bytes = datumGetSize(value, false, type.bytes);
    Packed* packed = make_packed(bytes, 1);
    std::memcpy(packed->data, DatumGetPointer(value), bytes);
    return reinterpret_cast<varlena*>(packed);
}

Datum unpack_value(const ResultType& type, varlena* packed, bool& is_null) {
    auto* p = reinterpret_cast<Packed*>(packed);
    is_null = p->rows == 0;
    if (is_null) return 0;
    if (type.by_value) {
        Datum value = 0;
        std::memcpy(&value, p->data, sizeof value);
        return value;
    }
    // To the front, since whoever gets it may free it.
    auto* value = reinterpret_cast<char*>(p);
    std::memmove(value, p->data, VARSIZE(p) - kHead);
    if (type.row != nullptr) {
        auto* row = reinterpret_cast<HeapTupleHeader>(value);
        HeapTupleHeaderSetTypeId(row, type.row->tdtypeid);
        HeapTupleHeaderSetTypMod(row, type.row->tdtypmod);
    }
    return PointerGetDatum(value);
}

varlena* pack_rows(const ResultType& type, Tuplestorestate* from, Tuplestorestate* to, std::size_t limit) {
    StringInfoData data;
    initStringInfo(&data);
    appendStringInfoSpaces(&data, static_cast<int>(kHead));
    std::uint32_t count = 0;
    bool fits = limit > 0;
    MemoryContext scratch =
        AllocSetContextCreate(CurrentMemoryContext, "cache_ext rows", ALLOCSET_DEFAULT_SIZES);
    TupleTableSlot* slot = MakeSingleTupleTableSlot(type.row, &TTSOpsMinimalTuple);
    while (tuplestore_gettupleslot(from, true, false, slot)) {
        if (!fits) {
            tuplestore_puttupleslot(to, slot);
            continue;
        }
        MemoryContext outer = MemoryContextSwitchTo(scratch);
        const MinimalTuple row = storable_row(slot, type.row);
        MemoryContextSwitchTo(outer);
        const std::size_t bytes = MAXALIGN(row->t_len);
        fits = static_cast<std::size_t>(data.len) + bytes <= limit;
        if (fits) {
            enlargeStringInfo(&data, static_cast<int>(bytes));
            std::memcpy(data.data + data.len, row, row->t_len);
            std::memset(data.data + data.len + row->t_len, 0, bytes - row->t_len);
            data.len += static_cast<int>(bytes);
            ++count;
        } else {
            put_rows(type, data.data + kHead, count, to);
            tuplestore_puttupleslot(to, slot);
        }
        MemoryContextReset(scratch);
    }
    ExecDropSingleTupleTableSlot(slot);
    MemoryContextDelete(scratch);
    if (!fits) {
        pfree(data.data);
        return nullptr;
    }
    auto* packed = reinterpret_cast<Packed*>(data.data);
    SET_VARSIZE(packed, data.len);
    packed->rows = count;
    return reinterpret_cast<varlena*>(packed);
}

void unpack_rows(const ResultType& type, const varlena* packed, Tuplestorestate* rows) {
    const auto* p = reinterpret_cast<const Packed*>(packed);
    put_rows(type, p->data, p->rows, rows);
}

Tuplestorestate* start_rows_again(ReturnSetInfo& result) {
    if (tuplestore_tuple_count(result.setResult) == 0) return result.setResult;
    // One that was on its way to a file when the error came has rows twice, and cannot even be ended. It goes with the query's memory.
    if (tuplestore_in_memory(result.setResult)) tuplestore_end(result.setResult);
    MemoryContext outer = MemoryContextSwitchTo(result.econtext->ecxt_per_query_memory);
    result.setResult =
        tuplestore_begin_heap((result.allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
    MemoryContextSwitchTo(outer);
    return result.setResult;
}

}  // namespace cache_ext::api
