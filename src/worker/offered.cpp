#include "worker/offered.hpp"

#include <algorithm>

#include "api/details.hpp"
#include "api/reading.hpp"
#include "pg/guard.hpp"
#include "pg/utf8.hpp"

extern "C" {
#include "utils/jsonb.h"
#include "utils/timestamp.h"
}

namespace cache_ext::worker {

namespace {

using redis::milliseconds;

bool is_number(Jsonb* value) {
    JsonbValue scalar;
    return JB_ROOT_IS_SCALAR(value) && JsonbExtractScalar(&value->root, &scalar) && scalar.type == jbvNumeric;
}

/// False: there is none to be put, or none that can be said there.
bool read_value(const std::string& key, const pg::RedisSettings& settings, redis::Value& value) {
    api::Visible found;
    Datum data = 0;
    if (!api::peek(key, 0, data, found) || found.where != api::Visible::Where::kRegion) return false;
    api::Details details;
    const core::Id128 scope = api::id_of(pg::caller().shared_scope);
    if (!api::describe(found, scope, key, details) || details.has_relations) return false;

    Jsonb* const json = DatumGetJsonbP(data);
    std::optional<std::string> name = pg::to_utf8(key);
    std::optional<std::string> text =
        pg::to_utf8(JsonbToCString(nullptr, &json->root, static_cast<int>(VARSIZE(json))));
    if (!name || !text) return false;
    value.key = std::move(*name);
    value.json = std::move(*text);
    value.life = milliseconds((details.expires_at - GetCurrentTimestamp()) / 1000);
    if (const auto& most = is_number(json) ? settings.count_seconds : settings.data_seconds)
        value.life = std::min<milliseconds>(value.life, std::chrono::seconds(*most));
    for (int i = 0; i < details.tag_count; ++i) {
        std::optional<std::string> tag = pg::to_utf8(details.tags[i]);
        if (!tag) return false;
        value.tags.push_back(std::move(*tag));
    }
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
