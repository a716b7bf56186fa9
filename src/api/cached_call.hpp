#pragma once

// Calling a cached function from here, where nobody has asked for its result.

#include <string_view>

#include "pg/prelude.hpp"

namespace cache_ext::api {

/// What becomes of an entry that is to be there again.
enum class Warmed : std::uint8_t {
    kNotDue,    ///< it is there, or the call would make another one
    kNot,       ///< computed, but not kept
    kComputed,  ///< computed and there
};

/// Computes the result of this call of a shared cached function, if that is what belongs under `key` and there is none that is fresh. The call as the server would make it, by the
/// function's owner; of a set, with the description of the rows. May raise.
Warmed warm_call(FunctionCallInfo fcinfo, std::string_view key);

}  // namespace cache_ext::api
