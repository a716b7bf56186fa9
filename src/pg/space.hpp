#pragma once

// The space: whose data an entry of the region is. One for each incarnation of the extension in each database,
// so that a re-created extension, a dropped database's successor and a database copied by TEMPLATE start empty.

#include <cstdint>

#include "pg/prelude.hpp"

namespace cache_ext::pg {

struct Space {
    /// Hash of the random id in cache_ext_internal.identity and the database's OID; zero where !exists.
    std::uint64_t id[2];
    Oid extension_owner;
    Oid schema;   ///< of the SQL functions
    bool exists;  ///< the extension is installed in this database, as this transaction sees the catalog
};

namespace detail {
extern Space space;
extern bool space_valid;
const Space& look_space_up();
}  // namespace detail

/// The current space. A bool check, unless the catalog changed: then a look-up that may raise ERROR and needs
/// a transaction; outside of one the result is a space that does not exist. No privileges are needed; works
/// READ ONLY, in parallel leaders and on standbys. The reference stays, its content changes: who needs it later in the
/// transaction (in a commit callback, say) keeps a copy.
inline const Space& current_space() { return detail::space_valid ? detail::space : detail::look_space_up(); }

/// The space as it was looked up last, for whoever must not fail: it changes with the extension only.
inline const Space& last_space() noexcept { return detail::space; }

/// Registers for invalidation. Called once, from _PG_init.
void init_space();

}  // namespace cache_ext::pg
