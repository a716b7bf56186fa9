#pragma once

// Running a caller's query and making a jsonb of its result.

#include "pg/prelude.hpp"

extern "C" {
#include "utils/jsonb.h"
}

namespace cache_ext::api {

struct Computation {
    const char* query = nullptr;  ///< one statement that returns rows
    Jsonb* parameters = nullptr;  ///< an array, whose elements are $1…; null: there are none
    bool may_be_parallel = false;
};

/// Checks parameters: an ERROR where they are no array.
void check_parameters(Jsonb* parameters);

/// Runs the query under the active snapshot, with the current user's rights, and returns its result in the caller's memory: of one column of type json or
/// jsonb its value (jsonb null where there is no row or the value is null; ERROR 21000 where there are several rows), of anything else an array of
/// objects. Errors of the query are raised as they are.
Datum compute(const Computation& computation);

}  // namespace cache_ext::api
