#include "api/template.hpp"

#include "api/args.hpp"

extern "C" {
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "pgtime.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
}

namespace cache_ext::api {

namespace {

/// Whether values are OIDs that are written as names. The names may be changed, and are qualified or not as the search_path has it: in tags they are
/// numbers.
bool is_name_of_oid(Oid base) noexcept {
    switch (base) {
        case REGPROCOID:
        case REGPROCEDUREOID:
        case REGOPEROID:
        case REGOPERATOROID:
        case REGCLASSOID:
        case REGTYPEOID:
        case REGROLEOID:
        case REGNAMESPACEOID:
        case REGCOLLATIONOID:
        case REGCONFIGOID:
        case REGDICTIONARYOID:
            return true;
        default:
            return false;
    }
}

TextDepends text_depends(Oid type) {
    const Oid base = getBaseType(type);
    if (is_name_of_oid(base)) return TextDepends::kNames;  // in an array, or another value
    switch (base) {
        case BOOLOID:
        case INT2OID:
        case INT4OID:
        case INT8OID:
        case OIDOID:
        case NUMERICOID:
        case TEXTOID:
        case VARCHAROID:
        case BPCHAROID:
        case NAMEOID:
        case CHAROID:
        case UUIDOID:
        case JSONOID:
        case JSONBOID:
        case INETOID:
        case CIDROID:
            return TextDepends::kNothing;
        case DATEOID:
        case TIMEOID:
        case TIMESTAMPOID:
        case INTERVALOID:
        case FLOAT4OID:
        case FLOAT8OID:
        case BYTEAOID:
            return TextDepends::kFormats;
        case MONEYOID:
        case RECORDOID:
            return TextDepends::kNames;
        default:
            break;
    }
    if (const Oid element = get_element_type(base); OidIsValid(element)) return text_depends(element);
    switch (get_typtype(base)) {
        case TYPTYPE_ENUM:
            return TextDepends::kNothing;
        case TYPTYPE_RANGE:
            return text_depends(get_range_subtype(base));
        case TYPTYPE_MULTIRANGE:
            return text_depends(get_range_subtype(get_multirange_range(base)));
        case TYPTYPE_COMPOSITE:
            return TextDepends::kNames;
        default:
            return TextDepends::kZone;
    }
}

/// The settings that texts depend on, as a tag has them.
constexpr const char* kCanonical[][2] = {{"datestyle", "ISO, MDY"},   {"intervalstyle", "postgres"},
                                         {"extra_float_digits", "1"}, {"bytea_output", "hex"},
                                         {"timezone", "UTC"},         {"search_path", "pg_catalog"},
                                         {"lc_monetary", "C"}};
constexpr std::size_t kNames = 5;  // from here on they are for few types, and dear

bool is_canonical(TextDepends depends) noexcept {
    if (depends == TextDepends::kNothing) return true;
    if (depends == TextDepends::kNames) return false;
    const bool formats = DateStyle == USE_ISO_DATES && IntervalStyle == INTSTYLE_POSTGRES &&
                         extra_float_digits == 1 && bytea_output == BYTEA_OUTPUT_HEX;
    return formats && (depends == TextDepends::kFormats ||
                       std::strcmp(pg_get_timezone_name(session_timezone), "UTC") == 0);
}

}  // namespace

int begin_canonical_texts(TextDepends depends) {
    if (is_canonical(depends)) return 0;
    const int level = NewGUCNestLevel();
    const std::size_t count = depends == TextDepends::kNames ? std::size(kCanonical) : kNames;
    for (const auto& [name, value] : std::span(kCanonical, count))
        (void)set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
    return level;
}

void end_canonical_texts(int level) {
    if (level != 0) AtEOXact_GUC(false, level);
}

TemplateFault parse_template(const char* source, FindField find, void* context, TagTemplate& result,
                             const char*& missing_field) {
    const auto length = std::strlen(source);
    result = {pstrdup(source), static_cast<TemplatePiece*>(palloc0(sizeof(TemplatePiece) * (length + 1))), 0,
              true, TextDepends::kNothing};
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
            const bool as_number = is_name_of_oid(getBaseType(type));
            getTypeOutputInfo(as_number ? OIDOID : type, &function, &is_varlena);
            fmgr_info(function, &result.pieces[result.count - 1].output);
            result.is_plain = false;
            if (!as_number) result.depends = std::max(result.depends, text_depends(type));
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
