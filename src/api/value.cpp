#include "api/value.hpp"

#include "pg/attach.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "access/toast_compression.h"
}

namespace cache_ext::api {

StoredValue encode(const varlena* value) {
    const auto plain = std::as_bytes(std::span(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)));
    if (pg::settings::compression == pg::kCompressOff ||
        plain.size() < static_cast<std::size_t>(pg::settings::compression_threshold)) {
        return {plain, core::Encoding::kPlain};
    }
    // The server's own compressed form without its length word: the original size first.
    const bool lz4 = pg::settings::compression == pg::kCompressLz4;
    const varlena* compressed = lz4 ? lz4_compress_datum(value) : pglz_compress_datum(value);
    if (compressed == nullptr || VARSIZE(compressed) - VARHDRSZ > plain.size() - plain.size() / 8)
        return {plain, core::Encoding::kPlain};
    auto* words = reinterpret_cast<varattrib_4b*>(const_cast<varlena*>(compressed));
    words->va_compressed.va_tcinfo = static_cast<std::uint32_t>(plain.size());
    return {std::as_bytes(std::span(VARDATA(compressed), VARSIZE(compressed) - VARHDRSZ)),
            lz4 ? core::Encoding::kLz4 : core::Encoding::kPglz};
}

namespace {

varlena* allocate_for(std::size_t bytes, core::Encoding encoding) {
    auto* copy = static_cast<varlena*>(palloc(VARHDRSZ + bytes));
    if (core::compression_of(encoding) == core::Encoding::kPlain) {
        SET_VARSIZE(copy, VARHDRSZ + bytes);
    } else {
        SET_VARSIZE_COMPRESSED(copy, VARHDRSZ + bytes);
    }
    return copy;
}

Datum expand(varlena* copy, core::Encoding encoding) {
    const core::Encoding compression = core::compression_of(encoding);
    if (compression == core::Encoding::kPlain) return PointerGetDatum(copy);
    varlena* value =
        compression == core::Encoding::kLz4 ? lz4_decompress_datum(copy) : pglz_decompress_datum(copy);
    pfree(copy);
    return PointerGetDatum(value);
}

}  // namespace

Datum decode(std::span<const std::byte> bytes, core::Encoding encoding) {
    varlena* copy = allocate_for(bytes.size(), encoding);
    std::memcpy(VARDATA(copy), bytes.data(), bytes.size());
    return expand(copy, encoding);
}

bool fetch(const core::Lookup& found, Datum& value) {
    varlena* copy = allocate_for(found.value_bytes, found.encoding);
    if (!pg::region().store().copy(pg::region().base(), found, VARDATA(copy))) {
        pfree(copy);
        return false;
    }
    value = expand(copy, found.encoding);
    return true;
}

}  // namespace cache_ext::api
