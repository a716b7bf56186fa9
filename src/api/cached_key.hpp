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

/// What the keys of a function's calls begin with, before their arguments. In a buffer as above.
std::string_view key_prefix(Definition& definition, const std::uint64_t* person, char* buffer);

/// Whether values of a type can be made again from their bytes in a key. Not of rows: what they are made of may have been altered since.
bool can_be_read_back(Oid type);

/// Reads back what `make_key` wrote behind the prefix, for a function without polymorphic types; values in the current memory context. `arguments` of the frame must be
/// such as can be read back. False: there is only a hash of them, or the bytes do not fit the types.
bool read_arguments(std::string_view text, const ArgumentType* arguments, int count, Oid& collation,
                    NullableDatum* values);

}  // namespace cache_ext::api
