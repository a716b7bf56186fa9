#pragma once

// Who calls, and so which scope an entry belongs to: what counts is the outer role (after SET ROLE, before any
// SECURITY DEFINER switch), the claims in request.jwt.claims and the settings that cache_ext.scope_settings names.

#include <cstdint>

#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// The caller as the cache sees it. Ids are 128 bits of SHA-256 in which the space (space.hpp) takes part, so they
/// differ between databases and incarnations of the extension.
struct Caller {
    std::uint64_t scope[2];         ///< where the caller writes and reads first; the shared one if is_shared
    std::uint64_t shared_scope[2];  ///< where the caller reads next
    std::uint64_t quota_owner[2];   ///< of (role, sub): what private memory is counted by
    Oid role;                       ///< the outer role
    bool is_shared;  ///< a shared caller: owner of the extension, superuser, BYPASSRLS or shared writer
    bool bypass;     ///< uses no cache: the claims are no JSON object, or there is no extension
};

/// The caller, now. A comparison of role, claims and settings with those of the last call; when they changed, or
/// roles or the extension did, a look-up that needs a transaction and may raise ERROR or throw std::bad_alloc: call it
/// with trivial locals only, or through pg_call. The reference stays valid, its content changes with the
/// caller: keep a copy of what must outlive the next call.
[[nodiscard]] const Caller& caller();

/// Copies 128 bits that tell the outer role with its claims and settings from every other, for shared callers too, who are told apart by nothing else; of a
/// caller who is not shared they are the scope. Cost and errors as caller().
void personal_id(std::uint64_t (&id)[2]);

/// Whether the effective role (inside a SECURITY DEFINER function: its owner) is one that may fill shared
/// prefixes; the same test that makes an outer role a shared caller. Cost and errors as caller().
[[nodiscard]] bool effective_is_shared_writer();

namespace detail {
extern std::uint32_t identity_generation;
}

/// Makes the next caller() look everything up again. For whoever notices that something it depends on changed.
inline void forget_caller() noexcept { ++detail::identity_generation; }

/// Registers for invalidation. Called once, from _PG_init.
void init_identity();

}  // namespace cache_ext::pg
