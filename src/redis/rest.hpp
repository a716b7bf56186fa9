#pragma once

#include <memory>

#include "redis/client.hpp"

namespace cache_ext::redis {

/// A client of Upstash's REST interface, or of a proxy that speaks it: what is submitted while one HTTP request is under way makes the next one, to /pipeline,
/// so that the order is kept. Keys and values are UTF-8 there; a command with other bytes is answered with kPermanent. Where the library was built without
/// libcurl, a client that says so.
[[nodiscard]] std::unique_ptr<Client> make_rest(Options options);

}  // namespace cache_ext::redis
