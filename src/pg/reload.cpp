#include "pg/reload.hpp"

#include <cerrno>
#include <vector>

#include "core/archive.hpp"
#include "pg/attach.hpp"
#include "pg/prelude.hpp"
#include "pg/transaction.hpp"

extern "C" {
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"
}

namespace cache_ext::pg {

namespace {

// Where the server keeps what extensions want to keep over a restart; relative to the data directory, where the postmaster lives.
constexpr char kFile[] = "pg_stat/cache_ext.reload";
constexpr char kTemporaryFile[] = "pg_stat/cache_ext.reload.tmp";
constexpr char kPreparedFolder[] = "pg_twophase";

constexpr std::size_t kBuffer = 1 << 20;

/// An open file with a buffer before it; closed with the object.
class File {
public:
    File(const char* path, int flags) {
        buffer_.reserve(kBuffer);
        fd_ = open(path, flags | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (fd_ >= 0) close(fd_);
    }
    int fd() const noexcept { return fd_; }

    static bool sink(void* self, const void* bytes, std::size_t size) noexcept {
        auto& f = *static_cast<File*>(self);
        if (f.buffer_.size() + size > kBuffer && !f.flush()) return false;
        const auto* from = static_cast<const std::byte*>(bytes);
        if (size > kBuffer) return f.write_all(from, size);
        f.buffer_.insert(f.buffer_.end(), from, from + size);  // within what was reserved
        return true;
    }

    bool flush() noexcept {
        const bool good = write_all(buffer_.data(), buffer_.size());
        buffer_.clear();
        return good;
    }

    static std::size_t source(void* self, void* to, std::size_t size) noexcept {
        auto& f = *static_cast<File*>(self);
        std::size_t done = 0;
        while (done < size) {
            if (f.at_ == f.buffer_.size()) {
                f.at_ = 0;
                f.buffer_.resize(kBuffer);  // within what was reserved
                ssize_t got = 0;
                do {
                    got = read(f.fd_, f.buffer_.data(), kBuffer);
                } while (got < 0 && errno == EINTR);
                f.buffer_.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
                if (got <= 0) break;
            }
            const std::size_t bytes = std::min(size - done, f.buffer_.size() - f.at_);
            std::memcpy(static_cast<std::byte*>(to) + done, f.buffer_.data() + f.at_, bytes);
            f.at_ += bytes;
            done += bytes;
        }
        return done;
    }

private:
    bool write_all(const std::byte* from, std::size_t size) noexcept {
        while (size > 0) {
            errno = 0;
            const ssize_t written = write(fd_, from, size);
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) {
                if (errno == 0) errno = ENOSPC;
                return false;
            }
            from += written;
            size -= static_cast<std::size_t>(written);
        }
        return true;
    }

    int fd_ = -1;
    std::vector<std::byte> buffer_;
    std::size_t at_ = 0;
};

/// The state of the data and of the control file that says so. False: the server was not shut down cleanly, or is no primary.
bool read_origin(core::ArchiveOrigin& origin) {
    bool intact = false;
    ControlFileData* control = get_controlfile(DataDir, &intact);
    struct stat control_file;
    struct stat folder;
    const bool clean = intact && control->state == DB_SHUTDOWNED &&
                       stat(XLOG_CONTROL_FILE, &control_file) == 0 && stat(DataDir, &folder) == 0;
    if (clean) {
        origin.words = {control->system_identifier, control->checkPoint,
                        control->checkPointCopy.ThisTimeLineID,
                        U64FromFullTransactionId(control->checkPointCopy.nextXid),
                        static_cast<std::uint64_t>(control->checkPointCopy.time), control->catalog_version_no,
                        // No device number: it may change when the machine is started again.
                        static_cast<std::uint64_t>(control_file.st_ino),
                        static_cast<std::uint64_t>(control_file.st_ctim.tv_sec),
                        static_cast<std::uint64_t>(control_file.st_ctim.tv_nsec),
                        static_cast<std::uint64_t>(folder.st_ino)};
    }
    pfree(control);
    return clean;
}

/// Whether the server is about to recover, whatever its control file says.
bool will_recover() noexcept {
    for (const char* file : {RECOVERY_SIGNAL_FILE, STANDBY_SIGNAL_FILE, BACKUP_LABEL_FILE}) {
        struct stat unused;
        if (lstat(file, &unused) == 0 || errno != ENOENT) return true;
    }
    return false;
}

/// Whether a prepared transaction outlives the server. It may still commit, and what it invalidates is marked in memory only. All of them are in files by
/// the time of the shutdown's checkpoint. Those that have invalidated nothing count too: while they last the cache is off anyway, since their xids
/// are older than the next region.
bool any_prepared() noexcept {
    DIR* folder = opendir(kPreparedFolder);
    if (folder == nullptr) return true;
    bool any = false;
    while (const dirent* file = readdir(folder))
        any = any || file->d_name[0] != '.';
    closedir(folder);
    return any;
}

bool write_file(const core::Region& region, const core::ArchiveOrigin& origin) {
    unlink(kTemporaryFile);
    File file(kTemporaryFile, O_WRONLY | O_CREAT | O_EXCL);
    if (file.fd() < 0) return false;
    core::ArchiveWriter writer(File::sink, &file);
    if (!writer.begin(origin) || !core::save(region, writer, GetCurrentTimestamp()) || !writer.end() ||
        !file.flush())
        return false;
    return pg_fsync(file.fd()) == 0 && durable_rename(kTemporaryFile, kFile, LOG) == 0;
}

/// When the postmaster ends. Its exit code says nothing: an immediate shutdown's is 0 too.
void save_region(int /*code*/, Datum /*argument*/) noexcept {
    if (IsUnderPostmaster || !detail::region) return;
    try {
        const core::Region& region = detail::region;
        core::ArchiveOrigin origin;
        if (!read_origin(origin) || any_prepared() || region.store().torn() ||
            region.store().usage().entries == 0)
            return;
        if (!write_file(region, origin)) {
            ereport(LOG, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", kFile),
                          errdetail("The cache will start empty.")));
            unlink(kTemporaryFile);
        }
    } catch (const std::bad_alloc&) {
        unlink(kTemporaryFile);
        ereport(LOG,
                (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory while writing file \"%s\"", kFile)));
    }
}

bool readable(core::Encoding encoding) noexcept {
#ifdef USE_LZ4
    return core::compression_of(encoding) <= core::Encoding::kLz4;
#else
    return core::compression_of(encoding) <= core::Encoding::kPglz;
#endif
}

/// Fills the region from an open file that has been removed. Null: done; otherwise why not.
const char* read_file(const core::Region& region, File& file, core::Restored& restored) {
    struct stat status;
    if (fstat(file.fd(), &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
        (status.st_mode & 077) != 0) {
        return "It is not a private file of the server's own.";
    }
    if (will_recover()) return "The server is about to recover.";
    core::ArchiveOrigin now;
    core::ArchiveOrigin then;
    if (!read_origin(now)) return "The server was not shut down cleanly.";
    core::ArchiveReader reader(
        File::source, &file,
        std::min<std::size_t>(static_cast<std::size_t>(status.st_size), region.header().bytes));
    if (!reader.begin(then)) return "It is damaged or of another version.";
    if (!(then == now)) return "It belongs to another state of the data, or the data directory is a copy.";
    restored = core::restore(region, reader, quota(), readable, GetCurrentTimestamp());
    return restored.complete ? nullptr : "It is damaged.";
}

void load_region(const core::Region& region) {
    unlink(kTemporaryFile);
    File file(kFile, O_RDONLY | O_NONBLOCK);
    const int error = errno;
    if (unlink(kFile) != 0) {
        if (errno != ENOENT)
            ereport(LOG, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", kFile)));
        return;
    }
    core::Restored restored;
    const char* reason = nullptr;
    if (file.fd() >= 0) {
        reason = read_file(region, file, restored);
    } else {
        errno = error;
        reason = "It cannot be opened.";
    }
    if (reason == nullptr) {
        ereport(LOG, (errmsg("cache_ext starts with %llu entries from before the restart",
                             static_cast<unsigned long long>(restored.entries))));
    } else {
        ereport(LOG, (errmsg("cache_ext starts empty: file \"%s\" was not used", kFile),
                      errdetail_internal("%s", reason)));
    }
}

}  // namespace

void init_reload(const core::Region& region) {
    // A postmaster has children; a server in single-user mode has none, and changes the checkpoint.
    if (IsUnderPostmaster || !IsPostmasterEnvironment) return;

    // Not when it is made again after a crash.
    static constinit bool first = true;
    if (first) {
        first = false;
        try {
            load_region(region);
        } catch (const std::bad_alloc&) {
            core::clear(region);
            ereport(LOG, (errcode(ERRCODE_OUT_OF_MEMORY),
                          errmsg("out of memory while reading file \"%s\"", kFile)));
        }
    }
    on_shmem_exit(save_region, Datum{0});
}

}  // namespace cache_ext::pg
