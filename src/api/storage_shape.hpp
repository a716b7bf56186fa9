#pragma once

// The shape of a table of stored objects: which of its columns say whose an object is, where it lies and how large it is. One definition for the
// triggers, for sums over the whole table and for whoever asks in SQL.

#include <string_view>

#include "pg/prelude.hpp"

extern "C" {
#include "access/htup.h"
#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
}

namespace cache_ext::api {

struct ObjectShape {
    AttrNumber bucket_id;
    AttrNumber name;
    AttrNumber metadata;
    AttrNumber owner_id;  ///< 0: there is no such column; at least one of the two there is
    AttrNumber owner;
    bool owner_id_is_uuid;
    bool owner_is_uuid;
};

/// The shape of a relation. False: a column is missing or has another type, and `fault` says so (a message's end, in the current memory context).
bool find_shape(TupleDesc row, ObjectShape& shape, const char*& fault);

/// What one object adds to the usage, and where it lies. Texts point into the row, or into memory of the current context.
struct Share {
    bool owned;              ///< false: it is nobody's, and counts for nobody
    std::string_view owner;  ///< as storage_key() has it
    std::string_view bucket;
    std::string_view name;
    std::string_view bucket_key;  ///< the bucket likewise; of what is owned
    std::int64_t bytes;
};

/// What stands for an owner or a bucket where usage is kept: itself, or of one that is longer than an index has room for, its beginning and a hash.
std::string_view storage_key(std::string_view text);

/// Of a row of the table. Values that are stored elsewhere are fetched, which may raise; otherwise nothing but memory is taken.
Share share_of(const ObjectShape& shape, TupleTableSlot* row);

/// Whether share_of() has to fetch anything from where large values are.
bool is_stored_elsewhere(const ObjectShape& shape, HeapTuple row, TupleDesc description);

}  // namespace cache_ext::api
