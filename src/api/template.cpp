#include "api/template.hpp"

#include "api/args.hpp"

extern "C" {
#include "access/htup_details.h"
#include "executor/spi.h"
#include "utils/lsyscache.h"
}

namespace cache_ext::api {

TemplateFault parse_template(const char* source, FindField find, void* context, TagTemplate& result,
                             const char*& missing_field) {
    const auto length = std::strlen(source);
    result = {pstrdup(source), static_cast<TemplatePiece*>(palloc0(sizeof(TemplatePiece) * (length + 1))), 0,
              true};
    StringInfoData literal;
    initStringInfo(&literal);
    const auto end_piece = [&](int field) {
        TemplatePiece& piece = result.pieces[result.count++];
        piece.text = pnstrdup(literal.data, static_cast<Size>(literal.len));
        piece.text_bytes = literal.len;
        piece.field = field;
        resetStringInfo(&literal);
    };
    for (const char* at = source; *at != '\0'; ++at) {
        if ((*at == '{' || *at == '}') && at[1] == *at) {
            appendStringInfoChar(&literal, *at++);
        } else if (*at == '}') {
            return TemplateFault::kNotOpened;
        } else if (*at != '{') {
            appendStringInfoChar(&literal, *at);
        } else {
            const char* close = std::strchr(at, '}');
            if (close == nullptr) return TemplateFault::kNotClosed;
            const char* name = pnstrdup(at + 1, static_cast<Size>(close - at - 1));
            Oid type = InvalidOid;
            const int field = find(context, name, type);
            if (field <= 0) {
                missing_field = name;
                return TemplateFault::kNoField;
            }
            end_piece(field);
            Oid function = InvalidOid;
            bool is_varlena = false;
            getTypeOutputInfo(type, &function, &is_varlena);
            fmgr_info(function, &result.pieces[result.count - 1].output);
            result.is_plain = false;
            at = close;
        }
    }
    if (literal.len > 0 || result.count == 0) end_piece(0);
    return TemplateFault::kNone;
}

TagTemplate checked_template(const char* source, FindField find, void* context, const char* kind) {
    TagTemplate result;
    const char* missing = nullptr;
    const TemplateFault fault = parse_template(source, find, context, result, missing);
    if (fault == TemplateFault::kNoField) {
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
                        errmsg("%s \"%s\" of tag template \"%s\" does not exist", kind, missing, source)));
    }
    if (fault != TemplateFault::kNone) {
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("tag template \"%s\" is not valid", source),
                 fault == TemplateFault::kNotClosed
                     ? errdetail("An opening brace is not closed; a brace itself is written twice.")
                     : errdetail("There is a closing brace that nothing opens; a brace itself is written "
                                 "twice.")));
    }
    if (result.is_plain) check_tag(result.text());
    return result;
}

bool is_virtual(TupleDesc row, int column) noexcept {
    return TupleDescAttr(row, column - 1)->attgenerated == 'v';
}

int find_column(void* row_description, const char* name, Oid& type) {
    const auto row = static_cast<TupleDesc>(row_description);
    const int column = SPI_fnumber(row, name);
    if (column <= 0 || is_virtual(row, column)) return 0;
    type = TupleDescAttr(row, column - 1)->atttypid;
    return column;
}

}  // namespace cache_ext::api
