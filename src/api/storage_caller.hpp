#pragma once

// Whose usage a call is about.

#include <string_view>

#include "pg/prelude.hpp"

extern "C" {
#include "utils/uuid.h"
}

namespace cache_ext::api {

/// The user of an argument, or the caller where it is null: the claim `sub`. A text in the current memory context; empty: a shared caller who is nobody in particular. Anybody
/// else's is for shared callers only: ERROR 42501.
std::string_view user_argument(FunctionCallInfo fcinfo, int number);

/// The claim `sub` of the caller; empty: there is none. Claims that are no JSON make nobody of a caller who is not shared.
std::string_view caller_subject();

/// The id that a text is, as the server writes ids; null: it is none.
pg_uuid_t* parse_uuid(std::string_view text);

/// The caller; ERROR 22004 where there is none.
std::string_view calling_user();

}  // namespace cache_ext::api
