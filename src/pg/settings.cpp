#include "pg/settings.hpp"

#include <climits>

#include "pg/identity.hpp"
#include "pg/prelude.hpp"
#include "pg/testing.hpp"
#include "redis/url.hpp"

extern "C" {
#include "nodes/pg_list.h"
#include "utils/guc.h"
#include "utils/varlena.h"
}

namespace cache_ext::pg {

namespace settings {

constinit bool enabled = true;
constinit int memory_kb = 0;
constinit int default_duration_s = 0;
constinit int max_entry_size_kb = 0;
constinit int max_private_memory = 0;
constinit int max_private_total = 0;
constinit int compression = kCompressOff;
constinit int compression_threshold = 0;
constinit char* scope_claims = nullptr;
constinit char* scope_settings = nullptr;
constinit char* shared_writers = nullptr;
constinit int serializable = kSerializableBypass;
constinit int refresh_pause_ms = 0;
constinit int single_flight_timeout_ms = 0;
constinit bool log_operations = false;
constinit int cleanup_interval_s = 0;
constinit int warm_rate = 0;
constinit int alert_hit_rate = 0;
constinit bool wal_log_invalidations = false;
constinit bool redis_enabled = false;
constinit char* redis_url = nullptr;
constinit char* redis_token = nullptr;
constinit char* redis_prefix = nullptr;
constinit char* redis_namespaces = nullptr;
constinit char* redis_channel = nullptr;
constinit char* redis_stream = nullptr;
constinit int redis_stream_maxlen = 0;
constinit char* redis_table_pattern = nullptr;
constinit char* redis_listing_pattern = nullptr;
constinit bool redis_queues = false;
constinit bool redis_subscribe = false;
constinit int redis_timeout_ms = 0;
constinit int redis_max_backlog = 0;
constinit char* jwt_secret = nullptr;

}  // namespace settings

namespace {

constexpr int kKbPerMb = 1024;
constexpr int kSecondsPerMinute = 60;

#ifdef USE_LZ4
constexpr int kDefaultCompression = kCompressLz4;
#else
constexpr int kDefaultCompression = kCompressPglz;
#endif

const config_enum_entry kCompressionMethods[] = {
#ifdef USE_LZ4
    {"lz4", kCompressLz4, false},
#endif
    {"pglz", kCompressPglz, false}, {"off", kCompressOff, false},
    {"none", kCompressOff, true},   {nullptr, 0, false},
};

const config_enum_entry kSerializableModes[] = {
    {"bypass", kSerializableBypass, false},
    {"allow", kSerializableAllow, false},
    {nullptr, 0, false},
};

/// Applies `accept(item, item count)` to the items of a list. False: no list, or an item was refused.
template <class Accept>
bool check_list(const char* value, Accept accept) {
    char* copy = pstrdup(value);
    List* items = NIL;
    bool valid = SplitGUCList(copy, ',', &items);
    if (!valid) {
        GUC_check_errdetail("List syntax is invalid.");
    }
    for (int i = 0; valid && i < list_length(items); ++i) {
        valid = accept(static_cast<const char*>(list_nth(items, i)), list_length(items));
    }
    list_free(items);
    pfree(copy);
    return valid;
}

/// Empty, or what redis::parse_url understands. Nothing of the text gets into the message, as all of it would into the server's own: there may be a password in it.
bool check_redis_url(char** value, void** /*extra*/, GucSource /*source*/) noexcept {
    if (**value == 0) return true;
    try {
        const redis::ParsedUrl parsed = redis::parse_url(*value);
        if (parsed.url) return true;
        GUC_check_errmsg("invalid value for parameter \"cache_ext.redis_url\"");
        GUC_check_errdetail("%s", parsed.error.c_str());
    } catch (...) {
        GUC_check_errmsg("out of memory");
        GUC_check_errcode(ERRCODE_OUT_OF_MEMORY);
    }
    return false;
}

bool check_redis_namespaces(char** value, void** /*extra*/, GucSource /*source*/) noexcept {
    return check_list(*value, [](const char* prefix, int /*count*/) {
        if (*prefix == 0) GUC_check_errdetail("An empty prefix would mean every key.");
        return *prefix != 0;
    });
}

bool check_scope_claims(char** value, void** /*extra*/, GucSource /*source*/) noexcept {
    return check_list(*value, [](const char* claim, int count) {
        if (count > 1 && std::strcmp(claim, "*") == 0) {
            GUC_check_errdetail("\"*\" means all claims and stands alone.");
            return false;
        }
        return true;
    });
}

/// A name that the server could know: parts of letters, digits, underscores and dollar signs, joined by dots.
bool is_setting_name(std::string_view name) {
    bool at_start = true;
    for (const char c : name) {
        const auto byte = static_cast<unsigned char>(c);
        const bool starts =
            (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' || byte >= 0x80;
        const bool continues = (byte >= '0' && byte <= '9') || byte == '$';
        if (byte == '.' ? at_start : !(starts || (continues && !at_start))) {
            return false;
        }
        at_start = byte == '.';
    }
    return !at_start;
}

bool check_scope_settings(char** value, void** /*extra*/, GucSource /*source*/) noexcept {
    return check_list(*value, [](const char* name, int /*count*/) {
        if (!is_setting_name(name)) {
            GUC_check_errdetail("\"%s\" is no name of a setting.", name);
            return false;
        }
        return true;
    });
}

/// The role itself is looked up when it is needed: the configuration is read where no catalog can be.
bool check_shared_writers(char** value, void** /*extra*/, GucSource /*source*/) noexcept {
    if (std::strlen(*value) >= NAMEDATALEN) {
        GUC_check_errdetail("The name of a role has at most %d bytes.", NAMEDATALEN - 1);
        return false;
    }
    return true;
}

void note_identity_change(const char* /*value*/, void* /*extra*/) noexcept { forget_caller(); }

void define_bool(const char* name, const char* description, bool* variable, bool boot, GucContext context) {
    DefineCustomBoolVariable(name, description, nullptr, variable, boot, context, 0, nullptr, nullptr,
                             nullptr);
}

void define_int(const char* name, const char* description, int* variable, int boot, int minimum, int maximum,
                GucContext context, int unit) {
    DefineCustomIntVariable(name, description, nullptr, variable, boot, minimum, maximum, context, unit,
                            nullptr, nullptr, nullptr);
}

void define_enum(const char* name, const char* description, int* variable, int boot,
                 const config_enum_entry* values, GucContext context) {
    DefineCustomEnumVariable(name, description, nullptr, variable, boot, values, context, 0, nullptr, nullptr,
                             nullptr);
}

void define_string(const char* name, const char* description, char** variable, const char* boot, int flags,
                   GucStringCheckHook check) {
    DefineCustomStringVariable(name, description, nullptr, variable, boot, PGC_SIGHUP, flags, check, nullptr,
                               nullptr);
}

void define_identity(const char* name, const char* description, char** variable, const char* boot, int flags,
                     GucStringCheckHook check) {
    DefineCustomStringVariable(name, description, nullptr, variable, boot, PGC_SIGHUP, flags, check,
                               note_identity_change, nullptr);
}

/// What only superusers and members of pg_read_all_settings may see, and only who asks for it by name.
void define_secret(const char* name, const char* description, char** variable,
                   GucStringCheckHook check = nullptr) {
    define_string(name, description, variable, "", GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
                  check);
}

void define_redis_settings() {
    using namespace settings;
    define_bool("cache_ext.redis_enabled", "Tells Redis what is invalidated.", &redis_enabled, false,
                PGC_SIGHUP);
    define_secret("cache_ext.redis_url",
                  "Where Redis is: redis://, rediss://, redis-sentinel://, unix: or https://.", &redis_url,
                  check_redis_url);
    define_secret("cache_ext.redis_token", "Token of Redis' REST interface.", &redis_token);
    define_string("cache_ext.redis_prefix", "What stands before every key in Redis.", &redis_prefix, "", 0,
                  nullptr);
    define_string("cache_ext.redis_namespaces",
                  "Prefixes of the keys that may be deleted in Redis, as a list.", &redis_namespaces,
                  "auth:,db_query:,storage:,cache:,tag:", GUC_LIST_INPUT, check_redis_namespaces);
    define_string("cache_ext.redis_channel", "Channel on which invalidations are published; empty for none.",
                  &redis_channel, "cache_ext:invalidate", 0, nullptr);
    define_string("cache_ext.redis_stream", "Stream in which invalidations are kept; empty for none.",
                  &redis_stream, "cache_ext:stream", 0, nullptr);
    define_int("cache_ext.redis_stream_maxlen", "About how many invalidations the stream keeps.",
               &redis_stream_maxlen, 10000, 1, INT_MAX, PGC_SIGHUP, 0);
    define_string("cache_ext.redis_table_pattern",
                  "Keys that a write to a watched table deletes in Redis; {table} is the table's name.",
                  &redis_table_pattern, "db_query:{table}:*", 0, nullptr);
    define_string("cache_ext.redis_listing_pattern",
                  "Keys that a change of storage objects deletes in Redis; {bucket} is their bucket.",
                  &redis_listing_pattern, "storage:list:{bucket}:*", 0, nullptr);
    define_bool("cache_ext.redis_queues", "Delivers the items of queues to lists in Redis.", &redis_queues,
                false, PGC_SIGHUP);
    define_bool("cache_ext.redis_subscribe", "Invalidates what others tell on the channel.", &redis_subscribe,
                false, PGC_SIGHUP);
    define_int("cache_ext.redis_timeout", "Longest wait for Redis.", &redis_timeout_ms, 250, 1, 600'000,
               PGC_SIGHUP, GUC_UNIT_MS);
    define_int("cache_ext.redis_max_backlog", "Most rows that wait for Redis before they become one.",
               &redis_max_backlog, 100'000, 1, INT_MAX, PGC_SIGHUP, 0);
}

}  // namespace

void define_settings() {
    using namespace settings;
    // A definition that comes after the server's start must not be PGC_POSTMASTER: the server calls that FATAL.
    const bool preloaded = process_shared_preload_libraries_in_progress;

    define_bool("cache_ext.enabled", "Uses the cache; off: every read misses and nothing is stored.",
                &enabled, true, PGC_USERSET);
    define_int("cache_ext.memory", "Size of the shared memory that holds the entries.", &memory_kb,
               (preloaded ? 64 : 16) * kKbPerMb, 1 * kKbPerMb, INT_MAX,
               preloaded ? PGC_POSTMASTER : PGC_SIGHUP, GUC_UNIT_KB);
    // Seconds, not milliseconds: an int of milliseconds ends at 24 days, and a default below a second has no use.
    define_int("cache_ext.default_duration", "Life of an entry that is set without a duration or a policy.",
               &default_duration_s, 10 * kSecondsPerMinute, 1, INT_MAX, PGC_USERSET, GUC_UNIT_S);
    define_int("cache_ext.max_entry_size", "Largest value that is stored; larger ones are refused.",
               &max_entry_size_kb, 1 * kKbPerMb, 1, static_cast<int>(MaxAllocSize / 1024), PGC_SIGHUP,
               GUC_UNIT_KB);
    define_int("cache_ext.max_private_memory",
               "Share of the memory that one private scope may hold, in per cent.", &max_private_memory, 10,
               1, 100, PGC_SIGHUP, 0);
    define_int("cache_ext.max_private_total",
               "Share of the memory that all private scopes may hold together, in per cent.",
               &max_private_total, 50, 1, 100, PGC_SIGHUP, 0);
    define_enum("cache_ext.compression", "How values above cache_ext.compression_threshold are compressed.",
                &compression, kDefaultCompression, kCompressionMethods, PGC_SIGHUP);
    define_int("cache_ext.compression_threshold", "Size from which values are compressed.",
               &compression_threshold, 2048, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_BYTE);

    define_identity(
        "cache_ext.scope_claims",
        "Claims of request.jwt.claims that make a private scope: \"*\" for all but those that only mark "
        "time and token, or a list of names.",
        &scope_claims, "*", GUC_LIST_INPUT, check_scope_claims);
    define_identity("cache_ext.scope_settings",
                    "Settings whose values make a private scope, as a list of names.", &scope_settings, "",
                    GUC_LIST_INPUT, check_scope_settings);
    define_identity("cache_ext.shared_writers", "Role whose members read and write the shared scope.",
                    &shared_writers, "", 0, check_shared_writers);

    define_enum("cache_ext.serializable",
                "What transactions at SERIALIZABLE do with the cache: bypass it or use it.", &serializable,
                kSerializableBypass, kSerializableModes, PGC_USERSET);
    define_int(
        "cache_ext.single_flight_timeout",
        "Longest wait for a value that another session is computing; a quarter of statement_timeout if that "
        "is less.",
        &single_flight_timeout_ms, 5000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
    define_int("cache_ext.refresh_pause",
               "Shortest time from a failed refresh of an entry to the next; 0 for none.", &refresh_pause_ms,
               1000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS);
    define_bool("cache_ext.log_operations", "Logs each operation of the cache.", &log_operations, false,
                PGC_SUSET);
    define_int("cache_ext.cleanup_interval", "Time between two sweeps of expired entries.",
               &cleanup_interval_s, 3600, 1, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S);
    define_int("cache_ext.warm_rate",
               "Entries of cached functions that are computed in a second to warm the cache; 0 for none.",
               &warm_rate, 20, 0, 10000, PGC_SIGHUP, 0);
    define_int("cache_ext.alert_hit_rate", "Hit rate in per cent below which the health report warns.",
               &alert_hit_rate, 70, 0, 100, PGC_SIGHUP, 0);
    define_bool("cache_ext.wal_log_invalidations",
                "Writes invalidations to the WAL, so that standbys follow them.", &wal_log_invalidations,
                false, PGC_SIGHUP);

    define_redis_settings();
    define_secret("cache_ext.jwt_secret", "Secret that signs links to storage objects.", &jwt_secret);

    testing::init();
    MarkGUCPrefixReserved("cache_ext");
}

}  // namespace cache_ext::pg
