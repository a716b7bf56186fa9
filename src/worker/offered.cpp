#include "worker/offered.hpp"

#include <algorithm>

#include "api/details.hpp"
#include "api/reading.hpp"
#include "pg/guard.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
}

namespace cache_ext::worker {

namespace {

using redis::milliseconds;

std::string to_utf8(const char* text, std::size_t bytes) {
    const char* converted = pg_server_to_any(text, static_cast<int>(bytes), PG_UTF8);
    return converted == text ? std::string(text, bytes) : std::string(converted);
}

bool is_number(Jsonb* value) {
    JsonbValue scalar;
    return JB_ROOT_IS_SCALAR(value) && JsonbExtractScalar(&value->root, &scalar) && scalar.type == jbvNumeric;
}

/// False: there is none to be put.
bool read_value(const std::string& key, const pg::RedisSettings& settings, redis::Value& value) {
    api::Visible found;
    Datum data = 0;
    if (!api::peek(key, 0, data, found) || found.where != api::Visible::Where::kRegion) return false;
    api::Details details;
    const core::Id128 scope = api::id_of(pg::caller().shared_scope);
    if (!api::describe(found, scope, key, details) || details.has_relations) return false;

    Jsonb* const json = DatumGetJsonbP(data);
    value.key = to_utf8(key.data(), key.size());
    const char* text = JsonbToCString(nullptr, &json->root, static_cast<int>(VARSIZE(json)));
    value.json = to_utf8(text, std::strlen(text));
    value.life = milliseconds((details.expires_at - GetCurrentTimestamp()) / 1000);
    if (const auto& most = is_number(json) ? settings.count_seconds : settings.data_seconds)
        value.life = std::min<milliseconds>(value.life, std::chrono::seconds(*most));
    for (int i = 0; i < details.tag_count; ++i)
        value.tags.push_back(to_utf8(details.tags[i].data(), details.tags[i].size()));
    return true;
}

}  // namespace

std::vector<redis::Value> read_values(const std::vector<std::string>& keys,
                                      const pg::RedisSettings& settings) {
    std::vector<redis::Value> values;
    pg::pg_call([&] {
        if (!api::usable()) return;
        for (const std::string& key : keys) {
            redis::Value value;
            if (read_value(key, settings, value)) values.push_back(std::move(value));
        }
    });
    return values;
}

}  // namespace cache_ext::worker
