#pragma once

// The end of the log.

#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// Flushes the log up to its end, so that what this process has seen, or seen to be committed, outlives a crash. May raise.
void flush_wal();

}  // namespace cache_ext::pg
