#pragma once

// One pusher's work under one set of settings: the outbox on one side, a client of Redis on the other.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/pushers.hpp"
#include "pg/redis_settings.hpp"
#include "redis/client.hpp"
#include "redis/deletion.hpp"
#include "redis/filler.hpp"
#include "redis/publisher.hpp"
#include "redis/subscriber.hpp"
#include "worker/inbox.hpp"
#include "worker/outbox.hpp"
#include "worker/queue_delivery.hpp"
#include "worker/queue_settlement.hpp"

namespace cache_ext::worker {

/// Rows on their way: first their keys and tags are deleted, then what their patterns match, then go the messages about them, then they leave the outbox.
class Lane {
public:
    Lane(redis::Client& client, const redis::Layout& layout) : deletion_(client, layout) {}

    enum class Stage : std::uint8_t { kIdle, kDeleting, kScanning, kPublishing, kAcknowledged };
    [[nodiscard]] Stage stage() const noexcept { return stage_; }
    [[nodiscard]] const std::vector<std::int64_t>& ids() const noexcept { return ids_; }
    [[nodiscard]] const redis::Deletion& deletion() const noexcept { return deletion_; }

    /// Messages that have no number yet.
    [[nodiscard]] std::size_t unnumbered() const noexcept { return messages_.size(); }

    void start(std::vector<OutboxRow> rows, redis::TimePoint now);
    void step(redis::Publisher& publisher, redis::TimePoint now);
    /// Redis may have lost what it has done: it deletes once more.
    void repeat() noexcept { must_repeat_ = stage_ != Stage::kIdle && stage_ != Stage::kAcknowledged; }
    /// Whether its rows have been on their way for long.
    [[nodiscard]] bool is_late(redis::TimePoint now) const noexcept;
    /// Its rows have left the outbox.
    void finish() noexcept;

private:
    void begin(redis::TimePoint now);

    redis::Deletion deletion_;
    Stage stage_ = Stage::kIdle;
    std::vector<std::int64_t> ids_;
    std::shared_ptr<redis::Notice> named_;
    std::shared_ptr<redis::Notice> scans_;  ///< what all keys are looked through for, after the rest
    bool must_repeat_ = false;
    std::vector<redis::Notice> messages_;
    std::uint64_t last_message_ = 0;
    redis::TimePoint started_at_;
};

class PushSession {
public:
    PushSession(pg::RedisSettings settings, std::int32_t place);
    ~PushSession();
    PushSession(const PushSession&) = delete;
    PushSession& operator=(const PushSession&) = delete;

    /// What has to be waited for, and until when at most.
    [[nodiscard]] std::vector<const redis::Driven*> driven() const;
    [[nodiscard]] redis::TimePoint next_deadline() const noexcept;

    /// Sends and receives what it can.
    void service(std::span<const redis::Ready> ready, redis::TimePoint now);

    /// Whether the outbox is to be looked at: there may be something new, or something of it is done.
    [[nodiscard]] bool wants_turn(redis::TimePoint now) const noexcept;

    /// Takes note that there may be something new in the outbox.
    void expect_rows() noexcept {
        hungry_ = true;
        if (queues_) queues_->expect_items();
    }

    /// Looks at the outbox, in a transaction with a snapshot. May raise; then it is to be called again later.
    void turn(redis::TimePoint now);

    /// Invalidates what others have told, in a transaction of its own. Likewise.
    [[nodiscard]] bool has_mail() const noexcept { return !inbox_.empty(); }
    void read_mail() { inbox_.apply(layout_.origin, layout_.database); }

    void report(redis::TimePoint now);

private:
    void look_at_connections(redis::TimePoint now);
    void ask_for_sequence(redis::TimePoint now);
    void ask_for_runs(redis::TimePoint now);
    void take_run(const redis::Reply& reply);
    void check_sequence();
    void see_to_completeness();
    void see_to_losses();
    void look_for_settled();
    [[nodiscard]] bool may_put(redis::TimePoint now) const noexcept;
    void offer_values(redis::TimePoint now);
    void read_rows(const std::vector<std::int64_t>& sent, redis::TimePoint now);
    void reserve();
    void compact(redis::TimePoint now);
    void tell_log(bool is_in_trouble) const;
    [[nodiscard]] std::vector<std::int64_t> being_sent() const;

    pg::RedisSettings settings_;
    std::int32_t place_;
    redis::Layout layout_;
    std::unique_ptr<redis::Client> client_;
    std::unique_ptr<redis::Subscriber> subscriber_;  ///< null: it does not listen
    Inbox inbox_;
    std::optional<redis::Publisher> publisher_;  ///< once the last message's number is known
    std::optional<redis::Filler> filler_;        ///< likewise
    Lane quick_;
    std::optional<QueueDelivery> queues_;  ///< where they are delivered there, once the state is known
    QueueSettlement settlement_;           ///< of what was taken there, be it switched off by now
    Lane scanning_;                        ///< for rows because of which all keys are looked through
    PushState state_;
    bool state_known_ = false;
    bool asking_ = false;  ///< for the last message's number
    std::optional<std::uint64_t>
        redis_last_;           ///< which Redis knows, since the newest connection; until then nothing is sent
    bool is_checked_ = false;  ///< whether it is the one that it should know
    bool has_runs_ =
        false;  ///< whether a cluster's servers have said who they are, since the newest connection
    std::size_t asking_runs_ = 0;
    bool runs_failed_ = false;
    std::uint64_t runs_asked_at_ = 0;  ///< how many connections there were
    redis::TimePoint runs_at_{};       ///< when they may be asked again
    std::vector<std::string> runs_;
    std::uint64_t connections_ = 0;  ///< that were made
    bool hungry_ = true;
    redis::TimePoint turn_at_;
    redis::TimePoint compact_at_;
    std::uint64_t silent_before_ = 0;  ///< transactions with an id below may not have told; 0: none
    std::uint64_t announced_lost_ = 0;
    /// A number up to which all rows may be there for the next snapshot, or never: those who could still add one with a lower number are over when no
    /// transaction below `fence` is under way.
    struct Candidate {
        std::int64_t id = 0;
        std::uint64_t fence = 0;
        bool is_settled = false;
    };
    Candidate candidate_;
    std::uint64_t born_;      ///< the next transaction's id when this began
    std::int64_t floor_ = 0;  ///< rows up to this id are being sent or gone, and there will be none
    core::PushReport report_{};
    core::PushReport before_{};  ///< what the sessions before this one had done
};

}  // namespace cache_ext::worker
