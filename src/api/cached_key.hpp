#pragma once

// The key of a cached function's result: the function in its present state, who calls and under which settings, and the arguments, byte by byte.

#include <string_view>

#include "api/cached_function.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::api {

/// How one argument is passed.
struct ArgumentType {
    Oid type;
    std::int16_t bytes;
    bool by_value;
};

/// What of a call does not change from row to row.
struct KeyFrame {
    const ArgumentType* arguments;
    int count;
    Oid collation;
    bool is_polymorphic;
    std::uint64_t shape;  ///< a hash of what the types of arguments and result are made of
};

/// The key of a call. In `buffer`, which has room for core::kMaxKeyBytes. `person`: pg::personal_id(), of whoever calls; null for a shared function.
std::string_view make_key(Definition& definition, const KeyFrame& frame, FunctionCallInfo fcinfo,
                          const std::uint64_t* person, char* buffer);

}  // namespace cache_ext::api
