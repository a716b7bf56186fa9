#include "pg/attach.hpp"

#include "pg/compat.hpp"
#include "pg/flight.hpp"
#include "pg/guard.hpp"
#include "pg/reload.hpp"
#include "pg/replication.hpp"
#include "pg/settings.hpp"

extern "C" {
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xlog.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
}

namespace cache_ext::pg {

namespace detail {
constinit core::Region region;
constinit core::SessionSlot* session = nullptr;

/// A preloaded region is in every process, so that nobody needs to switch it off.
constinit const std::atomic<bool> never_disabled = false;
constinit const std::atomic<bool>* disabled = &never_disabled;
}  // namespace detail

namespace {

constexpr char kRegionName[] = "cache_ext region";
constexpr char kDirectoryName[] = "cache_ext directory";

/// How long a session waits after a failure before it tries again to make a region.
constexpr int kRetryMs = 60'000;

/// Finds the dynamic segment. Lives in main shared memory, so that no stale handle survives a restart. Guarded by AddinShmemInitLock.
struct Directory {
    dsm_handle handle;
    std::atomic<bool> disabled;
};

/// Finds or makes the directory, under AddinShmemInitLock, which the caller holds.
Directory* find_directory() {
    bool found = false;
    auto* directory = static_cast<Directory*>(ShmemInitStruct(kDirectoryName, sizeof(Directory), &found));
    if (!found) {
        directory->handle = DSM_HANDLE_INVALID;
        directory->disabled.store(false, std::memory_order_relaxed);
    }
    return directory;
}

constinit AttachedBy how = AttachedBy::kNothing;
constinit TimestampTz failed_at = 0;
constinit shmem_request_hook_type previous_request = nullptr;
constinit shmem_startup_hook_type previous_startup = nullptr;

/// `replicated`: how many transactions of a server whose log is replayed may be under way at once.
core::RegionOptions options_for(std::size_t bytes, int replicated = 0) {
    core::RegionOptions options;
    options.replicated = static_cast<std::uint32_t>(replicated);
    options.sessions = static_cast<std::uint32_t>(max_backend_slots());
    // One for each prepared transaction, and for each session that is about to prepare one: the server counts them only after that.
    options.prepared =
        max_prepared_xacts > 0 ? static_cast<std::uint32_t>(max_prepared_xacts + max_backend_slots()) : 0;
    options.bytes = std::max(bytes, core::Region::smallest(options));
    return options;
}

/// Random parts of a new region. False: the server has no randomness to give.
bool randomize(core::RegionOptions& options) {
    return pg_strong_random(&options.seed, sizeof options.seed) &&
           pg_strong_random(&options.instance, sizeof options.instance);
}

std::size_t configured_bytes() { return std::size_t{static_cast<unsigned>(settings::memory_kb)} * 1024; }

/// Of the region in main shared memory. A standby allows at least as many transactions as the server that it follows.
core::RegionOptions preload_options() {
    return options_for(configured_bytes(), max_backend_slots() + max_prepared_xacts);
}

void request() {
    if (previous_request) previous_request();
    RequestAddinShmemSpace(preload_options().bytes);
}

/// In the postmaster, or in each process where they do not inherit its memory.
void startup() {
    if (previous_startup) previous_startup();
    core::RegionOptions options = preload_options();
    bool found = false;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    void* memory = ShmemInitStruct(kRegionName, options.bytes, &found);
    if (found) {
        detail::region = core::Region::open(memory);
    } else if (randomize(options)) {
        // The next transaction id is not known before recovery: the first session to attach fills it in.
        detail::region = core::Region::create(memory, options);
    }
    LWLockRelease(AddinShmemInitLock);
    if (!found) init_logging(detail::region);
    if (detail::region) {
        how = AttachedBy::kPreload;
        if (!found) init_reload(detail::region);
    } else {
        ereport(LOG, (errmsg("cache_ext could not set up its shared memory; the cache is off")));
    }
}

/// Makes the dynamic segment, smaller if the machine does not give as much. Null: not even the smallest.
dsm_segment* make_segment(core::RegionOptions& options) {
    for (std::size_t bytes = options.bytes; bytes >= options_for(0).bytes; bytes /= 2) {
        // Not owned by the transaction: it would be given back with it.
        ResourceOwner owner = CurrentResourceOwner;
        CurrentResourceOwner = nullptr;
        dsm_segment* segment = nullptr;
        try {
            segment = pg_call([bytes] { return dsm_create(bytes, DSM_CREATE_NULL_IF_MAXSEGMENTS); });
        } catch (const std::exception& e) {
            ereport(LOG, (errmsg("cache_ext could not get %zu bytes of shared memory: %s", bytes, e.what())));
        }
        CurrentResourceOwner = owner;
        if (segment != nullptr) {
            options.bytes = bytes;
            return segment;
        }
    }
    return nullptr;
}

/// Finds or makes the segment, under AddinShmemInitLock, which the caller holds.
void attach_segment() {
    Directory* directory = find_directory();
    detail::disabled = &directory->disabled;
    if (directory->handle != DSM_HANDLE_INVALID) {
        ResourceOwner owner = CurrentResourceOwner;
        CurrentResourceOwner = nullptr;
        dsm_segment* segment = dsm_attach(directory->handle);
        CurrentResourceOwner = owner;
        if (segment != nullptr) detail::region = core::Region::open(dsm_segment_address(segment));
        return;
    }

    core::RegionOptions options = options_for(configured_bytes());
    if (!randomize(options)) return;
    dsm_segment* segment = make_segment(options);
    if (segment == nullptr) return;
    options.next_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
    detail::region = core::Region::create(dsm_segment_address(segment), options);
    if (!detail::region) {
        dsm_detach(segment);
        return;
    }
    init_logging(detail::region);
    dsm_pin_segment(segment);
    directory->handle = dsm_segment_handle(segment);
}

/// Before a dynamic segment is unmapped. A transaction that is still under way can only be aborted now: nothing of it will become visible.
void forget_session(int /*code*/, Datum /*argument*/) noexcept {
    if (detail::session == nullptr) return;
    detail::region.store().flush_hits(detail::region.base(), *detail::session, GetCurrentTimestamp());
    detail::session->mark.version.store(0, std::memory_order_release);
    end_flights();
    detail::session = nullptr;
}

}  // namespace

AttachedBy attached_by() noexcept { return how; }

void disable_unreachable_region() noexcept {
    if (how == AttachedBy::kPreload || proc_exit_inprogress) return;
    try {
        pg_call([] {
            LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
            Directory* directory = find_directory();
            if (directory->handle != DSM_HANDLE_INVALID && !directory->disabled.exchange(true)) {
                ereport(LOG,
                        (errmsg("cache_ext is off until the next restart"),
                         errdetail("A session that has to invalidate could not attach its shared memory.")));
            }
            LWLockRelease(AddinShmemInitLock);
        });
    } catch (...) {
        // The directory was made by whoever made the region: it is found without memory.
    }
}

bool detail::attach() noexcept {
    const int index = backend_index();
    if (index < 0 || index >= max_backend_slots() || proc_exit_inprogress) return false;
    if (!region) {
        if (how == AttachedBy::kPreload) return false;
        if (failed_at != 0 && !TimestampDifferenceExceeds(failed_at, GetCurrentTimestamp(), kRetryMs))
            return false;
        try {
            pg_call([] { LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE); });
            try {
                pg_call(attach_segment);
            } catch (const std::exception& e) {
                ereport(LOG, (errmsg("cache_ext could not attach its shared memory: %s", e.what())));
            }
            LWLockRelease(AddinShmemInitLock);
        } catch (...) {
            return false;
        }
        if (!region) {
            failed_at = GetCurrentTimestamp();
            return false;
        }
        how = AttachedBy::kDemand;
    }
    core::RegionHeader& header = region.header();
    if (static_cast<std::uint32_t>(index) >= header.session_count) return false;
    if (header.next_xid.load(std::memory_order_relaxed) == 0) {
        // Whoever is first; later is only more cautious.
        core::FullXid unset = 0;
        header.next_xid.compare_exchange_strong(unset, U64FromFullTransactionId(ReadNextFullTransactionId()));
    }
    if (RecoveryInProgress()) note_recovery();
    session = &region.session(static_cast<std::uint32_t>(index));
    before_shmem_exit(forget_session, Datum{0});
    return true;
}

void init_attach() {
    if (!process_shared_preload_libraries_in_progress) return;
    previous_request = shmem_request_hook;
    shmem_request_hook = request;
    previous_startup = shmem_startup_hook;
    shmem_startup_hook = startup;
}

}  // namespace cache_ext::pg
