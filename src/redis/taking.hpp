#pragma once

// Taking items from a list so that they can be put back: a script moves the oldest one into a hash beside the list, under a token that names the transaction it was taken in. When it is known how that
// has ended, the item is dropped or put back to the list's end; a token that is not there (any more) is passed over, so each of these may be said again.
//
// A hash keeps for each token "<number> <item>"; the numbers go up in the order of taking, and the field "n" has the last. It is gone when nothing is taken.
//
// The queues that have such a hash are noted before anything is taken, with the time, and again by whoever goes on taking after kNotedFor; those that were not for long enough are forgotten.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "redis/client.hpp"
#include "redis/layout.hpp"

namespace cache_ext::redis {

/// How long whoever has noted a queue may take from it without noting it again.
inline constexpr std::chrono::minutes kNotedFor{10};

/// What an item is taken under: the transaction, and a number that the session gives to no other. And where the transaction is in the database's history, since another one
/// may be given the same id after that was turned back: a timeline, 0 where that is not known, and a position in its log.
struct Token {
    std::uint64_t transaction = 0;
    std::uint64_t number = 0;
    std::uint32_t timeline = 0;
    std::uint64_t position = 0;
    [[nodiscard]] std::string text() const;
};
[[nodiscard]] std::optional<Token> parse_token(std::string_view text) noexcept;

/// A database's queues as one server has them.
struct Takings {
    Client& client;
    const Layout& layout;
    std::string_view taker;

    /// Each submits a command. False: it was not taken.
    bool note(const std::string& queue, Handler handler, TimePoint now) const;

    /// The queues' names, an array.
    bool list(Handler handler, TimePoint now) const;

    /// Forgets of these the ones that were not noted for long.
    bool forget(const std::vector<std::string>& queues, Handler handler, TimePoint now) const;

    /// Puts back what was taken under the tokens `back`, and takes the oldest item under another. The item, a string; the integer 0: there is none. Without a token it only
    /// looks: 1: there is one.
    bool take(const std::string& queue, std::string_view token, const std::vector<std::string>& back,
              Handler handler, TimePoint now) const;

    /// The tokens that something is taken under, and the field "n": an array.
    bool tokens(const std::string& queue, Handler handler, TimePoint now) const;

    bool settle(const std::string& queue, const std::vector<std::string>& dropped,
                const std::vector<std::string>& back, Handler handler, TimePoint now) const;
};

}  // namespace cache_ext::redis
