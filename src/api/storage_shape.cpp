#include "api/storage_shape.hpp"

#include <charconv>

#include "core/hash.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/uuid.h"
}

namespace cache_ext::api {

namespace {

bool is_text(Oid type) noexcept { return type == TEXTOID || type == VARCHAROID; }

AttrNumber find(TupleDesc row, const char* name, Oid& type) noexcept {
    for (int i = 0; i < row->natts; ++i) {
        const auto* column = TupleDescAttr(row, i);
        if (column->attisdropped || std::strcmp(NameStr(column->attname), name) != 0) continue;
        type = column->atttypid;
        return column->attnum;
    }
    return InvalidAttrNumber;
}

bool require(TupleDesc row, const char* name, Oid wanted, AttrNumber& number, const char*& fault) {
    Oid type = InvalidOid;
    number = find(row, name, type);
    if (number == InvalidAttrNumber) {
        fault = psprintf("column \"%s\" is missing", name);
    } else if (wanted == TEXTOID ? !is_text(type) : type != wanted) {
        fault = psprintf("column \"%s\" is not of type %s", name, format_type_be(wanted));
    }
    return fault == nullptr;
}

/// A column with the owner, if there is one.
bool find_owner(TupleDesc row, const char* name, AttrNumber& number, bool& is_uuid, const char*& fault) {
    Oid type = InvalidOid;
    number = find(row, name, type);
    is_uuid = type == UUIDOID;
    if (number != InvalidAttrNumber && !is_uuid && !is_text(type))
        fault = psprintf("column \"%s\" is not of type text or uuid", name);
    return fault == nullptr;
}

/// As casting it to text.
std::string_view uuid_text(Datum value) {
    constexpr char kDigits[] = "0123456789abcdef";
    const pg_uuid_t& uuid = *DatumGetUUIDP(value);
    auto* text = static_cast<char*>(palloc(36));
    char* at = text;
    for (int i = 0; i < UUID_LEN; ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
        *at++ = kDigits[uuid.data[i] >> 4];
        *at++ = kDigits[uuid.data[i] & 15];
    }
    return {text, 36};
}

std::string_view text_view(Datum value) {
    const text* t = DatumGetTextPP(value);
    return {VARDATA_ANY(t), static_cast<std::size_t>(VARSIZE_ANY_EXHDR(t))};
}

/// A whole number that is not negative and fits bigint, in digits; a fraction may only be zeros. Anything else is 0.
std::int64_t parse_size(std::string_view text) noexcept {
    std::int64_t size = 0;
    if (text.empty() || text.front() == '-') return 0;
    const char* const end = text.data() + text.size();
    const auto [rest, fault] = std::from_chars(text.data(), end, size);
    if (fault != std::errc{}) return 0;
    if (rest == end) return size;
    if (*rest != '.' || rest + 1 == end) return 0;
    return std::all_of(rest + 1, end, [](char c) { return c == '0'; }) ? size : 0;
}

std::int64_t size_of(Jsonb* metadata) {
    JsonbContainer* root = &metadata->root;
    JsonbValue found;
    if (!JsonContainerIsObject(root) || getKeyJsonValueFromContainer(root, "size", 4, &found) == nullptr)
        return 0;
    if (found.type == jbvString)
        return parse_size({found.val.string.val, static_cast<std::size_t>(found.val.string.len)});
    if (found.type == jbvNumeric)
        return parse_size(
            DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(found.val.numeric))));
    return 0;
}

}  // namespace

std::string_view storage_key(std::string_view text) {
    // Two of them fit a row of a B-tree index.
    constexpr std::size_t kMostBytes = 1000;
    constexpr std::size_t kHashBytes = 33;
    if (text.size() <= kMostBytes) return text;
    const auto most = static_cast<int>(kMostBytes - kHashBytes);
    const auto kept =
        static_cast<std::size_t>(pg_mbcliplen(text.data(), static_cast<int>(text.size()), most));
    auto* key = static_cast<char*>(palloc(kept + kHashBytes));
    char* end = std::copy(text.data(), text.data() + kept, key);
    *end++ = '#';
    for (const std::uint64_t seed : {0, 1}) {
        const std::uint64_t hash = core::hash_bytes(text, seed);
        for (int shift = 60; shift >= 0; shift -= 4)
            *end++ = "0123456789abcdef"[hash >> shift & 15];
    }
    return {key, kept + kHashBytes};
}

bool find_shape(TupleDesc row, ObjectShape& shape, const char*& fault) {
    fault = nullptr;
    if (!require(row, "bucket_id", TEXTOID, shape.bucket_id, fault) ||
        !require(row, "name", TEXTOID, shape.name, fault) ||
        !require(row, "metadata", JSONBOID, shape.metadata, fault) ||
        !find_owner(row, "owner_id", shape.owner_id, shape.owner_id_is_uuid, fault) ||
        !find_owner(row, "owner", shape.owner, shape.owner_is_uuid, fault))
        return false;
    if (shape.owner_id != InvalidAttrNumber || shape.owner != InvalidAttrNumber) return true;
    fault = "column \"owner_id\" is missing, and so is \"owner\"";
    return false;
}

Share share_of(const ObjectShape& shape, TupleTableSlot* row) {
    Share share{false, {}, {}, {}, {}, 0};
    bool is_null = true;
    const auto take_owner = [&](AttrNumber column, bool is_uuid) {
        if (column == InvalidAttrNumber || share.owned) return;
        const Datum value = slot_getattr(row, column, &is_null);
        if (is_null) return;
        share.owned = true;
        share.owner = is_uuid ? uuid_text(value) : storage_key(text_view(value));
    };
    take_owner(shape.owner_id, shape.owner_id_is_uuid);
    take_owner(shape.owner, shape.owner_is_uuid);
    if (const Datum bucket = slot_getattr(row, shape.bucket_id, &is_null); !is_null)
        share.bucket = text_view(bucket);
    if (const Datum name = slot_getattr(row, shape.name, &is_null); !is_null) share.name = text_view(name);
    if (!share.owned) return share;
    share.bucket_key = storage_key(share.bucket);
    if (const Datum metadata = slot_getattr(row, shape.metadata, &is_null); !is_null)
        share.bytes = size_of(DatumGetJsonbP(metadata));
    return share;
}

bool is_stored_elsewhere(const ObjectShape& shape, HeapTuple row, TupleDesc description) {
    if (!HeapTupleHasExternal(row)) return false;
    for (const AttrNumber column :
         {shape.bucket_id, shape.name, shape.metadata, shape.owner_id, shape.owner}) {
        if (column == InvalidAttrNumber || TupleDescAttr(description, column - 1)->attlen != -1) continue;
        bool is_null = true;
        const Datum value = heap_getattr(row, column, description, &is_null);
        if (!is_null && VARATT_IS_EXTERNAL(DatumGetPointer(value))) return true;
    }
    return false;
}

/// The size in bytes that an object's metadata gives, as usage counts it.
CACHE_EXT_FUNCTION(storage_object_size) {
    if (PG_ARGISNULL(0)) PG_RETURN_INT64(0);
    PG_RETURN_INT64(size_of(PG_GETARG_JSONB_P(0)));
}

}  // namespace cache_ext::api
