#pragma once

// The region in this process: requested at start-up where the library is preloaded, otherwise a dynamic segment that the first session
// makes and later ones find through a small directory in main shared memory.

#include "core/region.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// How the region came to be in this process.
enum class AttachedBy : std::uint8_t { kNothing, kPreload, kDemand };

namespace detail {
extern core::Region region;
extern core::SessionSlot* session;
extern const std::atomic<bool>* disabled;
bool attach() noexcept;
}  // namespace detail

/// Attaches the region if this process has not done so. False: there is none and none can be made now, so the cache is
/// off for this call. Neither raises nor throws.
inline bool attached() noexcept {
    return (detail::session != nullptr || detail::attach()) &&
           !detail::disabled->load(std::memory_order_relaxed);
}

/// For a session that has to invalidate but cannot reach a region that others use: switches the cache off for all, until the server restarts.
void disable_unreachable_region() noexcept;

/// The region and this session's slot in it. Only after `attached()`.
inline const core::Region& region() noexcept { return detail::region; }
inline core::SessionSlot& session() noexcept { return *detail::session; }

AttachedBy attached_by() noexcept;

/// Installs the shared memory hooks where the library is being preloaded. Called once, from _PG_init.
void init_attach();

}  // namespace cache_ext::pg
