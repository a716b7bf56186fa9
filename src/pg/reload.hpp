#pragma once

// The reload file, which brings the entries back after a clean restart. Only with preloading: a dynamic segment is gone before anyone could
// know that the last session has ended.
//
// It is written by the postmaster when all other processes are gone and the control file says that the shutdown was clean, and read by the next
// postmaster as it makes the region: before any session can set or invalidate anything. That costs start-up time (a second or so for a gigabyte), but
// later it would be wrong: an old value could come in after a newer one under its key had been set and evicted.
//
// It is believed only if nothing can have happened to the data in between. So it names the state of the data (system identifier,
// timeline, shutdown checkpoint), which a server that needs no recovery starts from; and the control file itself (its place on the
// disk and the moment when it was last changed, which no copy has), so that a copied or restored data directory starts empty although it shows the
// same state. A snapshot of the whole file system cannot be told from the original; nor is there a need to, since the data are the same.
// It is removed before it is read.

#include "core/region.hpp"

namespace cache_ext::pg {

/// In the postmaster, when it has made the region: fills it from the file, where that can be believed, and sees to it that the file is written at the
/// end. Elsewhere, and when the region is made again after a crash, it only does the latter or nothing.
void init_reload(const core::Region& region);

}  // namespace cache_ext::pg
