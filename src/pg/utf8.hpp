#pragma once

// Texts of the database for those who want UTF-8, whatever the database's encoding is.

#include <optional>
#include <string>
#include <string_view>

#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// The text in UTF-8. Nothing where it cannot be said so: some characters of some encodings have none that is equal, and where the database knows no encoding
/// there may be any bytes. Raises nothing but what a look into the catalog raises; may throw std::bad_alloc.
[[nodiscard]] std::optional<std::string> to_utf8(std::string_view text);

/// A text in UTF-8 as the database writes it, with a question mark for each character that it has not. Likewise.
[[nodiscard]] std::string from_utf8(std::string text);

}  // namespace cache_ext::pg
