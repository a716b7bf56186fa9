#pragma once

// Tag templates: `product:{id}` makes a tag of each value that the field `id` takes. What the fields are (columns of a row, arguments of a
// function) is the caller's; `{{` and `}}` stand for a brace.

#include <string_view>

#include "core/store.hpp"
#include "pg/prelude.hpp"

extern "C" {
#include "access/tupdesc.h"
#include "lib/stringinfo.h"
}

namespace cache_ext::api {

/// A piece of a template: literal text, and after it a field's value.
struct TemplatePiece {
    const char* text;
    int text_bytes;
    int field;  // as the caller counts them, from 1; 0 = nothing follows the text
    FmgrInfo output;
};

/// A parsed template. In the memory context in which it was parsed.
struct TagTemplate {
    const char* source;
    TemplatePiece* pieces;
    int count;
    bool is_plain;  ///< without fields: always the same tag

    /// The tag of a plain one.
    std::string_view text() const noexcept {
        return {pieces[0].text, static_cast<std::size_t>(pieces[0].text_bytes)};
    }
};

/// Finds the field of a name: its number, from 1, and its type; 0 where there is none.
using FindField = int (*)(void* context, const char* name, Oid& type);

/// What is wrong with a template.
enum class TemplateFault : std::uint8_t { kNone, kNotOpened, kNotClosed, kNoField };

/// Parses a template. Of one that has a fault only that is of use, and the name of the field that there is not.
TemplateFault parse_template(const char* source, FindField find, void* context, TagTemplate& result,
                             const char*& missing_field);

/// The same, where a fault is an ERROR, and so is a plain tag that is empty or too long. `kind` is what a field is, for messages: "column",
/// "argument".
TagTemplate checked_template(const char* source, FindField find, void* context, const char* kind);

/// Whether a column is generated when it is read (from 18 on): a row as it is written does not have it.
bool is_virtual(TupleDesc row, int column) noexcept;

/// For templates over the columns of a row, those that are stored.
int find_column(void* row_description, const char* name, Oid& type);

/// Makes the tag of the values that `value_of(field, is_null)` gives, in the current memory context. Empty: there is none, because a
/// value is null, as it makes none where entries are tagged, or because no entry can carry a tag so short or long.
template <class ValueOf>
std::string_view make_tag(TagTemplate& t, ValueOf&& value_of) {
    if (t.is_plain) return t.text();
    StringInfoData tag;
    initStringInfo(&tag);
    for (int i = 0; i < t.count; ++i) {
        TemplatePiece& piece = t.pieces[i];
        appendBinaryStringInfo(&tag, piece.text, piece.text_bytes);
        if (piece.field == 0) continue;
        bool is_null = true;
        const Datum value = value_of(piece.field, is_null);
        if (is_null) return {};
        appendStringInfoString(&tag, OutputFunctionCall(&piece.output, value));
    }
    const auto bytes = static_cast<std::size_t>(tag.len);
    return bytes <= core::kMaxTagBytes ? std::string_view{tag.data, bytes} : std::string_view{};
}

}  // namespace cache_ext::api
