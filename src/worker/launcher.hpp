#pragma once

// The launcher: one process that is in no database, and so in nobody's way. It looks through the entries when a sweep is due and starts workers
// for the databases where there is something to remove. It stays, since nothing else of the server's could wake it when the time has
// come: sessions may be idle, or only read. It takes one of max_worker_processes, the workers at most two more, for a moment.

namespace cache_ext::worker {

/// Has the postmaster start it, and start it again should it end. Called once, where the library is being preloaded.
void register_launcher();

}  // namespace cache_ext::worker
