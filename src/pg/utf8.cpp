#include "pg/utf8.hpp"

#include "pg/guard.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
}

namespace cache_ext::pg {

std::optional<std::string> to_utf8(std::string_view text) {
    const int own = GetDatabaseEncoding();
    const auto bytes = static_cast<int>(text.size());
    if (own == PG_UTF8) return std::string(text);
    if (own == PG_SQL_ASCII) {
        if (!pg_verify_mbstr(PG_UTF8, text.data(), bytes, true)) return std::nullopt;
        return std::string(text);
    }
    std::string converted(text.size() * MAX_CONVERSION_GROWTH + 1, '\0');
    const int done = pg_call([&] {
        const Oid conversion = FindDefaultConversionProc(own, PG_UTF8);
        if (!OidIsValid(conversion)) return -1;
        return pg_do_encoding_conversion_buf(
            conversion, own, PG_UTF8, reinterpret_cast<unsigned char*>(const_cast<char*>(text.data())), bytes,
            reinterpret_cast<unsigned char*>(converted.data()), static_cast<int>(converted.size()), true);
    });
    if (done != bytes) return std::nullopt;
    converted.resize(std::strlen(converted.c_str()));
    return converted;
}

}  // namespace cache_ext::pg
