#pragma once

// What can be said of a function before it runs: which tables it reads, and what it reads whose changes nobody will be told of.

#include "pg/obstacle.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// Trivially copyable: may lie on the stack across calls into the server.
struct Trackability {
    static constexpr int kMaxFindings = 32;
    static constexpr int kMaxRelations = 128;

    Finding
        findings[kMaxFindings];  ///< each obstacle of each object once, in the order in which they were met
    int finding_count = 0;
    Oid relations
        [kMaxRelations];  ///< the tables and materialized views that it reads, each once, whatever it would write
    int relation_count = 0;
    bool complete =
        true;  ///< false: there is more of either than there is room for, or it goes deeper than is followed

    /// Whether there is such a finding.
    bool has(Obstacle obstacle) const noexcept {
        return std::any_of(findings, findings + finding_count,
                           [&](const Finding& f) { return f.obstacle == obstacle; });
    }
};

/// Looks at a function: the bodies of functions in SQL, its own and those of the functions, views and row-security policies that it uses; of functions
/// in other languages only what is declared. Without running anything. What has an error is a finding (kNotAnalyzed), not an ERROR. Uses a
/// subtransaction, so that it may be called only where one may begin (not in a parallel operation).
void look_at_function(Oid function, Trackability& out);

/// Whether row security may ask what is in other tables when this one is read. Catalog look-ups only.
bool has_row_security(Oid table);

/// The same of a table's row-security policies, whoever they are for, and of those of the partitioned tables that it is a part of. Bodies in PL/pgSQL are gone through for
/// names, and what bears one of them counts as used, in whatever schema: more than there is, rather than less. Other languages are a finding (kNotAnalyzed), but for functions
/// that are declared IMMUTABLE.
void look_at_policies(Oid table, Trackability& out);

}  // namespace cache_ext::pg
