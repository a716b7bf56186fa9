#pragma once

// What a session's temporary tables do to names: they come before all others, so that the same function may read other tables here than elsewhere.

#include <cstdint>

namespace cache_ext::pg {

/// Numbers the temporary relations that names may stand for in this session: as long as it stays the same, so do they. 0: there are none. A few nanoseconds.
[[nodiscard]] std::uint64_t temporary_number() noexcept;

/// Installs the hook. Called once, from _PG_init.
void init_temporary();

}  // namespace cache_ext::pg
