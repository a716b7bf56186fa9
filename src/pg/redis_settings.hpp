#pragma once

// The settings of Redis that hold in this database: those of the configuration, and over them what update_redis_settings has kept in a table.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "pg/prelude.hpp"
#include "redis/url.hpp"

namespace cache_ext::pg {

struct RedisSettings {
    bool enabled = false;
    std::string database;           ///< the name of this one, in UTF-8
    std::optional<redis::Url> url;  ///< with its password
    std::string url_error;          ///< where there is none: why
    std::string token;
    std::string prefix;
    std::vector<std::string> namespaces;
    std::string channel;
    std::string stream;
    int stream_maxlen = 0;
    bool queues = false;
    bool subscribe = false;
    int timeout_ms = 0;
    int max_backlog = 0;
    std::optional<int> data_seconds;   ///< how long values put there live at most
    std::optional<int> count_seconds;  ///< and counts: values that are a number
};

/// Whether invalidations of this database are told to Redis. Two loads, unless the settings changed since: then a look at a table, which fails by
/// believing the configuration alone. Raises nothing; false outside of a transaction while that is not known.
[[nodiscard]] bool pushes_to_redis() noexcept;

/// Whether items of queues are delivered to Redis. Likewise.
[[nodiscard]] bool queues_go_to_redis() noexcept;

/// All of them, for whoever talks to Redis. Needs a transaction; may raise, and throw std::bad_alloc.
[[nodiscard]] RedisSettings redis_settings();

/// The items of a list as in the configuration. Nothing: it is none. May raise.
[[nodiscard]] std::optional<std::vector<std::string>> split_list(const std::string& list);

/// Differs from what it was before when settings in the table may have changed. Changes are noticed as a transaction begins.
[[nodiscard]] std::uint32_t redis_settings_changes() noexcept;

/// Registers for invalidation. Called once, from _PG_init.
void init_redis_settings();

}  // namespace cache_ext::pg
