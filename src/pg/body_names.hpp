#pragma once

// What the text of a function in PL/pgSQL names. Without running it nobody can say more: the language keeps its bodies to itself.

#include <string_view>

#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// A word outside of quotes and comments, or a quoted identifier.
struct BodyName {
    const char* name;  ///< as the server folds it, in the current memory context
    bool is_called;    ///< a parenthesis follows
    std::string_view
        literal;  ///< the first argument in the parentheses, if that is a plain string; null otherwise
};

/// Goes through a text. Trivially copyable; raises what taking memory raises.
class BodyNames {
public:
    explicit BodyNames(const char* body) noexcept : at_(body) {}

    /// The next one. False: there is no more.
    bool next(BodyName& found);

private:
    void skip_space() noexcept;
    void skip_string(bool has_escapes) noexcept;
    void skip_dollar_quoted() noexcept;
    const char* read_quoted();
    void look_behind(BodyName& found) noexcept;

    const char* at_;
};

}  // namespace cache_ext::pg
