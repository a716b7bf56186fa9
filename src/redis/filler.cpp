#include "redis/filler.hpp"

#include <algorithm>
#include <utility>

namespace cache_ext::redis {

namespace {

constexpr milliseconds kRetry{20};
constexpr std::uint32_t kSlots = 16384;

/// KEYS: the fence, the key, the tags' sets. ARGV: the generation, the value, its life in milliseconds.
constexpr std::string_view kPut =
    "if tonumber(redis.call('GET', KEYS[1]) or '0') > tonumber(ARGV[1]) then return 0 end "
    "for i = 3, #KEYS do redis.call('SADD', KEYS[i], KEYS[2]) end "
    "redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) "
    "return 1";

/// KEYS: the fence. ARGV: the generation. The one that it had.
constexpr std::string_view kFence =
    "local had = tonumber(redis.call('GET', KEYS[1]) or '0') "
    "if had < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end "
    "return had";

/// For each slot a text that belongs there.
std::vector<std::string> name_slots() {
    std::vector<std::string> names(kSlots);
    std::uint32_t left = kSlots;
    for (std::uint64_t i = 0; left > 0; ++i) {
        std::string text = std::to_string(i);
        std::string& name = names[slot_of(text)];
        if (!name.empty()) continue;
        name = std::move(text);
        --left;
    }
    return names;
}

}  // namespace

std::string Filler::fence(std::uint16_t slot) const {
    const std::string who = layout_.origin + ":" + layout_.database;
    if (slot_names_.empty()) return layout_.prefix + "cache_ext:fence:" + who;
    return layout_.prefix + "cache_ext:fence:{" + slot_names_[slot] + "}:" + who;
}

void Filler::step(TimePoint now) {
    if (retry_at_ != kNever) {
        if (now < retry_at_) return;
        retry_at_ = kNever;
    }
    if (stage_ == Stage::kOpen && lost_ && under_way_ == 0) {
        lost_ = false;
        ++generation_;
        next_slot_ = 0;
        stage_ = Stage::kFencing;
    }
    if (stage_ == Stage::kFencing) raise_fences(now);
    for (const auto& each : std::exchange(waiting_, {})) {
        // Where one was lost meanwhile, they are left out.
        if (may_put() && client_.can_take(now)) send(each->value, layout_.prefix + each->value.key, {}, now);
    }
}

void Filler::raise_fences(TimePoint now) {
    if (next_slot_ == 0) {
        fence_failed_ = false;
        found_ = 0;
        if (client_.is_cluster() && slot_names_.empty()) slot_names_ = name_slots();
    }
    const std::uint32_t count = slot_names_.empty() ? 1 : kSlots;
    const std::string generation = std::to_string(generation_);
    while (!fence_failed_ && next_slot_ < count && client_.can_take(now)) {
        const std::string name = fence(static_cast<std::uint16_t>(next_slot_));
        const std::string_view words[] = {"EVAL", kFence, "1", name, generation};
        if (!client_.submit(
                words, name,
                [this](const Reply& reply) {
                    --fences_;
                    take_fence(reply);
                },
                now))
            break;
        ++next_slot_;
        ++fences_;
    }
    if (fences_ > 0) return;
    retry_at_ = now + kRetry;
    // Whose server is away has its turn when it is back; what the others have been told stands.
    if (!fence_failed_ && next_slot_ < count) return;
    next_slot_ = 0;
    if (fence_failed_) return;
    if (found_ < generation_) {
        stage_ = Stage::kOpen;
        retry_at_ = kNever;
        return;
    }
    // Of a time that this server does not remember, or of another filler: above that.
    generation_ = found_ + 1;
}

void Filler::take_fence(const Reply& reply) {
    if (reply.ok() && reply.kind == Reply::Kind::kInteger) {
        found_ = std::max(found_, static_cast<std::uint64_t>(std::max(reply.integer, 0LL)));
    } else {
        fence_failed_ = true;
    }
}

/// In a cluster the sets lie elsewhere, and come first: whoever sends may be gone before the next command, and a key that is in none of its sets would not be found when its
/// tag is invalidated.
void Filler::add_to_sets(const Value& value, const std::string& full_key, TimePoint now) {
    const auto waiting = std::make_shared<Waiting>(Waiting{value});
    for (const std::string& tag : value.tags) {
        const std::string set = layout_.tag_set(tag);
        const std::string_view words[] = {"SADD", set, full_key};
        const auto handler = [this, waiting](const Reply& reply) {
            --sets_under_way_;
            waiting->failed = waiting->failed || !reply.ok();
            if (--waiting->sets == 0 && !waiting->failed) waiting_.push_back(waiting);
        };
        if (!client_.submit(words, set, handler, now)) {
            waiting->failed = true;
            return;
        }
        ++waiting->sets;
        ++sets_under_way_;
    }
}

void Filler::put(const Value& value, TimePoint now) {
    if (!may_put() || value.life.count() <= 0 || !client_.can_take(now)) return;
    const std::string full_key = layout_.prefix + value.key;
    if (!layout_.owns(full_key)) return;
    if (client_.is_cluster() && slot_names_.empty()) slot_names_ = name_slots();

    if (slot_names_.empty()) {
        std::vector<std::string> sets;
        for (const std::string& tag : value.tags)
            sets.push_back(layout_.tag_set(tag));
        send(value, full_key, sets, now);
    } else if (value.tags.empty()) {
        send(value, full_key, {}, now);
    } else {
        add_to_sets(value, full_key, now);
    }
}

/// A value, and sets that it is put into in the same step.
void Filler::send(const Value& value, const std::string& full_key, const std::vector<std::string>& sets,
                  TimePoint now) {
    std::vector<std::string> names{fence(slot_of(full_key)), full_key};
    names.insert(names.end(), sets.begin(), sets.end());
    const std::string count = std::to_string(names.size());
    const std::string generation = std::to_string(generation_);
    const std::string life = std::to_string(value.life.count());
    std::vector<std::string_view> words{"EVAL", kPut, count};
    words.insert(words.end(), names.begin(), names.end());
    words.insert(words.end(), {generation, value.json, life});
    if (client_.submit(
            words, full_key,
            [this](const Reply& reply) {
                --under_way_;
                if (reply.verdict == Verdict::kLost) lost_ = true;
                if (reply.ok() && reply.integer == 1) ++puts_;
            },
            now))
        ++under_way_;
}

}  // namespace cache_ext::redis
