#pragma once

// Rows that go into tables of the extension's own as part of somebody else's transaction: straight into heap and index, so at the least cost, and
// unhindered by privileges, triggers and constraints that somebody may have added.

#include <cstdint>

#include "pg/prelude.hpp"

extern "C" {
#include "access/htup.h"
#include "access/tupdesc.h"
#include "utils/relcache.h"
}

namespace cache_ext::pg {

/// Finds a table of the extension's in its internal schema: InvalidOid where there is none. Catalog access, may raise.
[[nodiscard]] Oid find_own_table(const char* name);

/// What a sequence of the extension's own holds.
struct OwnSequence {
    std::int64_t last_value;
    bool is_called;  ///< false: it is the first value, and not drawn yet
};

/// Reads a sequence without SQL. May raise.
[[nodiscard]] OwnSequence read_own_sequence(const char* name);

/// A table of the extension's that rows are being put into. Locked until the transaction's end. All of it may raise.
class OwnRows {
public:
    /// Raises where there is no such table, where somebody holds a lock that conflicts, and where its definition is not ours any more.
    [[nodiscard]] static OwnRows open(Oid table);
    void append(HeapTuple row);
    void close();

    [[nodiscard]] TupleDesc description() const noexcept;

private:
    static constexpr int kIndexes = 4;

    Relation table_ = nullptr;
    Relation indexes_[kIndexes] = {};
    int index_count_ = 0;
};

/// What an append makes: called in the subtransaction with the open table; `context` is the caller's. May raise.
using MakeRow = HeapTuple (*)(TupleDesc row, void* context);

/// Appends a row to a table of this name, in a subtransaction of its own. Waits for nobody: false where somebody holds a lock that conflicts, or anything else
/// goes wrong, after a WARNING that says so (`what`: "invalidations could not be kept for Redis"). An error that ends the session or the statement is passed on,
/// though.
[[nodiscard]] bool append_row(const char* table, MakeRow make, void* context, const char* what);

}  // namespace cache_ext::pg
