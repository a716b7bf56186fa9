#pragma once

// Differences between PostgreSQL 15, 16, 17 and 18. PG_VERSION_NUM is tested here and in compat.cpp only,
// each time with the reason.

#include "pg/prelude.hpp"

extern "C" {
#include "nodes/execnodes.h"
#include "nodes/parsenodes.h"
#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
}

namespace cache_ext::pg {

/// The number of this process among all that may have one, from 0; negative in a process without one.
/// Stable as long as the process lives.
[[nodiscard]] int backend_index() noexcept;

/// The place of this process in the server's array of processes: where others find its latch.
[[nodiscard]] int process_number() noexcept;

/// One more than the greatest backend_index() of the server. Known once MaxBackends is (shmem_request_hook and later).
[[nodiscard]] int max_backend_slots() noexcept;

/// Asks `test` about each relation that the current transaction has written and not rolled back, until it says yes; the result is whether it
/// did. Writes by any means are known (DML, COPY, cascades, TRUNCATE, REFRESH, logical replication), to tables kept as heaps and while track_counts
/// was on. A relation may be asked about twice. Only in a transaction.
[[nodiscard]] bool any_written_relation(bool (*test)(void* context, Oid relation), void* context);

/// The oldest transaction of which the server knows whether it was committed. With XactTruncationLock held.
[[nodiscard]] TransactionId oldest_known_transaction() noexcept;

/// A set of events to wait for, of this process alone until it is freed.
[[nodiscard]] WaitEventSet* make_wait_set(int events);

/// How many rows of a relation the current transaction has inserted, updated and deleted and not rolled back: the sum, by the same book. A TRUNCATE takes away what
/// its own savepoint counted before it.
[[nodiscard]] std::int64_t written_rows(Oid relation);

/// Makes a minimal tuple, in the current memory context.
[[nodiscard]] MinimalTuple form_minimal_tuple(TupleDesc row, Datum* values, bool* nulls);

/// Whether a subcommand of ALTER TABLE makes rows look different in the tables below too, without being one for columns that are renamed, dropped or
/// retyped.
constexpr bool alters_rows_below(AlterTableType type) noexcept {
#if PG_VERSION_NUM >= 170000
    // 17 can give a generated column another expression.
    if (type == AT_SetExpression) return true;
#endif
    return type == AT_AddColumn;
}

/// Whether a role may execute a function. Catalog access.
[[nodiscard]] bool may_execute(Oid function, Oid role);

/// Calls `visit` with the name of each setting that begins with `prefix`, in any case of letters. May raise.
void visit_settings(const char* prefix, void (*visit)(const char* name));

/// The server's walkers over the parts of a query (each relation before what is in it) and of an expression. True where the walker has said so.
using TreeWalker = bool (*)(Node* node, void* context);
bool walk_query(Query* query, TreeWalker walker, void* context);
bool walk_expression(Node* node, TreeWalker walker, void* context);

/// Reads a setting by name through the variable that it is kept in, at a few ns a read instead of a search
/// by name. Works for settings that do not exist (yet), appear, are replaced by a library that defines
/// them, or go when a library reserves their prefix. Trivially copyable; raises nothing.
class SettingRef {
public:
    /// `name` outlives this object.
    explicit SettingRef(const char* name) noexcept : name_(name) {}

    /// The value as text, as GetConfigOption gives it (no show hook); null or empty when the setting does not
    /// exist or has no value. Valid until the setting changes; for one that is no string, until the next read of any.
    [[nodiscard]] const char* value() noexcept {
        if (!is_current()) [[unlikely]] {
            resolve();
        }
        return variable_ != nullptr ? *variable_ : other_value();
    }

private:
    [[nodiscard]] bool is_current() const noexcept;
    void resolve() noexcept;
    [[nodiscard]] const char* other_value() const noexcept;
    void take(config_generic* record) noexcept;

    const char* name_;
    char** variable_ = nullptr;          // of a string
    config_generic* record_ = nullptr;   // null: no such setting
    const char* record_name_ = nullptr;  // record_->name when it was found
#if PG_VERSION_NUM < 160000
    // 15 keeps its settings in a sorted array: the place of record_ there, or where it would be and the settings on
    // both sides of that gap.
    int position_ = -1;
    config_generic* neighbours_[2] = {nullptr, nullptr};
    const char* neighbour_names_[2] = {nullptr, nullptr};
#endif
};

}  // namespace cache_ext::pg
