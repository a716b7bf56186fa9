#include "pg/replication.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pg/settings.hpp"
#include "pg/snapshot.hpp"
#include "pg/stamp.hpp"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xloginsert.h"
#include "access/xlogreader.h"
#include "access/xlogutils.h"
#include "lib/stringinfo.h"
#include "storage/procarray.h"
}

namespace cache_ext::pg {

namespace {

/// The number of the resource manager in the log. Servers that exchange a log agree in it; another library that has taken it switches this feature off.
constexpr RmgrId kResourceManager = 187;

constexpr std::uint8_t kInvalidate = 0x00;
constexpr std::uint8_t kOn = 0x10;
constexpr std::uint8_t kOff = 0x20;
constexpr std::uint8_t kBegin = 0x30;

/// There while others may rely on the log: a server that starts, after a crash too, goes on logging until it has told them. In the data directory, so
/// that a copy of it does so too.
constexpr const char* kMarker = "cache_ext.logging";

/// How often the launcher looks whether *on* is to be repeated for those who start to replay at a later checkpoint, in milliseconds.
constexpr std::int64_t kLookMs = 5000;

// --- the records --------------------------------------------------------------------------------------
// In the machine's own byte order and packed, as the log itself is; whoever replays it is a server of the same kind.

struct RecordHead {
    core::FullXid xid;
    core::Id128 space;
    std::uint16_t items;
    bool preparing;
};

/// Followed by the scope, if it has one, and the text.
struct ItemHead {
    std::uint8_t kind;
    std::uint8_t has_scope;
    std::uint16_t text_bytes;
};

constexpr std::size_t kBufferBytes = 8192;
constexpr std::size_t kHeadBytes = 32;
static_assert(sizeof(RecordHead) <= kHeadBytes);

constinit char buffer[kBufferBytes] = {};

/// Numbers that stand in the log for good.
enum class Logged : std::uint8_t {
    kTag = 1,
    kKey = 2,
    kKeyEverywhere = 3,
    kPattern = 4,
    kPatternEverywhere = 5,
    kSpace = 6,
};

struct Kind {
    Logged logged;
    InvalidationKind kind;
    bool has_scope;
    const char* name;
};

/// What there is in the log. That an entry has expired is each server's own business.
constexpr Kind kKinds[] = {
    {Logged::kTag, InvalidationKind::kTag, false, "tag"},
    {Logged::kKey, InvalidationKind::kKey, true, "key"},
    {Logged::kKeyEverywhere, InvalidationKind::kKeyEverywhere, true, "key of all"},
    {Logged::kPattern, InvalidationKind::kPattern, true, "pattern"},
    {Logged::kPatternEverywhere, InvalidationKind::kPatternEverywhere, false, "pattern of all"},
    {Logged::kSpace, InvalidationKind::kSpace, false, "everything"},
};

const Kind* kind_of(std::uint8_t logged) noexcept {
    for (const Kind& kind : kKinds) {
        if (kind.logged == static_cast<Logged>(logged)) return &kind;
    }
    return nullptr;
}

/// Calls `visit(const Kind&, const Invalidation&)` for each item of a record. False: the record is none of this version.
template <class Visit>
bool read_items(const RecordHead& head, std::string_view bytes, Visit&& visit) {
    for (unsigned n = 0; n < head.items; ++n) {
        ItemHead item;
        if (bytes.size() < sizeof item) return false;
        std::memcpy(&item, bytes.data(), sizeof item);
        bytes.remove_prefix(sizeof item);
        const Kind* kind = kind_of(item.kind);
        const std::size_t scope_bytes = item.has_scope != 0 ? sizeof(core::Id128) : 0;
        if (kind == nullptr || bytes.size() < scope_bytes + item.text_bytes) return false;

        Invalidation invalidation{};
        invalidation.kind = kind->kind;
        invalidation.scope.space = head.space;
        if (scope_bytes != 0) std::memcpy(&invalidation.scope.id, bytes.data(), scope_bytes);
        invalidation.text = bytes.substr(scope_bytes, item.text_bytes);
        visit(*kind, invalidation);
        bytes.remove_prefix(scope_bytes + item.text_bytes);
    }
    return true;
}

struct Record {
    RecordHead head;
    std::string_view items;
};

bool read_record(XLogReaderState* reader, Record& record) noexcept {
    const std::string_view bytes{XLogRecGetData(reader), XLogRecGetDataLen(reader)};
    if (bytes.size() < kHeadBytes) return false;
    std::memcpy(&record.head, bytes.data(), sizeof record.head);
    record.items = bytes.substr(kHeadBytes);
    return true;
}

bool read_next_xid(XLogReaderState* reader, core::FullXid& next_xid) noexcept {
    if (XLogRecGetDataLen(reader) != sizeof next_xid) return false;
    std::memcpy(&next_xid, XLogRecGetData(reader), sizeof next_xid);
    return true;
}

// --- the marker ---------------------------------------------------------------------------------------
// By the system's own calls: whoever replays the log must not fail.

bool marker_exists() noexcept {
    struct stat found;
    return stat(kMarker, &found) == 0;
}

/// What the folder lists is on disk.
bool sync_folder() noexcept {
    const int folder = open(".", O_RDONLY);
    const bool synced = folder >= 0 && fsync(folder) == 0;
    if (folder >= 0) close(folder);
    return synced;
}

/// Whether there is one that outlives a crash.
bool make_marker() noexcept {
    if (marker_exists()) return true;
    const int file = open(kMarker, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    const bool made = file >= 0 && fsync(file) == 0 && sync_folder();
    const int error = errno;
    if (file >= 0) close(file);
    errno = error;
    if (!made) ereport(LOG, (errcode_for_file_access(), errmsg("could not create file \"%s\": %m", kMarker)));
    return made;
}

void remove_marker() noexcept {
    if (unlink(kMarker) != 0 ? errno != ENOENT : !sync_folder())
        ereport(LOG, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", kMarker)));
}

// --- replaying ----------------------------------------------------------------------------------------

core::FullXid next_xid() noexcept { return U64FromFullTransactionId(ReadNextFullTransactionId()); }

/// As if the region had just been made: what is in there is lost, and whatever may be under way is waited out, `also` among it.
void begin_again(core::FullXid also = 0) noexcept {
    region().bypass_before(std::max(next_xid(), also + 1));
    region().forget_everything();
    // Whoever reads or fills from now on takes all of these for finished by itself.
    for (std::uint32_t i = 0; i < region().header().replicated_count; ++i) {
        core::PendingMark& mark = region().replicated(i);
        if (const core::FullXid xid = mark.xid.load(std::memory_order_acquire); xid != 0)
            region().release_replicated(mark, xid);
    }
}

void replay_invalidations(const Record& record) noexcept {
    const core::FullXid xid = record.head.xid;
    core::PendingMark* mark = nullptr;
    core::Prepared* prepared = nullptr;
    if (record.head.preparing) prepared = region().claim_prepared(xid);
    if (prepared == nullptr) mark = region().claim_replicated(xid);
    if (prepared == nullptr && mark == nullptr) {
        // Those that are over make room; only where it is known who runs.
        if (standbyState == STANDBY_SNAPSHOT_READY) reap_orphans();
        mark = region().claim_replicated(xid);
    }
    core::PendingMark none{};
    Stamp stamp(mark != nullptr ? *mark : none, prepared, xid);
    const bool known =
        read_items(record.head, record.items,
                   [&](const Kind&, const Invalidation& invalidation) { stamp.invalidate(invalidation); });
    if (!known || (mark == nullptr && prepared == nullptr)) begin_again(xid);
}

void replay_on(core::FullXid first_logged) noexcept {
    core::Replica& replica = region().header().replica;
    // Who began to replay after the id was read has missed what was logged under later ones before.
    if (!replica.begun.load(std::memory_order_relaxed)) return;
    if (!replica.told.load(std::memory_order_relaxed)) {
        region().bypass_before(first_logged);
        region().forget_everything();
        replica.told.store(true, std::memory_order_release);
    }
}

void replay_off() noexcept {
    core::Replica& replica = region().header().replica;
    replica.told.store(false, std::memory_order_release);
    replica.begun.store(false, std::memory_order_relaxed);
    region().forget_everything();
}

/// Those that follow this server rely on the log, or no more; so does who follows it after a promotion, even if it is restarted before.
void pass_on(bool logging) noexcept {
    if (region()) region().header().replica.logging.store(logging, std::memory_order_relaxed);
    if (logging) {
        (void)make_marker();
    } else {
        remove_marker();
    }
}

void redo(XLogReaderState* reader) noexcept {
    const int info = XLogRecGetInfo(reader) & XLR_RMGR_INFO_MASK;
    if (info == kOn || info == kOff) pass_on(info == kOn);
    // Without sessions meanwhile nobody uses what is in there, and it is believed by nobody after that.
    if (!region() || standbyState == STANDBY_DISABLED) return;
    note_recovery();
    Record record;
    core::FullXid first_logged = 0;
    switch (info) {
        case kInvalidate:
            if (read_record(reader, record)) {
                replay_invalidations(record);
                return;
            }
            break;
        case kOn:
            if (read_next_xid(reader, first_logged)) {
                replay_on(first_logged);
                return;
            }
            break;
        case kBegin:
            region().header().replica.begun.store(true, std::memory_order_relaxed);
            return;
        case kOff:
            replay_off();
            return;
        default:
            break;
    }
    // Of another version of this library: what it says is not known, so nothing is.
    replay_off();
}

/// In quotes, and in ASCII: who looks at the log may be in a database of another encoding.
void append_quoted(StringInfo to, std::string_view text) {
    appendStringInfoChar(to, '"');
    for (const char c : text) {
        if (c >= ' ' && c <= '~' && c != '"' && c != '\\') {
            appendStringInfoChar(to, c);
        } else {
            appendStringInfo(to, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
        }
    }
    appendStringInfoChar(to, '"');
}

void describe(StringInfo text, XLogReaderState* reader) {
    Record record;
    core::FullXid first_logged = 0;
    const int info = XLogRecGetInfo(reader) & XLR_RMGR_INFO_MASK;
    if (info == kOn && read_next_xid(reader, first_logged)) {
        appendStringInfo(text, "from xid " UINT64_FORMAT " on", first_logged);
    } else if (info == kInvalidate && read_record(reader, record)) {
        appendStringInfo(text, "xid " UINT64_FORMAT "%s, space %016llx:", record.head.xid,
                         record.head.preparing ? ", to be prepared" : "",
                         static_cast<unsigned long long>(record.head.space.hi));
        const char* separator = " ";
        (void)read_items(record.head, record.items, [&](const Kind& kind, const Invalidation& invalidation) {
            appendStringInfo(text, "%s%s", separator, kind.name);
            separator = ", ";
            if (invalidation.text.empty()) return;
            appendStringInfoChar(text, ' ');
            append_quoted(text, invalidation.text);
        });
    }
}

const char* identify(std::uint8_t info) noexcept {
    switch (info & XLR_RMGR_INFO_MASK) {
        case kInvalidate:
            return "INVALIDATE";
        case kOn:
            return "ON";
        case kOff:
            return "OFF";
        case kBegin:
            return "BEGIN";
        default:
            return nullptr;
    }
}

// --- logging ------------------------------------------------------------------------------------------

constinit bool registered = false;

void insert(std::uint8_t info, const void* data, std::size_t bytes, bool important) {
    XLogBeginInsert();
    if (bytes > 0)
        XLogRegisterData(static_cast<char*>(const_cast<void*>(data)), static_cast<std::uint32_t>(bytes));
    // An idle server stays idle.
    if (!important) XLogSetRecordFlags(XLOG_MARK_UNIMPORTANT);
    const XLogRecPtr end = XLogInsert(kResourceManager, info);
    if (info != kInvalidate) XLogFlush(end);
}

}  // namespace

void InvalidationLog::add(const Invalidation& invalidation) {
    for (const Kind& kind : kKinds) {
        if (kind.kind == invalidation.kind)
            add(static_cast<std::uint8_t>(kind.logged), invalidation.scope, invalidation.text);
    }
}

void InvalidationLog::everything(const core::Id128& space) {
    core::Scope scope{};
    scope.space = space;
    add(static_cast<std::uint8_t>(Logged::kSpace), scope, {});
}

void InvalidationLog::add(std::uint8_t kind, const core::Scope& scope, std::string_view text) {
    const bool has_scope = kind_of(kind)->has_scope;
    const std::size_t bytes = sizeof(ItemHead) + (has_scope ? sizeof scope.id : 0) + text.size();
    if (items_ > 0 && (used_ + bytes > kBufferBytes || space_ != scope.space)) flush();
    if (items_ == 0) {
        used_ = kHeadBytes;
        space_ = scope.space;
    }
    const ItemHead head{kind, has_scope, static_cast<std::uint16_t>(text.size())};
    const auto put = [&](const void* from, std::size_t size) {
        std::memcpy(buffer + used_, from, size);
        used_ += size;
    };
    put(&head, sizeof head);
    if (has_scope) put(&scope.id, sizeof scope.id);
    put(text.data(), text.size());
    ++items_;
}

void InvalidationLog::flush() {
    if (items_ == 0) return;
    RecordHead head{};
    head.xid = xid_;
    head.space = space_;
    head.items = items_;
    head.preparing = preparing_;
    std::memset(buffer, 0, kHeadBytes);
    std::memcpy(buffer, &head, sizeof head);
    insert(kInvalidate, buffer, used_, true);
    items_ = 0;
}

bool logs_invalidations() noexcept {
    return registered && region().header().replica.logging.load(std::memory_order_relaxed) &&
           XLogStandbyInfoActive() && !RecoveryInProgress();
}

std::int64_t adjust_logging() {
    static XLogRecPtr said_at = InvalidXLogRecPtr;
    if (!registered || RecoveryInProgress()) return kLookMs;
    std::atomic<bool>& logging = region().header().replica.logging;
    const bool wanted = settings::wal_log_invalidations && XLogStandbyInfoActive();
    // Before anybody is told: a crash in between must not forget it.
    if ((wanted || logging.load(std::memory_order_relaxed)) && !make_marker()) return kLookMs;
    if (wanted) {
        // Repeated for whoever begins to replay at a checkpoint after the last time.
        if (said_at != InvalidXLogRecPtr && said_at >= GetRedoRecPtr()) return kLookMs;
        said_at = GetXLogInsertRecPtr();
        // In this order: whoever does not see the flag has its id already, and whoever logs under a later id does so after the first of the two records.
        logging.store(true, std::memory_order_seq_cst);
        insert(kBegin, nullptr, 0, false);
        const core::FullXid first_logged = next_xid();
        insert(kOn, &first_logged, sizeof first_logged, false);
        return kLookMs;
    }
    if (logging.load(std::memory_order_relaxed)) {
        // In this order: whoever does not see the flag comes after this in the log.
        insert(kOff, nullptr, 0, false);
        logging.store(false, std::memory_order_seq_cst);
    }
    if (marker_exists()) remove_marker();
    said_at = InvalidXLogRecPtr;
    return INT64_MAX;
}

bool detail::follows() noexcept {
    using Recovery = core::Replica::Recovery;
    core::Replica& replica = pg::region().header().replica;
    if (RecoveryInProgress())
        return settings::wal_log_invalidations && replica.told.load(std::memory_order_acquire);
    // It is over. What is in there is right only if it was told of everything up to the end; and a prepared transaction of which it was not told may end at any time.
    Recovery open = Recovery::kOpen;
    if (!replica.recovery.compare_exchange_strong(open, Recovery::kEnding)) return open == Recovery::kNone;
    if (!replica.told.load(std::memory_order_acquire)) begin_again();
    replica.told.store(false, std::memory_order_relaxed);
    replica.recovery.store(Recovery::kNone, std::memory_order_release);
    return true;
}

void note_recovery() noexcept {
    region().header().replica.recovery.store(core::Replica::Recovery::kOpen, std::memory_order_release);
}

void init_logging(const core::Region& made) noexcept {
    if (marker_exists() && (!made || !registered)) {
        ereport(LOG, (errmsg("cache_ext does not log what is invalidated"),
                      errdetail("Standbys have been told that it does: they serve what is stale."),
                      errhint("Turn cache_ext.wal_log_invalidations off on the standbys, or restart this "
                              "server with the library preloaded.")));
    }
    if (!made) return;
    made.header().replica.logging.store(settings::wal_log_invalidations || marker_exists(),
                                        std::memory_order_relaxed);
}

void init_replication() {
    if (!process_shared_preload_libraries_in_progress) return;
    // 15 wants it changeable.
    static RmgrData manager{};
    manager.rm_name = "cache_ext";
    manager.rm_redo = redo;
    manager.rm_desc = describe;
    manager.rm_identify = identify;
    if (RmgrIdExists(kResourceManager)) {
        ereport(WARNING, (errmsg("cache_ext cannot log invalidations"),
                          errdetail("Resource manager %d is that of another library.", kResourceManager)));
        return;
    }
    RegisterCustomRmgr(kResourceManager, &manager);
    registered = true;
}

}  // namespace cache_ext::pg
