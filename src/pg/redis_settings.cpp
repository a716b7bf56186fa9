#include "pg/redis_settings.hpp"

#include <charconv>
#include <map>

#include "pg/append.hpp"
#include "pg/guard.hpp"
#include "pg/settings.hpp"
#include "pg/space.hpp"
#include "pg/subtransaction.hpp"
#include "pg/utf8.hpp"

extern "C" {
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/varlena.h"
}

namespace cache_ext::pg {

namespace {

constexpr char kTable[] = "redis_settings";
constexpr char kSecretTable[] = "redis_secrets";

/// Whether this database overrides a switch, and how.
enum class Override : std::uint8_t { kNone, kOff, kOn };

struct Cache {
    Oid table;
    std::uint32_t invalidations;
    Override enabled;
    Override queues;
    bool valid;
};
constinit Cache cache{};

void forget_settings(Datum /*argument*/, Oid relation) noexcept {
    if (!OidIsValid(relation) || !OidIsValid(cache.table) || relation == cache.table) {
        cache.valid = false;
        ++cache.invalidations;
    }
}

/// Calls `visit(name, value)` with the rows of such a table, as the newest snapshot sees it; no privilege on it is needed. May raise. Its table, or InvalidOid.
template <class Visit>
Oid read_table(const char* name, Visit&& visit) {
    const Oid oid = find_own_table(name);
    Relation table = OidIsValid(oid) ? try_table_open(oid, AccessShareLock) : nullptr;
    if (table == nullptr) return InvalidOid;
    SysScanDesc scan = systable_beginscan(table, InvalidOid, false, nullptr, 0, nullptr);
    while (HeapTuple tuple = systable_getnext(scan)) {
        bool name_null = true;
        bool value_null = true;
        const Datum key = heap_getattr(tuple, 1, RelationGetDescr(table), &name_null);
        const Datum value = heap_getattr(tuple, 2, RelationGetDescr(table), &value_null);
        if (!name_null && !value_null) visit(TextDatumGetCString(key), TextDatumGetCString(value));
    }
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return oid;
}

void load() {
    const std::uint32_t before = cache.invalidations;
    Override enabled = Override::kNone;
    Override queues = Override::kNone;
    const Oid table = read_table(kTable, [&](const char* name, const char* value) {
        bool on = false;
        if (std::strcmp(name, "redis_enabled") == 0 && parse_bool(value, &on))
            enabled = on ? Override::kOn : Override::kOff;
        if (std::strcmp(name, "redis_queues") == 0 && parse_bool(value, &on))
            queues = on ? Override::kOn : Override::kOff;
    });
    cache.enabled = enabled;
    cache.queues = queues;
    cache.table = table;
    cache.valid = cache.invalidations == before;
}

/// load(), of which an error stays within: whoever writes must not fail because of it.
void load_safely() {
    ErrorData* error = attempt([] { load(); });
    if (error == nullptr) return;
    FreeErrorData(error);
    cache.enabled = cache.queues = Override::kNone;
}

using Texts = std::map<std::string, std::string, std::less<>>;

/// Reads a table into a map. C++ objects are made where nothing can raise.
void read_texts(const char* table, Texts& texts) {
    struct Row {
        char* name;
        char* value;
        Row* next;
    };
    Row* rows = nullptr;
    pg_call([&] {
        (void)read_table(table, [&rows](char* name, char* value) {
            auto* row = static_cast<Row*>(palloc(sizeof(Row)));
            *row = {name, value, rows};
            rows = row;
        });
    });
    for (; rows != nullptr; rows = rows->next)
        texts.insert_or_assign(rows->name, rows->value);
}

std::optional<int> number(const Texts& texts, const char* name) {
    const auto found = texts.find(name);
    if (found == texts.end()) return std::nullopt;
    int value = 0;
    const std::string& text = found->second;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (fault != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

}  // namespace

bool pushes_to_redis() noexcept {
    if (!cache.valid) {
        if (!IsTransactionState() || !detail::space_valid || !detail::space.exists) return false;
        // No subtransaction can be begun then; it is a question about values only, as nothing commits there.
        if (IsInParallelMode()) return settings::redis_enabled;
        load_safely();
    }
    switch (cache.enabled) {
        case Override::kOn:
            return true;
        case Override::kOff:
            return false;
        case Override::kNone:
            break;
    }
    return settings::redis_enabled && detail::space_valid && detail::space.exists;
}

bool queues_go_to_redis() noexcept {
    return pushes_to_redis() &&
           (cache.queues == Override::kNone ? settings::redis_queues : cache.queues == Override::kOn);
}

RedisSettings redis_settings() {
    // So that it is known whose changes count.
    pg_call([] { load(); });
    Texts own;
    read_texts(kTable, own);
    Texts secrets;
    read_texts(kSecretTable, secrets);
    const auto text = [&own](const char* name, const char* otherwise) {
        const auto found = own.find(name);
        return found != own.end() ? found->second : std::string(otherwise == nullptr ? "" : otherwise);
    };
    const auto flag = [&own](const char* name, bool otherwise) {
        const auto found = own.find(name);
        bool value = otherwise;
        if (found != own.end()) (void)parse_bool(found->second.c_str(), &value);
        return value;
    };

    RedisSettings s;
    const char* const own_name = pg_call([] { return get_database_name(MyDatabaseId); });
    // One that is no text at all is still this database's.
    s.database = to_utf8(own_name == nullptr ? "" : own_name).value_or(std::to_string(MyDatabaseId));
    s.enabled = flag("redis_enabled", settings::redis_enabled);
    // An address of this database's own comes with the secrets of this database's own.
    const bool own_url = own.contains("redis_url");
    const std::string url = text("redis_url", settings::redis_url);
    redis::ParsedUrl parsed = redis::parse_url(url);
    s.url = std::move(parsed.url);
    s.url_error = url.empty() ? "no address is set" : std::move(parsed.error);
    const auto secret = [&secrets](const char* name) {
        const auto found = secrets.find(name);
        return found == secrets.end() ? std::string() : found->second;
    };
    if (own_url && s.url) {
        s.url->user = secret("user");
        s.url->password = secret("password");
        s.url->sentinel_user = secret("sentinel_user");
        s.url->sentinel_password = secret("sentinel_password");
    }
    s.token = own_url || secrets.contains("redis_token") ? secret("redis_token") : settings::redis_token;
    s.prefix = text("redis_prefix", settings::redis_prefix);
    s.namespaces =
        split_list(text("redis_namespaces", settings::redis_namespaces)).value_or(std::vector<std::string>());
    s.channel = text("redis_channel", settings::redis_channel);
    s.stream = text("redis_stream", settings::redis_stream);
    s.stream_maxlen = number(own, "redis_stream_maxlen").value_or(settings::redis_stream_maxlen);
    s.queues = flag("redis_queues", settings::redis_queues);
    s.subscribe = flag("redis_subscribe", settings::redis_subscribe);
    s.timeout_ms = number(own, "redis_timeout").value_or(settings::redis_timeout_ms);
    s.max_backlog = number(own, "redis_max_backlog").value_or(settings::redis_max_backlog);
    s.data_seconds = number(own, "cache_ttl_data");
    s.count_seconds = number(own, "cache_ttl_count");
    return s;
}

std::optional<std::vector<std::string>> split_list(const std::string& list) {
    std::vector<std::string> parts;
    const bool is_list = pg_call([&] {
        char* copy = pstrdup(list.c_str());
        List* items = NIL;
        if (!SplitGUCList(copy, ',', &items)) return false;
        for (int i = 0; i < list_length(items); ++i)
            parts.emplace_back(static_cast<const char*>(list_nth(items, i)));
        return true;
    });
    return is_list ? std::optional(std::move(parts)) : std::nullopt;
}

std::uint32_t redis_settings_changes() noexcept { return cache.invalidations; }

void init_redis_settings() { CacheRegisterRelcacheCallback(forget_settings, Datum{0}); }

}  // namespace cache_ext::pg
