#include "redis/deletion.hpp"

#include <algorithm>
#include <map>
#include <utility>

#include "core/glob.hpp"

namespace cache_ext::redis {

namespace {

constexpr std::size_t kKeysPerCommand = 500;
constexpr const char* kScanCount = "1000";

/// KEYS: a tag's set, and keys to delete. ARGV: members to take out of it. In one step: who has put a key there meanwhile has put it into the set too, as long as he does
/// that in one step as well. How many there were.
constexpr const char* kTakeOut =
    "local n = 0 "
    "for i = 2, #KEYS do n = n + redis.call('UNLINK', KEYS[i]) end "
    "for i = 1, #ARGV do redis.call('SREM', KEYS[1], ARGV[i]) end "
    "return n";

/// After a failure, until the connection says otherwise; it has a back-off of its own.
constexpr milliseconds kRetry{20};
constexpr milliseconds kLongestRetry{2000};

/// An array of a cursor and an array of texts, as SCAN and SSCAN answer.
bool is_scan_reply(const Reply& reply) {
    return reply.kind == Reply::Kind::kArray && reply.elements.size() == 2 &&
           reply.elements[1].kind == Reply::Kind::kArray;
}

/// Whether a character of UTF-8 goes on there.
bool continues(const std::string& text, std::size_t at) noexcept {
    return at > 0 && at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0U) == 0x80;
}

}  // namespace

std::string literal_prefix(std::string_view glob) {
    std::string literal;
    for (std::size_t i = 0; i < glob.size(); ++i) {
        const char c = glob[i];
        if (c == '*' || c == '?' || c == '[') break;
        if (c == '\\' && ++i == glob.size()) break;
        literal += glob[i];
    }
    return literal;
}

void Deletion::start(std::shared_ptr<const Notice> notice) {
    notice_ = std::move(notice);
    failures_ = 0;
    once_more_.clear();
    begin();
}

void Deletion::reset() noexcept {
    progress_ = Progress::kIdle;
    notice_.reset();
}

void Deletion::begin() {
    progress_ = Progress::kRunning;
    failed_ = false;
    retry_at_ = kNever;
    jobs_.clear();
    forgets_.clear();
    if (notice_->everything) {
        add_scans();
        return;
    }
    std::vector<std::string> keys;
    for (const std::string& key : notice_->keys) {
        std::string full = layout_.prefix + key;
        if (layout_.owns(full)) keys.push_back(std::move(full));
    }
    add_unlinks(std::move(keys));
    for (const std::string& tag : notice_->tags) {
        const std::string set = layout_.tag_set(tag);
        if (layout_.owns(set)) add_members(set, "0");
    }
    if (!notice_->patterns.empty()) add_scans();
}

/// In a cluster a command's keys have to be of one slot; elsewhere that does no harm but to the number of commands, so they are not divided.
void Deletion::add_unlinks(std::vector<std::string> full_keys) {
    if (full_keys.empty()) return;
    std::map<std::uint16_t, std::vector<std::string>> groups;
    if (client_.is_cluster()) {
        for (std::string& key : full_keys)
            groups[slot_of(key)].push_back(std::move(key));
    } else {
        groups[0] = std::move(full_keys);
    }
    for (auto& [slot, keys] : groups) {
        for (std::size_t at = 0; at < keys.size(); at += kKeysPerCommand) {
            Job job{Work::kUnlink, {"UNLINK"}, keys[at]};
            const std::size_t end = std::min(keys.size(), at + kKeysPerCommand);
            for (std::size_t i = at; i < end; ++i)
                job.words.push_back(std::move(keys[i]));
            jobs_.push_back(std::make_shared<const Job>(std::move(job)));
        }
    }
}

void Deletion::add_members(const std::string& set, const std::string& cursor) {
    jobs_.push_back(
        std::make_shared<const Job>(Job{Work::kMembers, {"SSCAN", set, cursor, "COUNT", kScanCount}, set}));
}

void Deletion::add_scans() {
    topology_ = client_.topology();
    for (const NodeId node : client_.primaries())
        add_scan(node, "0");
}

void Deletion::add_scan(NodeId node, const std::string& cursor) {
    Job job{Work::kScan, {"SCAN", cursor, "COUNT", kScanCount}, {}, node};
    if (const std::string match = scan_match(); !match.empty()) {
        job.words.emplace_back("MATCH");
        job.words.push_back(match);
    }
    jobs_.push_back(std::make_shared<const Job>(std::move(job)));
}

/// What all wanted keys have in common, as a glob of Redis. Which of those are wanted is decided here: its globs are not quite ours.
std::string Deletion::scan_match() const {
    std::string common;
    bool is_first = true;
    const auto narrow = [&](const std::string& literal) {
        if (is_first) {
            common = literal;
        } else {
            const auto differ = std::mismatch(common.begin(), common.end(), literal.begin(), literal.end());
            auto length = static_cast<std::size_t>(differ.first - common.begin());
            // Not within a character: not every server takes half of one.
            while (continues(common, length) || continues(literal, length))
                --length;
            common.resize(length);
        }
        is_first = false;
    };
    if (notice_->everything) {
        for (const std::string& each : layout_.namespaces)
            narrow(each);
    } else {
        for (const std::string& pattern : notice_->patterns)
            narrow(literal_prefix(pattern));
    }
    const std::string literal = layout_.prefix + common;
    return literal.empty() ? literal : escape_glob(literal) + "*";
}

bool Deletion::is_wanted(std::string_view full_key) const {
    if (!layout_.owns(full_key)) return false;
    if (notice_->everything) return true;
    const std::string_view key = full_key.substr(layout_.prefix.size());
    return std::any_of(notice_->patterns.begin(), notice_->patterns.end(),
                       [key](const std::string& pattern) { return core::glob_match(pattern, key); });
}

bool Deletion::submit(const std::shared_ptr<const Job>& job, TimePoint now) {
    std::vector<std::string_view> words(job->words.begin(), job->words.end());
    auto handler = [this, job](const Reply& reply) {
        --under_way_;
        take(*job, reply);
    };
    return job->work == Work::kScan ? client_.submit_to(job->node, words, std::move(handler), now)
                                    : client_.submit(words, job->key, std::move(handler), now);
}

void Deletion::take(const Job& job, const Reply& reply) {
    if (reply.verdict == Verdict::kPermanent) {
        last_error_ = reply.text;
        // Somebody else's key has the name of a tag's set: sent again it would fail again, and there is nothing to be done. Whatever else it is, of a server that knows
        // no such command, say, nothing was deleted, and who is told so waits.
        if (reply.text.find("WRONGTYPE") != std::string::npos) return;
    }
    if (!reply.ok()) {
        failed_ = true;
        return;
    }
    switch (job.work) {
        case Work::kUnlink:
            if (reply.kind == Reply::Kind::kInteger && reply.integer > 0)
                deleted_ += static_cast<std::uint64_t>(reply.integer);
            break;
        case Work::kMembers:
            take_members(job, reply);
            break;
        case Work::kScan:
            take_scanned(job, reply);
            break;
        case Work::kForget:
            break;
    }
}

void Deletion::take_members(const Job& job, const Reply& reply) {
    if (!is_scan_reply(reply)) {
        failed_ = true;
        return;
    }
    std::vector<std::string> keys;
    Job forget{Work::kForget, {"SREM", job.key}, job.key};
    for (const Reply& member : reply.elements[1].elements) {
        if (layout_.owns(member.text)) keys.push_back(member.text);
        forget.words.push_back(member.text);
    }
    const std::string& cursor = reply.elements[0].text;
    if (cursor != "0") add_members(job.key, cursor);
    // Members, not the set: somebody may be adding one that was not seen.
    if (forget.words.size() <= 2) return;
    if (!client_.is_cluster()) {
        Job take_out{Work::kUnlink, {"EVAL", kTakeOut, std::to_string(keys.size() + 1), job.key}, job.key};
        take_out.words.insert(take_out.words.end(), keys.begin(), keys.end());
        take_out.words.insert(take_out.words.end(), forget.words.begin() + 2, forget.words.end());
        jobs_.push_back(std::make_shared<const Job>(std::move(take_out)));
        return;
    }
    // In a cluster they are in different places. They are forgotten after their keys are known to be gone: before that, they would not be found again. And whoever has
    // put a key there in between may have found it in the set still, so it goes once more.
    once_more_.insert(once_more_.end(), keys.begin(), keys.end());
    add_unlinks(std::move(keys));
    forgets_.push_back(std::make_shared<const Job>(std::move(forget)));
}

void Deletion::take_scanned(const Job& job, const Reply& reply) {
    if (!is_scan_reply(reply)) {
        failed_ = true;
        return;
    }
    std::vector<std::string> keys;
    for (const Reply& key : reply.elements[1].elements) {
        if (is_wanted(key.text)) keys.push_back(key.text);
    }
    add_unlinks(std::move(keys));
    if (const std::string& cursor = reply.elements[0].text; cursor != "0") add_scan(job.node, cursor);
}

void Deletion::step(TimePoint now) {
    if (progress_ == Progress::kWaiting && now >= retry_at_) {
        if (client_.can_take(now)) {
            begin();
        } else {
            retry_at_ = now + kRetry;
        }
    }
    if (progress_ != Progress::kRunning) return;
    // A notice that came while nothing was known of the servers.
    if (notice_->needs_scan() && jobs_.empty() && under_way_ == 0 && client_.primaries().empty())
        failed_ = true;

    if (!failed_ && jobs_.empty() && under_way_ == 0) {
        if (forgets_.empty()) {
            add_unlinks(std::exchange(once_more_, {}));
        } else {
            jobs_.swap(forgets_);
        }
    }
    while (!failed_ && !jobs_.empty() && client_.can_take(now)) {
        const std::shared_ptr<const Job> job = jobs_.front();
        if (!submit(job, now)) {
            failed_ = true;
            break;
        }
        jobs_.pop_front();
        ++under_way_;
    }
    if (under_way_ > 0) return;
    if (!failed_ && jobs_.empty() && forgets_.empty() && once_more_.empty()) {
        if (notice_->needs_scan() && client_.topology() != topology_) {
            // Keys have moved from one server to another, perhaps past the scan.
            begin();
            return;
        }
        progress_ = Progress::kDone;
        return;
    }
    if (!failed_ && client_.can_take(now)) {
        step(now);
        return;
    }
    // Not with a lost connection's unanswered commands: those are answered first.
    progress_ = Progress::kWaiting;
    const Duration wait = kRetry * (1 << std::min(failures_, 7));
    retry_at_ = now + std::min<Duration>(wait, kLongestRetry);
    ++failures_;
}

}  // namespace cache_ext::redis
