#pragma once

// What others tell on the channel, other servers and applications: their invalidations are done here.

#include <cstdint>
#include <string>
#include <vector>

#include "pg/prelude.hpp"

namespace cache_ext::worker {

class Inbox {
public:
    /// Takes a message, to be looked at later. Where they come faster than they are looked at, they are all taken to say "everything".
    void add(std::string_view message) noexcept;

    /// What was told, or could not be, is not known: everything goes.
    void forget_everything() noexcept {
        everything_ = true;
        messages_.clear();
        bytes_ = 0;
    }

    [[nodiscard]] bool empty() const noexcept { return messages_.empty() && !everything_; }
    [[nodiscard]] std::uint64_t received() const noexcept { return received_; }

    /// Invalidates what the messages say, but for those that this database itself has sent, as part of the current transaction; Redis is not told of that again. May
    /// raise.
    void apply(const std::string& own_origin, const std::string& own_database);

private:
    std::vector<std::string> messages_;
    std::size_t bytes_ = 0;
    bool everything_ = false;
    std::uint64_t received_ = 0;
};

}  // namespace cache_ext::worker
