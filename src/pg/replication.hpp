#pragma once

// Invalidations in the write-ahead log, for the servers that replay it: hot standbys, which have a region of their own and a clock of their own.
//
// While cache_ext.wal_log_invalidations is on, a transaction writes a record of what it invalidates when it is about to commit, so before its commit record. Whoever replays
// it registers it under the transaction's id in the own clock, which is before the transaction becomes visible there. Nothing more is needed for the
// ordinary rules to hold on both sides; no version is ever compared between two servers.
//
// A standby has to know whether it is told of everything. The launcher of the first server says so in the log: *on*, after it has made sure that every transaction with an id from
// the one it names logs what it invalidates; *off*, before the first that does not. Needs preloading, on all of them: a server that lacks the library cannot replay such a log.

#include "pg/attach.hpp"
#include "pg/pending.hpp"
#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// A transaction's records, written as they fill up. In a transaction with an id, before its end.
class InvalidationLog {
public:
    InvalidationLog(core::FullXid xid, bool preparing) noexcept : xid_(xid), preparing_(preparing) {}

    void add(const Invalidation& invalidation);
    void everything(const core::Id128& space);
    /// The last record.
    void flush();

private:
    void add(std::uint8_t kind, const core::Scope& scope, std::string_view text);

    core::FullXid xid_;
    bool preparing_;
    std::size_t used_ = 0;  // of the buffer, which all share
    std::uint16_t items_ = 0;
    core::Id128 space_;
};

/// Whether what is invalidated here has to be logged. To be asked by who already has a transaction id.
bool logs_invalidations() noexcept;

/// Logs *on* or *off* where the setting or the state of the log asks for it. How long until it has to be called again at the latest, in milliseconds. By the
/// launcher, which is one for the server.
std::int64_t adjust_logging();

namespace detail {
bool follows() noexcept;
}

/// Whether this server's region knows of all that its snapshots may see: on a standby only while it is told. Only after `attached()`. Asked for each read.
inline bool is_told() noexcept {
    const auto& replica = region().header().replica;
    return replica.recovery.load(std::memory_order_relaxed) == core::Replica::Recovery::kNone ||
           detail::follows();
}

/// Marks a region that is made or attached while the server recovers.
void note_recovery() noexcept;

/// What a new region has to know before anybody uses it; an empty one if there is none. Warns where others rely on a log that is not written.
void init_logging(const core::Region& region) noexcept;

/// Registers the resource manager where the library is being preloaded. Called once, from _PG_init.
void init_replication();

}  // namespace cache_ext::pg
