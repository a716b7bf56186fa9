#pragma once

#include <memory>
#include <string>

#include "redis/client.hpp"

namespace cache_ext::redis {

/// A client that can never work, and tells why in its status.
[[nodiscard]] std::unique_ptr<Client> make_unavailable(std::string why);

}  // namespace cache_ext::redis
