#include "pg/utf8.hpp"

#include "pg/guard.hpp"

extern "C" {
#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
}

namespace cache_ext::pg {

namespace {

constexpr std::size_t kPiece = 1024;

}  // namespace

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

std::string from_utf8(std::string text) {
    const int own = GetDatabaseEncoding();
    if (own == PG_UTF8 || own == PG_SQL_ASCII) return text;
    const Oid conversion = pg_call([own] { return FindDefaultConversionProc(PG_UTF8, own); });
    std::string result;
    std::string piece;
    for (std::string_view rest = text; !rest.empty();) {
        // In pieces, or each character that cannot be said would make room for all that follows it.
        const std::string_view next = rest.substr(0, kPiece);
        piece.assign(next.size() * MAX_CONVERSION_GROWTH + 1, '\0');
        std::size_t done = 0;
        if (OidIsValid(conversion)) {
            done = static_cast<std::size_t>(pg_call([&] {
                return pg_do_encoding_conversion_buf(
                    conversion, PG_UTF8, own,
                    reinterpret_cast<unsigned char*>(const_cast<char*>(next.data())),
                    static_cast<int>(next.size()), reinterpret_cast<unsigned char*>(piece.data()),
                    static_cast<int>(piece.size()), true);
            }));
        }
        result += piece.c_str();
        rest.remove_prefix(done);
        // A character that the piece has only the beginning of is tried again, unless there was nothing before it.
        if (done == next.size() || (done > 0 && next.size() < rest.size() + done && next.size() - done < 4))
            continue;
        result += '?';
        do
            rest.remove_prefix(1);
        while (!rest.empty() && (static_cast<unsigned char>(rest.front()) & 0xc0U) == 0x80);
    }
    return result;
}

}  // namespace cache_ext::pg
