#pragma once

#include <cstdint>

#include "core/region.hpp"

namespace cache_ext::core {

/// What a sweep met.
struct Swept {
    std::uint32_t expired = 0;  ///< removed: their time was over
    std::uint32_t dead =
        0;  ///< removed: what they were computed from had changed, so that nobody would have got them
    std::uint64_t remaining = 0;  ///< of those concerned, alive

    std::uint32_t removed() const noexcept { return expired + dead; }
};

/// Removes the expired and dead entries of one bucket for which `concerns(const EntryInfo&)` holds. A bucket at a time, so that sessions wait
/// for no more than that; the caller looks after its interrupts in between.
template <class Concerns>
void sweep_bucket(const Region& region, std::uint32_t bucket, Timestamp now, Swept& swept,
                  Concerns&& concerns) noexcept {
    Store& store = region.store();
    bool any = false;
    store.visit(region.base(), bucket, [&](const EntryInfo& e) {
        if (!concerns(e)) return;
        if (e.dead || e.gone_at() <= now) {
            any = true;
        } else {
            ++swept.remaining;
        }
    });
    if (!any) return;
    store.remove_if(region.base(), bucket, [&](const EntryInfo& e) {
        if (!(e.dead || e.gone_at() <= now) || !concerns(e)) return false;
        ++(e.dead ? swept.dead : swept.expired);
        return true;
    });
}

}  // namespace cache_ext::core
