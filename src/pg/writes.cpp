#include "pg/writes.hpp"

#include <charconv>

#include "pg/attach.hpp"
#include "pg/compat.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_rewrite.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
}

namespace cache_ext::pg {

namespace {

/// Together with a database's OID the space of its relations' tags. The spaces that users' tags are in are cut from SHA-256.
constexpr std::uint64_t kRelationSpace = 0x72656c6174696f6eULL;

constinit bool preloaded = false;
/// Whether this transaction has written what its counts do not show.
constinit bool untracked = false;
/// And whether that concerns all databases.
constinit bool everywhere = false;
constinit ProcessUtility_hook_type previous_utility = nullptr;
constinit object_access_hook_type previous_access = nullptr;

core::Id128 relation_space(Oid database) noexcept { return {kRelationSpace, database}; }

std::uint64_t watch_hash(Oid relation) noexcept {
    return core::Watches::hash(relation_space(MyDatabaseId), relation);
}

bool is_watched(void* /*context*/, Oid relation) noexcept {
    return region().watches().watched(watch_hash(relation));
}

/// The oldest transaction that may be unfinished for any snapshot of this database, with 64 bits. `relation`: one of those that are meant.
core::FullXid oldest_unfinished(Oid relation) {
    // The server works this out for a table of this database; for none it takes all databases together, which is only more cautious. A table that
    // this transaction has just created has other rules. One that was read in a part that was rolled back is locked no more, and may be going
    // just now: nobody waits for that, and without the lock it could not be opened safely.
    const bool locked = OidIsValid(relation) && ConditionalLockRelationOid(relation, AccessShareLock);
    Relation table = locked ? try_relation_open(relation, NoLock) : nullptr;
    const bool plain =
        table != nullptr &&
        (table->rd_rel->relkind == RELKIND_RELATION || table->rd_rel->relkind == RELKIND_MATVIEW) &&
        !RELATION_IS_LOCAL(table);
    const TransactionId oldest = GetOldestNonRemovableTransactionId(plain ? table : nullptr);
    if (table != nullptr) relation_close(table, NoLock);
    if (locked) UnlockRelationOid(relation, AccessShareLock);
    const core::FullXid next = U64FromFullTransactionId(ReadNextFullTransactionId());
    return next - static_cast<TransactionId>(static_cast<TransactionId>(next) - oldest);
}

// --- what the counts do not show ----------------------------------------------------------------------

bool is_temporary(const RangeVar* relation) noexcept {
    return relation->relpersistence == RELPERSISTENCE_TEMP;
}

/// Whether a relation is temporary; false where it is not known. It may be dropped at this moment by others, which get_rel_persistence would
/// take for an error.
bool is_temporary(Oid relation) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
    if (!HeapTupleIsValid(tuple)) return false;
    const bool temporary =
        reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relpersistence == RELPERSISTENCE_TEMP;
    ReleaseSysCache(tuple);
    return temporary;
}

/// Whether everything that the statement drops is a temporary table.
bool drops_temporary_only(const DropStmt* drop) {
    if (drop->removeType != OBJECT_TABLE) return false;
    for (int i = 0; i < list_length(drop->objects); ++i) {
        const RangeVar* name = makeRangeVarFromNameList(static_cast<List*>(list_nth(drop->objects, i)));
        const Oid relation = RangeVarGetRelid(name, NoLock, true);
        if (OidIsValid(relation) && !is_temporary(relation)) return false;
    }
    return true;
}

/// Whether a utility statement may change what a query returns other than by writing rows: definitions, privileges, roles. Whatever is not
/// known to leave them alone does.
bool changes_definitions(const Node* statement) {
    switch (nodeTag(statement)) {
        case T_TransactionStmt:
        case T_DeclareCursorStmt:
        case T_FetchStmt:
        case T_ClosePortalStmt:
        case T_PrepareStmt:
        case T_ExecuteStmt:
        case T_DeallocateStmt:
        case T_DoStmt:
        case T_CallStmt:
        case T_CopyStmt:
        case T_TruncateStmt:
        case T_RefreshMatViewStmt:
        case T_NotifyStmt:
        case T_ListenStmt:
        case T_UnlistenStmt:
        case T_LoadStmt:
        case T_VacuumStmt:
        case T_ClusterStmt:
        case T_ReindexStmt:
        case T_IndexStmt:
        case T_CommentStmt:
        case T_CheckPointStmt:
        case T_DiscardStmt:
        case T_VariableSetStmt:
        case T_VariableShowStmt:
        case T_LockStmt:
        case T_ConstraintsSetStmt:
            return false;
        case T_ExplainStmt: {
            // With ANALYZE it creates what it explains.
            const Node* query = reinterpret_cast<const ExplainStmt*>(statement)->query;
            const Node* utility = query != nullptr && IsA(query, Query)
                                      ? reinterpret_cast<const Query*>(query)->utilityStmt
                                      : nullptr;
            return utility != nullptr && changes_definitions(utility);
        }
        case T_CreateStmt: {
            const auto* create = reinterpret_cast<const CreateStmt*>(statement);
            return !is_temporary(create->relation) || create->inhRelations != NIL;
        }
        case T_CreateTableAsStmt:
            return !is_temporary(reinterpret_cast<const CreateTableAsStmt*>(statement)->into->rel);
        case T_ViewStmt:
            return !is_temporary(reinterpret_cast<const ViewStmt*>(statement)->view);
        case T_DropStmt:
            return !drops_temporary_only(reinterpret_cast<const DropStmt*>(statement));
        default:
            return true;
    }
}

/// Whether a statement changes what all databases share and results may rest on: roles, and who is a member of which. A new role can make an old one a
/// member of another; a database's owner is a member of pg_database_owner there.
bool changes_roles(const Node* statement) noexcept {
    switch (nodeTag(statement)) {
        case T_CreateRoleStmt:
        case T_AlterRoleStmt:
        case T_DropRoleStmt:
        case T_GrantRoleStmt:
        case T_DropOwnedStmt:
        case T_ReassignOwnedStmt:
            return true;
        case T_AlterOwnerStmt:
            return reinterpret_cast<const AlterOwnerStmt*>(statement)->objectType == OBJECT_DATABASE;
        case T_RenameStmt:
            return reinterpret_cast<const RenameStmt*>(statement)->renameType == OBJECT_ROLE;
        default:
            return false;
    }
}

void process_utility(PlannedStmt* statement, const char* source, bool read_only_tree,
                     ProcessUtilityContext context, ParamListInfo params, QueryEnvironment* environment,
                     DestReceiver* destination, QueryCompletion* completion) {
    note_statement(true);
    // A part of a statement is judged with the whole.
    const bool changes = context != PROCESS_UTILITY_SUBCOMMAND && changes_definitions(statement->utilityStmt);
    if (changes) {
        everywhere = everywhere || changes_roles(statement->utilityStmt);
        note_untracked_write();
    }
    (previous_utility != nullptr ? previous_utility : standard_ProcessUtility)(
        statement, source, read_only_tree, context, params, environment, destination, completion);
    // Some commit on the way and go on in another transaction.
    if (changes && IsTransactionState()) note_untracked_write();
}

/// The same changes when code of a library makes them without a statement.
void access_object(ObjectAccessType access, Oid catalog, Oid object, int part, void* argument) {
    if (previous_access != nullptr) previous_access(access, catalog, object, part, argument);
    if (access != OAT_DROP && access != OAT_POST_ALTER) return;
    if (catalog != RelationRelationId && catalog != InheritsRelationId && catalog != ProcedureRelationId &&
        catalog != PolicyRelationId && catalog != RewriteRelationId) {
        return;
    }
    const bool internal =
        access == OAT_DROP
            ? argument != nullptr &&
                  (static_cast<ObjectAccessDrop*>(argument)->dropflags & PERFORM_DELETION_INTERNAL) != 0
            : argument != nullptr && static_cast<ObjectAccessPostAlter*>(argument)->is_internal;
    if (internal) return;
    if (catalog == RelationRelationId) {
        const char kind = get_rel_relkind(object);
        if (kind == RELKIND_INDEX || kind == RELKIND_PARTITIONED_INDEX || is_temporary(object)) return;
    } else if (catalog == RewriteRelationId && access == OAT_DROP) {
        return;  // goes with its view, or by a statement
    }
    note_untracked_write();
}

}  // namespace

RelationTag::RelationTag(Oid relation, Oid database) noexcept : database_(database) {
    bytes_ = static_cast<std::size_t>(std::to_chars(text_, text_ + sizeof text_, relation).ptr - text_);
}

core::TagName RelationTag::name() const noexcept {
    const std::string_view text{text_, bytes_};
    const core::Id128 space = relation_space(database_);
    return {space, text, region().store().tags().hash(space, text)};
}

Oid RelationTag::relation_of(std::string_view text) noexcept {
    Oid relation = InvalidOid;
    std::from_chars(text.data(), text.data() + text.size(), relation);
    return relation;
}

bool tracks_writes() noexcept { return preloaded; }

bool has_own_writes() noexcept {
    return preloaded && TransactionIdIsValid(GetTopTransactionIdIfAny()) && region() &&
           region().watches().any();
}

bool wrote_relation(Oid relation) {
    if (untracked) return true;
    return OidIsValid(relation) &&
           any_written_relation(
               [](void* wanted, Oid written) { return *static_cast<const Oid*>(wanted) == written; },
               &relation);
}

std::vector<Oid> own_writes() {
    std::vector<Oid> written;
    if (!has_own_writes()) return written;
    if (untracked) written.push_back(kAnyRelation);
    (void)any_written_relation(
        [](void* to, Oid relation) {
            static_cast<std::vector<Oid>*>(to)->push_back(relation);
            return false;
        },
        &written);
    std::sort(written.begin(), written.end());
    return written;
}

bool wrote_watched() {
    if (!has_own_writes()) return false;
    if (!pgstat_track_counts) untracked = true;
    return untracked ? everywhere || is_watched(nullptr, kAnyRelation)
                     : any_written_relation(is_watched, nullptr);
}

bool visit_watched_writes(void (*visit)(void* context, const core::TagName& tag), void* context) {
    struct Visitor {
        void (*visit)(void* context, const core::TagName& tag);
        void* context;
    } visitor{visit, context};
    const auto look = [](void* at, Oid relation) {
        const auto& to = *static_cast<const Visitor*>(at);
        if (is_watched(nullptr, relation)) to.visit(to.context, RelationTag(relation).name());
        return false;
    };
    if (!untracked) {
        (void)any_written_relation(look, &visitor);
    } else if (!everywhere) {
        look(&visitor, kAnyRelation);
    } else {
        return region().watches().visit_databases(
            [&](Oid database) { visit(context, RelationTag(kAnyRelation, database).name()); });
    }
    return true;
}

bool watch_relations(const Oid* relations, int count) {
    core::Watches& watches = region().watches();
    const auto watch = [&](Oid relation) {
        return watches.watch(watch_hash(relation),
                             [] { return U64FromFullTransactionId(ReadNextFullTransactionId()); });
    };
    watches.join(MyDatabaseId);
    const core::FullXid any = watch(kAnyRelation);
    core::FullXid newest = any;
    for (int i = 0; i < count; ++i)
        newest = std::max(newest, watch(relations[i]));
    if (newest == 0) return true;
    // Who changes roles may do so from another database, whose transactions count for no table of this one.
    if (any != 0 && oldest_unfinished(InvalidOid) < any) return false;
    if (oldest_unfinished(count > 0 ? relations[0] : InvalidOid) < newest) return false;
    watches.ripen(watch_hash(kAnyRelation));
    for (int i = 0; i < count; ++i)
        watches.ripen(watch_hash(relations[i]));
    return true;
}

void note_untracked_write() noexcept {
    untracked = true;
    stamp_if_ending();
}

void note_catalog_write(bool shared) noexcept {
    everywhere = everywhere || shared;
    note_untracked_write();
}

void note_statement(bool writes) noexcept {
    if (!pgstat_track_counts) [[unlikely]]
        untracked = true;
    // Other libraries' work before the commit: what it writes cannot be awaited.
    if (writes && is_ending()) [[unlikely]]
        note_untracked_write();
}

void forget_writes() noexcept { untracked = everywhere = false; }

void init_writes() {
    if (!process_shared_preload_libraries_in_progress) return;
    preloaded = true;
    previous_utility = ProcessUtility_hook;
    ProcessUtility_hook = process_utility;
    previous_access = object_access_hook;
    object_access_hook = access_object;
}

}  // namespace cache_ext::pg
