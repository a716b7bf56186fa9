#include "core/patterns.hpp"

#include <algorithm>
#include <cstring>

#include "core/glob.hpp"

namespace cache_ext::core {

void PatternRing::init(Version start) noexcept {
    newest_ = start;
    floor_ = start;
    next_ = 0;
    for (Slot& slot : ring_)
        slot.version = 0;
}

void PatternRing::add(Version version, const Id128& space, const Id128* scope,
                      std::string_view pattern) noexcept {
    Slot& slot = ring_[next_];
    next_ = (next_ + 1) % kRing;
    floor_ = std::max(floor_, slot.version);
    newest_ = std::max(newest_, version);
    if (pattern.size() > sizeof slot.text) {  // cannot be kept: as if it had been dropped already
        floor_ = std::max(floor_, version);
        slot.version = 0;
        return;
    }
    slot.version = version;
    slot.space = space;
    slot.any_scope = scope == nullptr;
    slot.scope = scope == nullptr ? Id128{} : *scope;
    slot.bytes = static_cast<std::uint16_t>(pattern.size());
    std::memcpy(slot.text, pattern.data(), pattern.size());
}

bool PatternRing::allows(Version birth, const Id128& space, const Id128& scope,
                         std::string_view key) const noexcept {
    if (birth >= newest_) return true;
    if (birth < floor_) return false;
    return std::none_of(std::begin(ring_), std::end(ring_), [&](const Slot& slot) {
        return slot.version > birth && slot.space == space && (slot.any_scope || slot.scope == scope) &&
               glob_match({slot.text, slot.bytes}, key);
    });
}

}  // namespace cache_ext::core
