#pragma once

#include <memory>

#include "redis/client.hpp"

namespace cache_ext::redis {

/// A client of one server.
[[nodiscard]] std::unique_ptr<Client> make_single(Options options);

}  // namespace cache_ext::redis
