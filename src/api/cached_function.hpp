#pragma once

// What a cached function is: a function in the language `cached`, whose body is a JSON object that names the function underneath and says how its results are
// kept. So a dump holds all of it, and whatever the server knows of functions (owners, privileges, defaults, DROP) holds for it too.

#include <cstdint>
#include <string_view>

#include "pg/prelude.hpp"

extern "C" {
#include "access/htup.h"
#include "storage/itemptr.h"
}

namespace cache_ext::api {

/// Tells one state of a catalog row from the next.
struct RowVersion {
    Oid oid;
    TransactionId xmin;
    ItemPointerData place;
    std::uint64_t content;  ///< its hash: places are used again, and so are transaction ids after a long time
};

/// What a cached function's body says and the catalogs know of it, read once a session and again when either function has changed.
///
/// Lifetime: in a memory context of its own, counted by its users; one that is out of date goes with the last of them.
struct Definition {
    MemoryContext memory;
    int users;
    bool is_current;  ///< neither function has changed since

    RowVersion function;      ///< the cached function
    RowVersion underneath;    ///< the function that it calls
    std::uint32_t hashes[2];  ///< of both, as the server tells of changes
    Oid owner;                ///< of the function underneath
    const char* key_name;     ///< schema and name of the cached function, as they begin its keys

    Oid result;  ///< as declared
    bool is_set;
    bool is_strict;
    bool is_shared;
    bool is_tracked;       ///< what it reads is found out: there are no tags
    bool avoids_parallel;  ///< what it read in other processes was not seen
    bool is_variadic;      ///< the last argument is an array of whatever is passed
    bool is_polymorphic;   ///< some type is known only where it is called
    int argument_count;    ///< of the function underneath
    Oid* argument_types;
    char** argument_names;  ///< null where there are none; empty ones are null
    int duration_argument;  ///< its number; -1: there is none
    const char** tags;      ///< templates
    int tag_count;
    std::int64_t duration;  ///< microseconds; 0 = the default
    std::int64_t grace;
    const char* search_path;  ///< under which a shared function is computed
    std::uint32_t
        environment;  ///< bits of the settings that the function underneath fixes, see pg/environment.hpp

    // What was found last, and is looked up again where something it depends on has changed.
    std::uint32_t permitted_generation;
    Oid permitted_role;  ///< may execute the function underneath
    std::uint64_t call_environment;
    std::uint64_t call_person[2];
    Oid call_role;
    std::uint64_t call_temporary;
    Oid call_session;
    char call_digest[33];  ///< names the function, in this state, as called by that role under those settings
};

/// The definition of a cached function, for a user who gives it back. ERROR where it is none, or what it says does not fit the function underneath.
Definition* acquire_definition(Oid function);
void release_definition(Definition* definition) noexcept;

/// Another number where a type may have changed.
std::uint32_t types_generation() noexcept;

/// The function that a cached function calls; InvalidOid: it is not there, or what was given is no cached function.
Oid underneath_of(Oid function);

/// The same, where the definition is checked in all that does not need a call. ERROR where it cannot be called.
Oid checked_underneath(Oid function);

/// Describes the arguments for tag templates over them: by name, or by number as `$1`. `types`: those that are passed.
struct ArgumentFinder {
    const Definition* definition;
    const Oid* types;

    static int find(void* finder, const char* name, Oid& type);
};

/// What a cached function is known by where it is counted.
std::uint64_t count_id(Oid function);

/// ERROR 42501 where the current user may not execute the function underneath. A comparison, most of the time.
void check_permission(Definition& definition);

/// Registers for invalidation. Called once, from _PG_init.
void init_cached_functions();

}  // namespace cache_ext::api
