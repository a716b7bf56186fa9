#include "pg/transaction.hpp"

#include <array>

#include "pg/attach.hpp"
#include "pg/outbox.hpp"
#include "pg/replication.hpp"
#include "pg/settings.hpp"
#include "pg/snapshot.hpp"
#include "pg/stamp.hpp"
#include "pg/testing.hpp"
#include "pg/writes.hpp"

extern "C" {
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

namespace cache_ext::pg {

namespace {

/// The state of this backend's transaction.
struct State {
    Pending pending;
    Leases leases;
    std::size_t stamped = 0;  // how many of the pending invalidations have their version
    bool stamped_everything = false;
    bool told_everything = false;  // to the outbox; of the pending invalidations those that are stamped
    bool has_told = false;         // there is something to send to Redis: of these, or a value
    bool ending = false;           // pre-commit work is done: what is added now is stamped at once
    bool preparing = false;        // and the end is PREPARE TRANSACTION
    core::Version first_stamp = 0;
    core::Version last_stamp = 0;
    core::FullXid xid = 0;               // under which it was stamped
    core::Prepared* prepared = nullptr;  // what outlives the session
    core::FullXid prepared_xid = 0;
    TimestampTz hits_flushed_at = 0;
};

constinit State the_state;

State& state() noexcept { return the_state; }

/// What is to outlive the session of a transaction that is about to be prepared.
void claim_prepared(State& s, core::FullXid xid) {
    s.prepared = region().claim_prepared(xid);
    if (s.prepared == nullptr) {
        reap_orphans();
        s.prepared = region().claim_prepared(xid);
    }
    s.prepared_xid = xid;
    // There is one for each that the server lets be prepared, but one may just be on its way back. Then nobody reads or fills under a snapshot for which
    // this transaction may be unfinished.
    if (s.prepared == nullptr) region().bypass_before(U64FromFullTransactionId(ReadNextFullTransactionId()));
}

/// Tells other servers what is about to be stamped.
void log(const State& s, core::FullXid xid, bool everything) {
    InvalidationLog records(xid, s.preparing);
    const auto& invalidations = s.pending.invalidations();
    for (std::size_t i = s.stamped; i < invalidations.size(); ++i)
        records.add(invalidations[i]);
    if (everything) records.everything(s.pending.everything_space());
    records.flush();
}

/// Keeps what is about to be stamped for Redis.
void tell_redis(State& s) {
    const bool everything = s.pending.everything() && !s.told_everything;
    if (s.stamped == s.pending.invalidations().size() && !everything) return;
    if (write_outbox(s.pending, s.stamped, everything)) s.has_told = true;
    if (everything) s.told_everything = true;
}

/// Gives everything pending that has none yet a version. Before the transaction can become visible.
void stamp(State& s) {
    const auto& invalidations = s.pending.invalidations();
    const bool everything = s.pending.everything() && !s.stamped_everything;
    const bool writes = wrote_watched();
    if (s.stamped == invalidations.size() && !everything && !writes) return;
    tell_redis(s);
    if (!attached()) {
        // Nobody could be told, so nobody may believe what is in there.
        disable_unreachable_region();
        return;
    }
    if (region().clock().floor_lag() > kFloorLag && !testing::breaks(testing::Break::kStampLate))
        raise_clock_floor();

    // On a standby there is no transaction id to be had, and none is needed: what is invalidated there is local.
    const core::FullXid xid = RecoveryInProgress() ? 0 : U64FromFullTransactionId(GetTopFullTransactionId());
    if (s.preparing && s.prepared == nullptr) claim_prepared(s, xid);

    if (logs_invalidations()) log(s, xid, everything);
    Stamp stamp(session().mark, s.prepared, xid);
    for (; s.stamped < invalidations.size(); ++s.stamped) {
        stamp.invalidate(invalidations[s.stamped]);
        session().counters.add(core::Counter::kInvalidations);
    }
    if (everything) {
        stamp.everything(s.pending.everything_space());
        s.stamped_everything = true;
    }
    if (writes) {
        const bool known = visit_watched_writes(
            [](void* to, const core::TagName& tag) { static_cast<Stamp*>(to)->write(tag); }, &stamp);
        if (!known) stamp.everything_everywhere();
        session().counters.add(core::Counter::kInvalidations);
    }
    if (stamp.taken() != 0) {
        if (s.first_stamp == 0) s.first_stamp = stamp.taken();
        s.last_stamp = stamp.taken();
        s.xid = xid;
    }
    forget_snapshots();
}

/// Room for as many as an entry has tags, left as it is until it is used: most entries have few.
template <class T>
class Room {
public:
    T* at(std::size_t i) noexcept { return reinterpret_cast<T*>(bytes_) + i; }

private:
    static_assert(std::is_trivially_destructible_v<T>);
    alignas(T) std::byte bytes_[core::kMaxTags * sizeof(T)];
};

/// Puts a value into the region. What does not fit is dropped.
bool put(const PendingSet& set, core::Version birth, core::Timestamp now) noexcept {
    core::Store& store = region().store();
    core::NewEntry entry;
    Room<core::TagName> tags;
    Room<RelationTag> relations;
    std::size_t count = 0;
    for (const std::string_view tag : set.tags) {
        new (tags.at(count++)) core::TagName{set.scope.space, tag, store.tags().hash(set.scope.space, tag)};
    }
    for (std::size_t i = 0; i < set.relations.size(); ++i) {
        new (tags.at(count++)) core::TagName(std::construct_at(relations.at(i), set.relations[i])->name());
    }
    entry.scope = &set.scope;
    entry.key = {set.scope.id, set.key, store.key_hash(set.scope.id, set.key)};
    entry.tags = {tags.at(0), count};
    entry.birth = birth;
    entry.value = set.value;
    entry.encoding = set.encoding;
    entry.created_at = set.created_at;
    entry.expires_at = set.expires_at;
    entry.compute_us = set.compute_us;
    entry.grace_ms = set.grace_ms;
    entry.only_if_absent = set.only_if_absent;
    entry.now = now;
    const core::Put result = store.put(region().base(), session(), entry, quota());
    session().counters.add(result == core::Put::kStored ? core::Counter::kSets : core::Counter::kRefusedSets);
    return result == core::Put::kStored;
}

/// Likewise, and has it copied to Redis where that is asked for; `told`: somebody is to be woken for it then.
bool put_through(const PendingSet& set, core::Version birth, core::Timestamp now, bool& told) noexcept {
    if (!put(set, birth, now)) return false;
    if (set.write_through) {
        region().offers().add(MyDatabaseId, set.key);
        told = true;
    }
    return true;
}

/// Puts one pending set into the region, after the commit. Cannot fail.
void publish(State& s, const PendingSet& set, core::Timestamp now) noexcept {
    if (s.pending.invalidated_at(set.scope, set.key, set.tags) > set.sequence) return;
    core::Version birth = set.birth;
    if (set.through_newest != 0) {
        // It reflects what this transaction invalidated, so it may be born with that very version; but then nobody else may have taken
        // one in between, whose effect it would have to reflect too.
        if (s.first_stamp != set.through_newest + 1 || s.last_stamp != s.first_stamp) return;
        birth = s.last_stamp;
    }
    if (core::after(set.expires_at, set.grace_ms) > now) put_through(set, birth, now, s.has_told);
}

bool wrote(const State& s) noexcept {
    return s.pending.has_invalidations() || TransactionIdIsValid(GetTopTransactionIdIfAny());
}

void finish(State& s, bool committed) noexcept {
    if (detail::session != nullptr) {
        core::SessionSlot& own = session();
        // Only now, after the transaction is visible or gone.
        own.mark.version.store(0, std::memory_order_release);
        // One that was prepared has not ended.
        if (s.first_stamp != 0 && !s.preparing) region().clock().end(s.first_stamp, s.last_stamp, s.xid);
        if (own.hits.used()) {
            const TimestampTz now = GetCurrentStatementStartTimestamp();
            if (now - s.hits_flushed_at >= USECS_PER_SEC || now < s.hits_flushed_at) {
                region().store().flush_hits(region().base(), own, now);
                s.hits_flushed_at = now;
            }
        }
    }
    s.leases.end_transaction(committed, wrote(s));
    s.pending.clear();
    s.stamped = 0;
    s.stamped_everything = s.told_everything = false;
    s.has_told = false;
    s.ending = s.preparing = false;
    forget_writes();
    end_outbox();
    s.first_stamp = 0;
    s.last_stamp = 0;
    s.prepared = nullptr;
    end_snapshots();
}

void release_own_prepared(State& s) noexcept {
    if (s.prepared == nullptr) return;
    region().release_prepared(*s.prepared, s.prepared_xid);
}

void on_transaction(XactEvent event, void* /*argument*/) {
    State& s = state();
    switch (event) {
        case XACT_EVENT_PRE_COMMIT:
        case XACT_EVENT_PRE_PREPARE:
            if (testing::breaks(testing::Break::kStampLate)) break;
            s.preparing = event == XACT_EVENT_PRE_PREPARE;
            stamp(s);
            s.ending = true;
            if (s.first_stamp != 0 || s.pending.has_sets()) testing::reach(testing::Stop::kCommitting);
            break;
        case XACT_EVENT_COMMIT:
            if (testing::breaks(testing::Break::kStampLate) &&
                TransactionIdIsValid(GetTopTransactionIdIfAny())) {
                testing::pause();
                stamp(s);
            }
            if (s.pending.has_sets() && attached()) {
                const core::Timestamp now = GetCurrentTimestamp();
                s.pending.for_each_set([&](const PendingSet& set) { publish(s, set, now); });
            }
            if (s.has_told) wake_pusher();
            finish(s, true);
            break;
        case XACT_EVENT_PREPARE:
            // Its quarantines stay until somebody finds that it is over. What it set is dropped: nobody will tell when it may be shown.
            finish(s, true);
            break;
        case XACT_EVENT_ABORT:
            release_own_prepared(s);
            finish(s, false);
            break;
        default:  // parallel workers have nothing pending
            break;
    }
}

void on_subtransaction(SubXactEvent event, SubTransactionId /*id*/, SubTransactionId /*parent*/,
                       void* /*argument*/) {
    State& s = state();
    const int level = transaction_level();
    if (event == SUBXACT_EVENT_ABORT_SUB) {
        s.leases.roll_back(level, wrote(s));
        s.pending.roll_back(level);
        s.stamped = std::min(s.stamped, s.pending.invalidations().size());
    } else if (event == SUBXACT_EVENT_COMMIT_SUB) {
        s.leases.release(level);
        s.pending.release(level);
    }
}

}  // namespace

Pending& pending() noexcept { return state().pending; }

Leases& leases() noexcept { return state().leases; }

int transaction_level() noexcept { return GetCurrentTransactionNestLevel(); }

bool has_written() noexcept { return wrote(state()); }

void invalidate(InvalidationKind kind, const core::Scope& scope, std::string_view text) noexcept {
    State& s = state();
    s.pending.invalidate(kind, scope, text, transaction_level());
    // Another extension's own work before the commit.
    if (s.ending) stamp(s);
}

bool publish_now(const PendingSet& set) noexcept {
    bool told = false;
    const bool stored = put_through(set, set.birth, GetCurrentTimestamp(), told);
    if (told) wake_pusher();
    return stored;
}

bool is_ending() noexcept { return state().ending; }

void stamp_if_ending() noexcept {
    if (state().ending) stamp(state());
}

core::Quota quota() noexcept {
    const std::uint64_t bytes = region().header().bytes / 100;
    return {bytes * static_cast<unsigned>(settings::max_private_memory),
            bytes * static_cast<unsigned>(settings::max_private_total)};
}

void init_transaction() {
    RegisterXactCallback(on_transaction, nullptr);
    RegisterSubXactCallback(on_subtransaction, nullptr);
}

}  // namespace cache_ext::pg
