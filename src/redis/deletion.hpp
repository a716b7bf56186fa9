#pragma once

// Deletes in Redis what a notice names: keys, the keys of tags, the keys that match a pattern. UNLINK, SSCAN and SCAN, so that no command keeps the
// server for long.

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "redis/client.hpp"
#include "redis/layout.hpp"

namespace cache_ext::redis {

/// What became of the notice so far.
enum class Progress : std::uint8_t {
    kIdle,     ///< nothing was given
    kRunning,  ///< answers are due
    kWaiting,  ///< Redis could not; `step` tries again when it is time
    kDone,     ///< all of it was acknowledged
};

/// Deletes for one notice at a time. Begins anew when any of it may not have been done, so each part may be done twice, and a key that somebody
/// has put there in the meantime may go with it.
///
/// Belongs to the client's thread. Once it has begun, it must outlive the client's `close`.
class Deletion {
public:
    Deletion(Client& client, const Layout& layout) : client_(client), layout_(layout) {}
    Deletion(const Deletion&) = delete;
    Deletion& operator=(const Deletion&) = delete;

    /// Begins; only where idle.
    void start(std::shared_ptr<const Notice> notice);

    /// Goes on: after the client's `service`, and at `next_deadline`.
    void step(TimePoint now);

    [[nodiscard]] Progress progress() const noexcept { return progress_; }
    [[nodiscard]] TimePoint next_deadline() const noexcept { return retry_at_; }

    /// Where it is done, idle again.
    void reset() noexcept;

    [[nodiscard]] std::uint64_t deleted() const noexcept {
        return deleted_;
    }  ///< keys that were there, in all
    /// The last error that the command was to blame for, and because of which it was left out; empty: none.
    [[nodiscard]] const std::string& last_error() const noexcept { return last_error_; }

private:
    enum class Work : std::uint8_t { kUnlink, kMembers, kForget, kScan };
    struct Job {
        Work work;
        std::vector<std::string> words;
        std::string key;  ///< one of those that the command names
        NodeId node = 0;  ///< of kScan
    };

    void begin();
    void add_unlinks(std::vector<std::string> full_keys);
    void add_members(const std::string& set, const std::string& cursor);
    void add_scans();
    void add_scan(NodeId node, const std::string& cursor);
    bool submit(const std::shared_ptr<const Job>& job, TimePoint now);
    void take(const Job& job, const Reply& reply);
    void take_members(const Job& job, const Reply& reply);
    void take_scanned(const Job& job, const Reply& reply);
    [[nodiscard]] bool is_wanted(std::string_view full_key) const;
    [[nodiscard]] std::string scan_match() const;

    Client& client_;
    const Layout& layout_;
    std::shared_ptr<const Notice> notice_;
    Progress progress_ = Progress::kIdle;
    std::deque<std::shared_ptr<const Job>> jobs_;
    std::vector<std::string> once_more_;  ///< keys of which nobody knows whether their tags lead to them
    std::deque<std::shared_ptr<const Job>> forgets_;  ///< to be done when all that is under way has been
    std::size_t under_way_ = 0;
    bool failed_ = false;
    std::uint64_t topology_ = 0;  ///< when scanning began
    std::uint64_t deleted_ = 0;
    int failures_ = 0;
    TimePoint retry_at_ = kNever;
    std::string last_error_;
};

/// The literal part that all keys of a glob begin with.
[[nodiscard]] std::string literal_prefix(std::string_view glob);

}  // namespace cache_ext::redis
