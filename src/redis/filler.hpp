#pragma once

// Puts values into Redis, with their lives and their tags' sets, so that an invalidation that follows never loses against the value before it.
//
// The caller sees to the order of what it submits: a value goes before the deletions of all that it does not reflect yet. What is left is a connection that was lost with
// a value under way: the server may still read it from there after what came on the next connection. So each value carries a *generation*, and Redis refuses it where
// it knows a higher one: the *fence*, which is raised before anything else is sent once a value may have been lost. In a cluster there is a fence in each slot.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "redis/client.hpp"
#include "redis/layout.hpp"

namespace cache_ext::redis {

/// A value to be put.
struct Value {
    std::string key;  ///< without the prefix
    std::string json;
    milliseconds life{0};
    std::vector<std::string> tags;
};

/// Belongs to the client's thread. Once it has sent something, it must outlive the client's `close`.
class Filler {
public:
    /// `generation`: above that of every filler before. `must_fence`: one before this may have left something under way.
    Filler(Client& client, const Layout& layout, std::uint64_t generation, bool must_fence)
        : client_(client),
          layout_(layout),
          generation_(generation),
          stage_(must_fence ? Stage::kFencing : Stage::kOpen) {}
    Filler(const Filler&) = delete;
    Filler& operator=(const Filler&) = delete;

    /// Whether deletions may be submitted: no lost value can come after them, and none that waits for its tags' sets.
    [[nodiscard]] bool is_open() const noexcept {
        return may_put() && sets_under_way_ == 0 && waiting_.empty();
    }

    /// Raises the fence where it has to be. After the client's `service`, before deletions are submitted, and at `next_deadline`.
    void step(TimePoint now);
    [[nodiscard]] TimePoint next_deadline() const noexcept { return retry_at_; }

    /// Puts a value, if one can be taken now. It is not repeated: it may get lost, which harms nobody.
    void put(const Value& value, TimePoint now);

    [[nodiscard]] std::uint64_t puts() const noexcept { return puts_; }
    [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }

private:
    enum class Stage : std::uint8_t { kOpen, kFencing };

    /// A value whose key is on its way to the sets of its tags, in a cluster.
    struct Waiting {
        Value value;
        std::size_t sets = 0;  ///< that have not answered
        bool failed = false;   ///< one of them has not got the key: the value is left out
    };

    [[nodiscard]] bool may_put() const noexcept { return stage_ == Stage::kOpen && !lost_; }
    [[nodiscard]] std::string fence(std::uint16_t slot) const;
    void raise_fences(TimePoint now);
    void take_fence(const Reply& reply);
    void add_to_sets(const Value& value, const std::string& full_key, TimePoint now);
    void send(const Value& value, const std::string& full_key, const std::vector<std::string>& sets,
              TimePoint now);

    Client& client_;
    const Layout& layout_;
    std::uint64_t generation_;
    Stage stage_;
    std::uint32_t next_slot_ = 0;  ///< of those whose fence is raised
    std::size_t fences_ = 0;       ///< raised and not answered
    std::uint64_t found_ = 0;      ///< the highest generation that Redis had
    bool fence_failed_ = false;
    std::size_t under_way_ = 0;  ///< values
    bool lost_ = false;          ///< one of them, perhaps
    std::vector<std::string> slot_names_;
    std::size_t sets_under_way_ = 0;                       ///< commands that add a key to a set
    std::vector<std::shared_ptr<const Waiting>> waiting_;  ///< values that all their sets have
    std::uint64_t puts_ = 0;
    TimePoint retry_at_ = kNever;
};

}  // namespace cache_ext::redis
