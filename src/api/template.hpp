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

/// Which settings the texts of a type depend on.
enum class TextDepends : std::uint8_t {
    kNothing,
    kFormats,  ///< DateStyle and its like
    kZone,     ///< TimeZone too, or it is not known what
    kNames,    ///< what else there is: search_path, lc_monetary
};

/// A parsed template. In the memory context in which it was parsed.
struct TagTemplate {
    const char* source;
    TemplatePiece* pieces;
    int count;
    bool is_plain;        ///< without fields: always the same tag
    TextDepends depends;  ///< of its fields

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

/// Sees to it that a value makes the same tag in every session: from now on texts are as they are with DateStyle ISO, in UTC and so on. What
/// `end_canonical_texts` is to be given; 0, and cheap, where that is so already. An error that is raised between the two ends it too.
int begin_canonical_texts(TextDepends depends);
void end_canonical_texts(int level);

/// Makes the tag of the values that `value_of(field, is_null)` gives, in the current memory context. Empty: there is none, because a
/// value is null, as it makes none where entries are tagged, or because no entry can carry a tag so short or long.
template <class ValueOf>
std::string_view make_tag(TagTemplate& t, ValueOf&& value_of) {
    if (t.is_plain) return t.text();
    StringInfoData tag;
    initStringInfo(&tag);
    const int level = begin_canonical_texts(t.depends);
    bool is_null = false;
    for (int i = 0; i < t.count && !is_null; ++i) {
        TemplatePiece& piece = t.pieces[i];
        appendBinaryStringInfo(&tag, piece.text, piece.text_bytes);
        if (piece.field == 0) continue;
        const Datum value = value_of(piece.field, is_null);
        if (!is_null) appendStringInfoString(&tag, OutputFunctionCall(&piece.output, value));
    }
    end_canonical_texts(level);
    if (is_null) return {};
    const auto bytes = static_cast<std::size_t>(tag.len);
    return bytes <= core::kMaxTagBytes ? std::string_view{tag.data, bytes} : std::string_view{};
}

}  // namespace cache_ext::api
