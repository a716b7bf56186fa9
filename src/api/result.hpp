#pragma once

// Results of functions in the form in which they are kept: what the server itself would keep in a table, so nothing is lost or reformatted and little has
// to be done on a hit.
//
//   varlena header · rows (32 bits) · data
//
// The data of a single value are its bytes (8 of one that is passed by value), and `rows` is 0 for null, else 1. The data of a set are its rows as minimal tuples,
// each aligned and with its own length.

#include <cstdint>

#include "pg/prelude.hpp"

extern "C" {
#include "access/tupdesc.h"
#include "nodes/execnodes.h"
#include "utils/tuplestore.h"
}

namespace cache_ext::api {

/// What a function returns where it is called.
struct ResultType {
    Oid type = InvalidOid;
    std::int16_t bytes = 0;  ///< of a value: as pg_type.typlen
    bool by_value = false;
    TupleDesc row =
        nullptr;  ///< of rows; null where a single value is no row of a type that only the call knows
    bool is_storable = false;
    std::uint64_t shape = 0;  ///< a hash of the types in it, down to the attributes of composite ones
};

/// Takes a type into the hash of a shape, with all that values of it are made of. False: outside this session their bytes say nothing.
bool add_type_shape(std::uint64_t& shape, Oid type);

/// Describes a single value of a type. `row`: the blessed description of an anonymous row type; else null.
ResultType single_result(Oid type, TupleDesc row);

/// Describes a set of rows.
ResultType set_result(TupleDesc row);

/// The stored form of a value, in the current memory context. Null: it would take more than `limit` bytes.
varlena* pack_value(const ResultType& type, Datum value, bool is_null, std::size_t limit);

/// The value of a stored form, in the memory of that.
Datum unpack_value(const ResultType& type, varlena* packed, bool& is_null);

/// The stored form of the rows of a store, in the current memory context. Null: it would take more than `limit` bytes; the rows have been appended to `to`
/// instead.
varlena* pack_rows(const ResultType& type, Tuplestorestate* from, Tuplestorestate* to, std::size_t limit);

/// Appends the rows of a stored form.
void unpack_rows(const ResultType& type, const varlena* packed, Tuplestorestate* rows);

/// The store of a result that begins anew, after an error that may have come while a row was put into it.
Tuplestorestate* start_rows_again(ReturnSetInfo& result);

}  // namespace cache_ext::api
