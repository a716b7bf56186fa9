#include "worker/push_session.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <ctime>

#include "pg/attach.hpp"
#include "pg/guard.hpp"
#include "pg/testing.hpp"
#include "pg/wal.hpp"
#include "worker/offered.hpp"

extern "C" {
#include "access/transam.h"
#include "access/twophase.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
}

namespace cache_ext::worker {

namespace {

using redis::milliseconds;
using redis::TimePoint;

/// How often it looks without being woken: for prepared transactions, which wake nobody.
constexpr milliseconds kPoll{1000};
constexpr milliseconds kCompactEvery{5000};

/// After how long the log tells that Redis is away, and how often.
constexpr TimestampTz kTroubleAfter = 2 * USECS_PER_SEC;
constexpr TimestampTz kTroubleEvery = 60 * USECS_PER_SEC;

/// Rows that have been on their way for so long keep others waiting, as an outage does.
constexpr milliseconds kLate{5000};

/// Of so many rows at once each is a message of its own; of more, several become one.
constexpr std::size_t kSingleMessages = 32;
constexpr std::size_t kNamesPerMessage = 500;

/// A message with more than this is told in several: the whole of each has to get through within the time in which an answer is waited for.
constexpr std::size_t kBytesPerMessage = 256 * 1024;

/// How often a cluster's servers are asked who they are, until all have said so.
constexpr milliseconds kRunsEvery{100};

/// How many numbers of messages are reserved at once.
constexpr std::uint64_t kReserve = 10'000;

std::string iso_time() {
    const TimestampTz now = GetCurrentTimestamp();
    const auto micros = static_cast<int>(now % USECS_PER_SEC);
    const std::time_t seconds = timestamptz_to_time_t(now);
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[40];
    const std::size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    std::snprintf(text + length, sizeof text - length, ".%06dZ", micros);
    return text;
}

redis::Layout layout_of(const pg::RedisSettings& settings) {
    redis::Layout layout;
    layout.prefix = settings.prefix;
    layout.namespaces = settings.namespaces;
    layout.channel = settings.channel;
    layout.stream = settings.stream;
    layout.stream_maxlen = settings.stream_maxlen;
    layout.origin = std::to_string(GetSystemIdentifier());
    layout.database = settings.database;
    return layout;
}

redis::Options options_of(const pg::RedisSettings& settings) {
    redis::Options options;
    options.url = settings.url.value();
    options.token = settings.token;
    options.connect_timeout = options.command_timeout = milliseconds(settings.timeout_ms);
    options.total_timeout = std::max(milliseconds(settings.timeout_ms) * 4, milliseconds(1000));
    options.seed = static_cast<std::uint64_t>(MyProcPid) ^ static_cast<std::uint64_t>(GetCurrentTimestamp());
    return options;
}

/// The id of the oldest transaction that is under way, or the next one.
std::uint64_t oldest_active() {
    const FullTransactionId next = ReadNextFullTransactionId();
    const TransactionId oldest = GetOldestActiveTransactionId();
    // It may be the greater one: others go on meanwhile.
    const auto ahead = static_cast<std::int32_t>(oldest - XidFromFullTransactionId(next));
    return U64FromFullTransactionId(next) + static_cast<std::uint64_t>(std::int64_t{ahead});
}

/// Adds the notice to the messages, in pieces where it is large.
void add_in_pieces(std::vector<redis::Notice>& messages, redis::Notice&& notice) {
    std::size_t bytes = 0;
    for (const auto* names : {&notice.keys, &notice.tags, &notice.patterns}) {
        for (const std::string& name : *names)
            bytes += name.size();
    }
    if (bytes <= kBytesPerMessage) {
        messages.push_back(std::move(notice));
        return;
    }
    messages.emplace_back().everything = notice.everything;
    bytes = 0;
    for (auto names : {&redis::Notice::keys, &redis::Notice::tags, &redis::Notice::patterns}) {
        for (std::string& name : notice.*names) {
            if (bytes > 0 && bytes + name.size() > kBytesPerMessage) {
                messages.emplace_back();
                bytes = 0;
            }
            bytes += name.size();
            (messages.back().*names).push_back(std::move(name));
        }
    }
}

void copy_text(std::span<char> to, const std::string& text) {
    std::snprintf(to.data(), to.size(), "%s", text.c_str());
}

}  // namespace

// --- lanes --------------------------------------------------------------------------------------------

void Lane::start(std::vector<OutboxRow> rows, TimePoint now) {
    started_at_ = now;
    named_ = std::make_shared<redis::Notice>();
    scans_ = std::make_shared<redis::Notice>();
    const bool single = rows.size() <= kSingleMessages;
    for (OutboxRow& row : rows) {
        ids_.push_back(row.id);
        redis::Notice copy = row.notice;
        scans_->everything = scans_->everything || copy.everything;
        scans_->patterns.insert(scans_->patterns.end(), copy.patterns.begin(), copy.patterns.end());
        copy.patterns.clear();
        copy.everything = false;
        named_->merge(std::move(copy));
        if (single || messages_.empty() || messages_.back().names() + row.notice.names() > kNamesPerMessage) {
            add_in_pieces(messages_, std::move(row.notice));
        } else {
            messages_.back().merge(std::move(row.notice));
        }
    }
    named_->deduplicate();
    scans_->deduplicate();
    if (!single) {
        for (redis::Notice& message : messages_)
            message.deduplicate();
    }
    stage_ = Stage::kDeleting;
    deletion_.start(named_);
}

void Lane::begin(TimePoint now) {
    must_repeat_ = false;
    stage_ = Stage::kDeleting;
    deletion_.start(named_);
    deletion_.step(now);
}

void Lane::step(redis::Publisher& publisher, TimePoint now) {
    if (stage_ == Stage::kDeleting || stage_ == Stage::kScanning) {
        deletion_.step(now);
        if (deletion_.progress() != redis::Progress::kDone) return;
        deletion_.reset();
        if (must_repeat_) return begin(now);
        if (stage_ == Stage::kDeleting && !scans_->empty()) {
            stage_ = Stage::kScanning;
            deletion_.start(scans_);
            deletion_.step(now);
            return;
        }
        const std::string time = iso_time();
        for (const redis::Notice& message : messages_)
            last_message_ = publisher.add(message, time);
        messages_.clear();
        stage_ = Stage::kPublishing;
        publisher.step(now);
    }
    if (stage_ == Stage::kPublishing && must_repeat_) return begin(now);
    if (stage_ == Stage::kPublishing && publisher.acknowledged() >= last_message_)
        stage_ = Stage::kAcknowledged;
}

bool Lane::is_late(TimePoint now) const noexcept {
    return stage_ != Stage::kIdle && now - started_at_ >= kLate;
}

void Lane::finish() noexcept {
    ids_.clear();
    named_.reset();
    scans_.reset();
    stage_ = Stage::kIdle;
}

// --- the session --------------------------------------------------------------------------------------

PushSession::PushSession(pg::RedisSettings settings, std::int32_t place)
    : settings_(std::move(settings)),
      place_(place),
      layout_(layout_of(settings_)),
      client_(redis::Client::make(options_of(settings_))),
      quick_(*client_, layout_),
      settlement_(*client_, layout_, place_),
      scanning_(*client_, layout_),
      born_(U64FromFullTransactionId(ReadNextFullTransactionId())) {
    copy_text(report_.server, redis::masked(*settings_.url));
    if (pg::region().pushers().read_report(MyDatabaseId, before_)) {
        report_.rows_sent = before_.rows_sent;
        report_.compactions = before_.compactions;
    }
    if (settings_.subscribe && !settings_.channel.empty()) {
        // Whatever was told while nobody listened is not known: when it begins, each time.
        redis::Listener listener;
        listener.subscribed = [this] { inbox_.forget_everything(); };
        listener.lost = [this] { inbox_.forget_everything(); };
        listener.message = [this](std::string_view, std::string_view message) { inbox_.add(message); };
        subscriber_ =
            redis::Subscriber::make(options_of(settings_), {settings_.channel}, std::move(listener));
    }
}

PushSession::~PushSession() {
    const TimePoint now = std::chrono::steady_clock::now();
    try {
        // The next one goes on counting from there.
        report(now);
    } catch (const std::exception&) {
        // No memory: then from where it was a second ago.
    }
    client_->close(now);
    if (subscriber_) subscriber_->close(now);
}

std::vector<const redis::Driven*> PushSession::driven() const {
    std::vector<const redis::Driven*> all{client_.get()};
    if (subscriber_) all.push_back(subscriber_.get());
    return all;
}

TimePoint PushSession::next_deadline() const noexcept {
    TimePoint deadline = std::min({client_->next_deadline(), turn_at_, settlement_.next_deadline()});
    if (subscriber_) deadline = std::min(deadline, subscriber_->next_deadline());
    if (runs_at_ > std::chrono::steady_clock::now()) deadline = std::min(deadline, runs_at_);
    if (queues_) deadline = std::min(deadline, queues_->next_deadline());
    if (publisher_ && redis_last_) {
        deadline = std::min({deadline, publisher_->next_deadline(), filler_->next_deadline(),
                             quick_.deletion().next_deadline(), scanning_.deletion().next_deadline()});
    }
    return deadline;
}

void PushSession::service(std::span<const redis::Ready> ready, TimePoint now) {
    client_->service(ready, now);
    if (subscriber_) subscriber_->service(ready, now);
    if (queues_) queues_->step(now);
    settlement_.step(now);
    look_at_connections(now);
    if (!redis_last_) {
        ask_for_sequence(now);
    } else if (publisher_) {
        filler_->step(now);
        // No deletion before a value that was lost is fenced off.
        if (filler_->is_open()) {
            quick_.step(*publisher_, now);
            scanning_.step(*publisher_, now);
        }
        publisher_->step(now);
        // What has just been submitted goes at once.
        client_->service({}, now);
    }
}

/// Behind a new connection there may be a server that has lost its newest state, or another one with an older state: it has to show what it knows,
/// and what was under way is done again.
void PushSession::look_at_connections(TimePoint now) {
    const std::uint64_t connections = client_->status(now).connections;
    if (connections == connections_) return;
    connections_ = connections;
    redis_last_.reset();
    is_checked_ = has_runs_ = false;
    quick_.repeat();
    scanning_.repeat();
    settlement_.repeat(now);
}

/// In a cluster the number is known to one server only. Whether another one has lost something it does not say; but it does not, unless it is another process than it was.
void PushSession::ask_for_runs(TimePoint now) {
    if (asking_runs_ > 0 || now < runs_at_) return;
    runs_at_ = now + kRunsEvery;
    runs_failed_ = false;
    runs_asked_at_ = connections_;
    runs_.clear();
    const std::vector<redis::NodeId> nodes = client_->primaries();
    const std::string_view words[] = {"INFO", "server"};
    for (const redis::NodeId node : nodes) {
        if (client_->submit_to(
                node, words, [this](const redis::Reply& reply) { take_run(reply); }, now)) {
            ++asking_runs_;
        } else {
            runs_failed_ = true;
        }
    }
}

void PushSession::take_run(const redis::Reply& reply) {
    constexpr std::string_view kRun = "\nrun_id:";
    --asking_runs_;
    const std::size_t at = reply.text.find(kRun);
    if (reply.ok() && at != std::string::npos) {
        const std::size_t from = at + kRun.size();
        runs_.push_back(reply.text.substr(from, reply.text.find_first_of("\r\n ", from) - from));
    } else if (reply.ok() || reply.verdict == redis::Verdict::kPermanent ||
               reply.verdict == redis::Verdict::kConfiguration) {
        // It does not say: then it is nobody who is known.
        runs_.emplace_back();
    } else {
        runs_failed_ = true;
    }
    if (asking_runs_ == 0) has_runs_ = !runs_failed_ && runs_asked_at_ == connections_;
}

/// The last number that Redis knows, where it does: it may be above what was sent, but never below what a consumer has seen.
void PushSession::ask_for_sequence(TimePoint now) {
    if (asking_ || redis_last_ || !client_->can_take(now)) return;
    if (settings_.url->is_cluster && !has_runs_) {
        ask_for_runs(now);
        client_->service({}, now);
        return;
    }
    const std::string key = layout_.sequence_key();
    const std::string_view words[] = {"GET", key};
    asking_ = client_->submit(
        words, key,
        [this](const redis::Reply& reply) {
            asking_ = false;
            if (!reply.ok() && reply.verdict != redis::Verdict::kPermanent) return;
            std::uint64_t last = 0;
            (void)std::from_chars(reply.text.data(), reply.text.data() + reply.text.size(), last);
            redis_last_ = last;
            hungry_ = true;
        },
        now);
    client_->service({}, now);
}

bool PushSession::wants_turn(TimePoint now) const noexcept {
    if (now >= turn_at_) return true;
    const bool any_done =
        quick_.stage() == Lane::Stage::kAcknowledged || scanning_.stage() == Lane::Stage::kAcknowledged;
    const bool any_offered = may_put(now) && pg::region().offers().any_of(MyDatabaseId);
    const bool may_read = redis_last_ && client_->can_take(now) && quick_.stage() == Lane::Stage::kIdle;
    return any_done || any_offered || (redis_last_ && !is_checked_) ||
           (queues_ && queues_->wants_turn(now)) || settlement_.wants_turn() || (hungry_ && may_read);
}

/// Whether values can be put: nobody may be taking keys out of the sets that they are put into.
bool PushSession::may_put(TimePoint now) const noexcept {
    const auto is_naming = [](const Lane& lane) { return lane.stage() == Lane::Stage::kDeleting; };
    return publisher_ && redis_last_ && filler_->is_open() && client_->can_take(now) && !is_naming(quick_) &&
           !is_naming(scanning_);
}

std::vector<std::int64_t> PushSession::being_sent() const {
    std::vector<std::int64_t> ids = quick_.ids();
    ids.insert(ids.end(), scanning_.ids().begin(), scanning_.ids().end());
    return ids;
}

void PushSession::turn(TimePoint now) {
    if (now >= turn_at_) expect_rows();
    turn_at_ = now + kPoll;
    if (!state_known_) {
        state_ = pg::pg_call([] { return read_push_state(); });
        state_known_ = true;
        ++state_.generation;
        if (settings_.queues) queues_.emplace(*client_, layout_, state_.generation);
        // A standby that was promoted, a backup that was restored: Redis may have what was computed from transactions that are not in this one's past.
        const auto timeline = static_cast<std::int32_t>(GetWALInsertionTimeLine());
        if (std::exchange(state_.timeline, timeline) != timeline) state_.complete = false;
        pg::pg_call([this] { write_push_state(state_); });
    }
    if (queues_) queues_->turn(now);
    settlement_.turn();
    see_to_completeness();
    check_sequence();
    if (!publisher_ && redis_last_) {
        // Where Redis does not know its number, it has lost it, or is another one: then a number that nobody has seen, which leaves a gap.
        const bool is_known = *redis_last_ != 0 && *redis_last_ >= state_.sent;
        const std::uint64_t last = is_known ? *redis_last_ : state_.reserved;
        publisher_.emplace(*client_, layout_, last);
        filler_.emplace(*client_, layout_, state_.generation, state_.has_put);
    }
    see_to_losses();
    const std::vector<std::int64_t> sent = being_sent();
    for (Lane* lane : {&quick_, &scanning_}) {
        if (lane->stage() != Lane::Stage::kAcknowledged) continue;
        pg::pg_call([&] {
            remember_sent(publisher_->acknowledged());
            delete_from_outbox(lane->ids());
        });
        report_.rows_sent += lane->ids().size();
        // There may be rows that waited for it.
        if (lane == &scanning_) hungry_ = true;
        lane->finish();
    }
    if (publisher_ && redis_last_ && client_->can_take(now)) {
        offer_values(now);
        read_rows(sent, now);
        if (quick_.is_late(now) || scanning_.is_late(now)) compact(now);
    } else {
        compact(now);
    }
}

/// A server that knows an older number than the last that was acknowledged has lost what came after it, and may have again what was deleted then. One that knows a number
/// that was not given yet was told of a time that this database has lost, or by a copy of it.
void PushSession::check_sequence() {
    if (!redis_last_ || is_checked_) return;
    const char* why = nullptr;
    if (*redis_last_ < (publisher_ ? publisher_->acknowledged() : state_.sent))
        why = "Redis has lost what it was told, and is told that everything may have changed";
    if (*redis_last_ > (publisher_ ? publisher_->last() : state_.reserved))
        why =
            "Redis was told what this database does not know of, and is told that everything may have "
            "changed";
    PushState next = state_;
    next.runs.clear();
    std::sort(runs_.begin(), runs_.end());
    for (const std::string& run : runs_) {
        if (run.empty() || state_.runs.find(run + " ") == std::string::npos)
            why =
                "a server of Redis' cluster may not know what it was told, and is told that everything may "
                "have changed";
        if (!run.empty()) next.runs += run + " ";
    }
    if (next.runs != state_.runs) {
        pg::pg_call([&next] { write_push_state(next); });
        state_ = next;
    }
    if (why != nullptr) {
        pg::pg_call([why] {
            ereport(LOG, (errmsg_internal("%s", why)));
            add_everything_to_outbox();
        });
        if (publisher_) publisher_->skip_to(*redis_last_);
    }
    is_checked_ = true;
    hungry_ = true;
}

/// What was invalidated while nobody kept it for Redis is not known: everything may have been. It is told at once, and again when those are over who looked whether
/// to tell before they were to.
void PushSession::see_to_completeness() {
    if (state_.complete) return;
    const bool is_first = silent_before_ == 0;
    if (is_first) silent_before_ = U64FromFullTransactionId(ReadNextFullTransactionId());
    const bool all_tell = oldest_active() >= silent_before_;
    if (!is_first && !all_tell) return;
    PushState next = state_;
    next.complete = all_tell;
    pg::pg_call([&] {
        add_everything_to_outbox();
        write_push_state(next);
    });
    state_ = next;
    hungry_ = true;
}

/// What a transaction could not put into the outbox.
void PushSession::see_to_losses() {
    const std::uint64_t lost = pg::region().pushers().lost(place_);
    if (lost == 0) return;
    if (announced_lost_ == lost) {
        // That was in the last turn, which was committed.
        pg::region().pushers().found(place_, lost);
    } else if (oldest_active() > lost) {
        pg::pg_call([] { add_everything_to_outbox(); });
        announced_lost_ = lost;
        hungry_ = true;
    }
}

/// Rows that are no more leave their traces in the index for as long as somebody's snapshot might see them. So the search begins above what is known to be settled.
void PushSession::look_for_settled() {
    if (candidate_.id > floor_ && !candidate_.is_settled) {
        candidate_.is_settled = oldest_active() >= candidate_.fence;
        return;
    }
    // In this order: whoever has a number up to that one has an id below the fence.
    candidate_.id = pg::pg_call([] { return newest_outbox_id(); });
    pg::testing::pause();
    candidate_.fence = U64FromFullTransactionId(ReadNextFullTransactionId());
    // Sessions count themselves before they take a number, so nobody who has one is left; but those of prepared transactions have gone, and so may have
    // those who began before this did, uncounted.
    candidate_.is_settled =
        max_prepared_xacts == 0 && pg::region().pushers().writers(place_) == 0 && oldest_active() >= born_;
}

/// Sees to it that what the lanes are about to send has numbers that no other message gets.
void PushSession::reserve() {
    const std::uint64_t needed = publisher_->last() + quick_.unnumbered() + scanning_.unnumbered();
    if (needed <= state_.reserved) return;
    PushState next = state_;
    next.reserved = needed + kReserve;
    pg::pg_call([&] { write_push_state(next); });
    state_ = next;
}

/// Puts what has been stored since, as this transaction's snapshot sees it. What it does not see is deleted later, by rows that a later snapshot sees.
void PushSession::offer_values(TimePoint now) {
    if (!may_put(now)) return;
    std::vector<std::string> keys;
    keys.reserve(core::Offers::kBytes / 16);
    pg::region().offers().take(MyDatabaseId, [&keys](std::string_view key) {
        try {
            keys.emplace_back(key);
        } catch (...) {
        }
    });
    if (keys.empty()) return;
    if (!state_.has_put) {
        PushState next = state_;
        next.has_put = true;
        pg::pg_call([&] { write_push_state(next); });
        state_ = next;
    }
    std::vector<redis::Value> values = read_values(keys, settings_);
    // What they were computed from is to outlive a crash, as they do.
    pg::pg_call([] { pg::flush_wal(); });
    for (const redis::Value& value : values)
        filler_->put(value, now);
}

/// `sent`: what was on its way when this turn began, and is seen by its snapshot even if it is deleted by now.
void PushSession::read_rows(const std::vector<std::int64_t>& sent, TimePoint now) {
    if (!hungry_ || quick_.stage() != Lane::Stage::kIdle) return;
    const bool may_scan = scanning_.stage() == Lane::Stage::kIdle;
    std::vector<OutboxRow> rows = read_outbox(floor_, sent, may_scan);
    const bool is_all = may_scan && !fills_batch(rows);
    // It was settled in a turn before, so this snapshot sees all of it; and nothing was left out but what is being sent.
    if (is_all && candidate_.is_settled) floor_ = candidate_.id;
    look_for_settled();
    hungry_ = !is_all;
    if (rows.empty()) {
        // A scanning lane that is busy leaves rows behind, for which its end is waited for.
        hungry_ = false;
        return;
    }

    const auto middle = std::stable_partition(rows.begin(), rows.end(),
                                              [](const OutboxRow& row) { return !row.notice.needs_scan(); });
    std::vector<OutboxRow> scans(std::make_move_iterator(middle), std::make_move_iterator(rows.end()));
    rows.erase(middle, rows.end());
    if (!rows.empty()) quick_.start(std::move(rows), now);
    if (!scans.empty()) scanning_.start(std::move(scans), now);
    reserve();
}

void PushSession::compact(TimePoint now) {
    if (now < compact_at_) return;
    compact_at_ = now + kCompactEvery;
    report_.compactions += shorten_outbox(being_sent(), settings_.max_backlog);
}

void PushSession::report(TimePoint now) {
    const redis::Status status = client_->status(now);
    copy_text(report_.state, redis::to_text(status.state));
    std::string error = status.last_error;
    for (const std::string* each : {&quick_.deletion().last_error(), &scanning_.deletion().last_error(),
                                    publisher_ ? &publisher_->last_error() : &error,
                                    queues_ ? &queues_->last_error() : &error, &settlement_.last_error()}) {
        if (error.empty()) error = *each;
    }
    copy_text(report_.last_error, error);
    const auto ago = [now](TimePoint then) {
        return std::chrono::duration_cast<std::chrono::microseconds>(now - then).count();
    };
    const TimestampTz clock = GetCurrentTimestamp();
    report_.last_error_at = status.last_error.empty() ? 0 : clock - ago(status.last_error_at);
    report_.up_since = status.state == redis::State::kUp ? clock - ago(status.up_since) : 0;
    report_.sequence = publisher_ ? publisher_->acknowledged() : 0;
    report_.keys_deleted =
        before_.keys_deleted + quick_.deletion().deleted() + scanning_.deletion().deleted();
    report_.messages_received = before_.messages_received + inbox_.received();
    report_.listening = subscriber_ && subscriber_->is_subscribed() ? 1 : 0;
    report_.values_put = before_.values_put + (filler_ ? filler_->puts() : 0);
    report_.round_trip_us = static_cast<std::uint64_t>(status.round_trip.count());
    pg::region().pushers().report(place_, report_);
    tell_log(status.state != redis::State::kUp || quick_.is_late(now) || scanning_.is_late(now));
}

/// Says in the log that what is to be told waits, where that lasts; not often; and that it is over, where it was said.
void PushSession::tell_log(bool is_in_trouble) const {
    static constinit TimestampTz since = 0;
    static constinit TimestampTz told_at = 0;
    static constinit bool is_told = false;
    const TimestampTz clock = GetCurrentTimestamp();
    if (!is_in_trouble) {
        if (is_told) ereport(LOG, (errmsg("Redis is told again what is invalidated")));
        since = 0;
        is_told = false;
        return;
    }
    if (since == 0) since = clock;
    if (clock - since < kTroubleAfter || (told_at != 0 && clock - told_at < kTroubleEvery)) return;
    told_at = clock;
    is_told = true;
    ereport(LOG, (errmsg("what is invalidated waits for Redis"),
                  errdetail("Server %s, state %s: %s", report_.server, report_.state,
                            report_.last_error[0] == '\0' ? "it takes long" : report_.last_error)));
}

}  // namespace cache_ext::worker
