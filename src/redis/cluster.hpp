#pragma once

#include <memory>

#include "redis/client.hpp"

namespace cache_ext::redis {

/// A client of a Redis Cluster: a connection to each primary, and a map of the slots that follows their moves.
///
/// Order by slot: from the moment when a command for a slot is redirected, those after it are held back until everything that is under way for the slot has been answered; then all go,
/// in the order of their submission. Where one of them is lost, so are the ones held back behind it.
[[nodiscard]] std::unique_ptr<Client> make_cluster(Options options);

}  // namespace cache_ext::redis
