#pragma once

// Listens on channels, with a connection of its own that is kept up as a client's are. In a cluster any node does: a message is passed on to all.
// Upstash's REST interface has no SUBSCRIBE: there it says so in its status, and nothing ever arrives.
//
// Redis keeps no message for who is away. So what counts is from when to when the subscription held: between `subscribed` and `lost` every
// message arrived; whatever was sent at another time may be missing.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "redis/client.hpp"

namespace cache_ext::redis {

/// What a subscriber tells. The same holds as for a command's handler: no exception, no jump, nothing of the subscriber but what is const.
struct Listener {
    std::function<void()> subscribed;  ///< all channels are: messages sent from now on arrive
    std::function<void()> lost;        ///< no more; it will try again
    std::function<void(std::string_view channel, std::string_view payload)> message;
};

class Subscriber : public Driven {
public:
    /// After five seconds of silence it sends a PING, and gives the connection up where nothing comes back within command_timeout.
    [[nodiscard]] static std::unique_ptr<Subscriber> make(Options options,
                                                          const std::vector<std::string>& channels,
                                                          Listener listener);

    [[nodiscard]] virtual bool is_subscribed() const noexcept = 0;
    [[nodiscard]] virtual Status status(TimePoint now) const = 0;

    /// Closes the connection. `lost` is called if it was up.
    virtual void close(TimePoint now) noexcept = 0;
};

}  // namespace cache_ext::redis
