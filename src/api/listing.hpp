#pragma once

// Listing the entries that a caller may see, for views. It looks through the region bucket by bucket and notes only names under the lock; each entry is
// then looked up as a read would look it up, so that a view never shows what a read would not give.

#include <string_view>

#include "api/context.hpp"
#include "pg/prelude.hpp"

extern "C" {
#include "nodes/execnodes.h"
}

namespace cache_ext::api {

/// One listing of all that a caller may see, into the tuplestore of a set-returning function.
struct Listing {
    ReturnSetInfo* result;
    MemoryContext row_memory;  ///< current while an entry is visited, and reset before each
    core::Scope own;
    core::Scope shared;
    bool sees_all;  ///< a shared caller
    core::Version clock;
};

/// Begins the result of the function, and the listing. False: there is nothing that the caller may see now. May raise.
bool begin_listing(FunctionCallInfo fcinfo, Listing& l);

/// Calls `visit(l, scope, key, where, context)` for each name that may be that of a visible entry: of the region, and of the transaction's own
/// pending sets. May raise.
using VisitName = void (*)(const Listing& l, const core::Scope& scope, std::string_view key,
                           Visible::Where where, const void* context);
void for_each_name(const Listing& l, VisitName visit, const void* context = nullptr);

/// Whether a read in its scope would find the name where it is expected. May raise.
bool find_listed(const Listing& l, const core::Scope& scope, std::string_view key, Visible::Where where,
                 Visible& found);

/// How views name a scope: `shared`, or `private:` and its id.
Datum scope_text(const core::Scope& scope);

/// Reads what scope_text() wrote. False: it is none.
bool parse_scope(const char* text, const core::Scope& shared, core::Scope& scope) noexcept;

}  // namespace cache_ext::api
