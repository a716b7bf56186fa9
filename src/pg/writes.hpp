#pragma once

// Which relations the transaction has written, for the results that depend on them: stamped with it like its invalidations.
//
// Every server process has to take part, so it works only where the library is preloaded. What a transaction wrote is read from the server's own
// counts of rows, when it is about to commit; it pays nothing at the time of writing. What those counts do not know (changed definitions and
// privileges, statements that run with track_counts off) is noted by hooks and counts as having written everything that is watched.

#include "core/store.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// Stands for all relations. Every result that depends on relations depends on it too.
inline constexpr Oid kAnyRelation = InvalidOid;

/// The tag of a relation of this database, in a space of its own where no tag that a user may name can be. Refers to itself: not copied.
class RelationTag {
public:
    explicit RelationTag(Oid relation) noexcept : RelationTag(relation, MyDatabaseId) {}
    RelationTag(Oid relation, Oid database) noexcept;
    RelationTag(const RelationTag&) = delete;
    RelationTag& operator=(const RelationTag&) = delete;
    core::TagName name() const noexcept;

    /// The relation that a tag of that space names.
    static Oid relation_of(std::string_view text) noexcept;

private:
    Oid database_;
    char text_[12];
    std::size_t bytes_;
};

/// Whether this server notes what is written.
bool tracks_writes() noexcept;

/// Whether this transaction has written any relation that may be watched.
bool has_own_writes() noexcept;

/// Whether this transaction has written the relation, or may have. kAnyRelation: whether it may have written anything. Meant for
/// transactions with `has_own_writes()`.
bool wrote_relation(Oid relation);

/// What this transaction has written, sorted, and kAnyRelation where that may be anything. Throws std::bad_alloc.
std::vector<Oid> own_writes();

/// Whether this transaction has written anything that is watched, and so has to be stamped. In a transaction, before its end.
bool wrote_watched();

/// Calls `visit` with the tag of each relation that was written and is watched. False: it was something that concerns more databases than are known.
[[nodiscard]] bool visit_watched_writes(void (*visit)(void* context, const core::TagName& tag),
                                        void* context);

/// Watches relations, `count` of them and kAnyRelation. Whether results that depend on them may be kept from now on; if not yet, because
/// transactions are under way that may have written them without telling, it may be so another time. Needs a transaction with a snapshot that was
/// taken before the relations were read.
bool watch_relations(const Oid* relations, int count);

/// Notes that the transaction writes something that its counts will not show.
void note_untracked_write() noexcept;

/// The same of a catalog that is written by its name; `shared`: one that all databases have in common.
void note_catalog_write(bool shared) noexcept;

/// For each statement that begins: whether its writes will be counted. A load and a branch.
void note_statement(bool writes) noexcept;

/// At the end of a transaction.
void forget_writes() noexcept;

/// Installs the hooks. Called once, from _PG_init.
void init_writes();

}  // namespace cache_ext::pg
