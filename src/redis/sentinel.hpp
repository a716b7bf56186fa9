#pragma once

// Redis Sentinel: processes that agree on which of several servers is the master, and that a client asks for its address whenever it connects, as
// "Guidelines for Redis clients with support for Redis Sentinel" (redis.io) has it. What is here knows whom to ask next and what an answer means; a Link asks.

#include <optional>
#include <string>
#include <string_view>

#include "redis/client.hpp"
#include "redis/connection.hpp"
#include "redis/reply.hpp"

namespace cache_ext::redis {

class Sentinels {
public:
    /// The options name them, and outlive this.
    explicit Sentinels(const Options& options);

    /// From now on all of them are to be asked again, the one that knew the last time before the others.
    void begin() noexcept;

    /// Whether one is left to be asked; and that one, which is asked from now on.
    [[nodiscard]] bool has_more() const noexcept { return asked_ < options_.url.endpoints.size(); }
    [[nodiscard]] Target next();

    /// What to ask, as it goes over the wire.
    [[nodiscard]] std::string_view question() const noexcept { return question_; }

    /// Where the master is by that answer. Nothing: it does not say; `verdict` and `error` tell why, as for a connection that failed.
    [[nodiscard]] std::optional<Endpoint> read(const Reply& reply, Verdict& verdict,
                                               std::string& error) const;

    /// The one that is asked could not be, or did not know.
    void failed(Verdict verdict, const std::string& error);

    /// It said where the master is, and there was none: another one is asked first the next time.
    void misled() noexcept;

    /// After all have failed: of those, the failure that somebody should look at, else the last.
    [[nodiscard]] Verdict verdict() const noexcept { return verdict_; }
    [[nodiscard]] const std::string& error() const noexcept { return error_; }

private:
    const Options& options_;
    std::string question_;
    std::size_t first_ = 0;  ///< of the endpoints
    std::size_t asked_ = 0;  ///< from there on
    Verdict verdict_ = Verdict::kOk;
    std::string error_;
};

}  // namespace cache_ext::redis
