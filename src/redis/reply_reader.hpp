#pragma once

// Makes hiredis' parser build our replies, within bounds: what arrives comes from outside, and a few bytes of it can claim to be an
// array of two thousand million elements.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "redis/reply.hpp"

struct redisReader;

namespace cache_ext::redis {

/// What a single reply may take of memory. An array takes as much as its elements that have arrived, whatever number it claims.
inline constexpr std::size_t kLargestReply = std::size_t{64} << 20;

/// Arrays within arrays. Whatever looks at a reply, and its destructor, goes as deep; hiredis 1 has no bound of its own.
inline constexpr int kDeepestReply = 7;

/// The replies in a stream of bytes.
class ReplyReader {
public:
    enum class Item : std::uint8_t { kReply, kMore, kBroken };

    /// With a parser of its own. Throws std::bad_alloc, as does the other.
    ReplyReader();
    /// With the parser of a connection, which gets its bytes from there. From now on that builds replies of this kind alone, and
    /// it is freed before this is destroyed.
    explicit ReplyReader(redisReader* borrowed);
    ReplyReader(const ReplyReader&) = delete;
    ReplyReader& operator=(const ReplyReader&) = delete;
    ~ReplyReader();

    /// Appends bytes. False: there is no memory for them.
    [[nodiscard]] bool feed(std::string_view bytes) noexcept;

    /// Takes the next whole reply. kMore: there is none yet. kBroken: the stream is not of this protocol, or a reply is too large; there
    /// will be no more.
    [[nodiscard]] Item next(Reply& reply) noexcept;

    /// What kBroken was about.
    [[nodiscard]] const char* error() const noexcept;

    /// What the reply that is being read has taken so far.
    struct Budget {
        std::size_t bytes = 0;
        bool is_exceeded = false;
    };

private:
    redisReader* reader_;
    bool is_own_;
    std::unique_ptr<Budget> budget_;
};

}  // namespace cache_ext::redis
