#pragma once

// Taking items from lists in Redis, as part of the transaction. A script there moves an item from its list aside, under a token with the (sub)transaction's id
// (redis/taking.hpp); the pusher drops it when that has committed, and puts it back when it has not (worker/queue_settlement.hpp). So whoever crashes leaves nothing behind, and what he
// had taken is there again.

#include <string>
#include <string_view>

#include "pg/prelude.hpp"

namespace cache_ext::pg {

/// What this database's tokens are kept under in Redis: the server and the database, by numbers.
[[nodiscard]] std::string taker_name();

/// Takes the oldest item of the list. False: there is none. Waits for each answer as long as the settings say, and attends to interrupts. May raise, and throw: where Redis cannot be
/// asked, or its answer is lost.
[[nodiscard]] bool dequeue_from_redis(std::string_view queue, Datum& data);

/// Registers for the ends of transactions. Called once, from _PG_init.
void init_queue_in_redis();

}  // namespace cache_ext::pg
