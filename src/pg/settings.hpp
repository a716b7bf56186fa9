#pragma once

// The settings cache_ext.*: plain variables that the server's configuration system writes and that cost one
// load to read. Names, defaults and meanings are those of docs/settings.md. Readers outside settings.cpp never
// write them.

namespace cache_ext::pg {

/// Values of cache_ext.serializable.
enum SerializableMode : int { kSerializableBypass, kSerializableAllow };

/// Values of cache_ext.compression. kCompressLz4 only where the server was built with it.
enum CompressionMethod : int { kCompressOff, kCompressPglz, kCompressLz4 };

namespace settings {

extern bool enabled;                  ///< off: every read misses, nothing is stored
extern int memory_kb;                 ///< size of the region, in kB, read when it is made
extern int default_duration_s;        ///< life of an entry set without one, in seconds
extern int max_entry_size_kb;         ///< larger values are refused
extern int max_private_memory;        ///< per cent of the region that one private scope may hold
extern int max_private_total;         ///< per cent of the region that all private scopes may hold together
extern int compression;               ///< a CompressionMethod
extern int compression_threshold;     ///< bytes from which values are compressed
extern char* scope_claims;            ///< `*` or a list of top-level claims
extern char* scope_settings;          ///< a list of names of settings
extern char* shared_writers;          ///< a role's name, or empty
extern int serializable;              ///< a SerializableMode
extern int refresh_pause_ms;          ///< shortest time between a failed refresh and the next
extern int single_flight_timeout_ms;  ///< longest wait for another session's computation
extern bool log_operations;           ///< log each operation
extern int cleanup_interval_s;        ///< seconds between two sweeps of expired entries
extern int warm_rate;                 ///< entries a second that warming computes; 0 = none
extern int alert_hit_rate;            ///< hit rate in per cent below which health says warning
extern bool wal_log_invalidations;    ///< WAL-log invalidations, for standbys
extern bool
    redis_enabled;  ///< tell Redis what was invalidated; see pg/redis_settings.hpp for what a database overrides
extern char* redis_url;          ///< where it is; secret
extern char* redis_token;        ///< of its REST interface; secret
extern char* redis_prefix;       ///< before every key there
extern char* redis_namespaces;   ///< a list of prefixes: only keys that begin so are ever deleted there
extern char* redis_channel;      ///< that messages are published on; empty: none are
extern char* redis_stream;       ///< that messages are kept in; empty: none are
extern int redis_stream_maxlen;  ///< about how many
extern char*
    redis_table_pattern;  ///< keys that a write to a watched table deletes there; {table} is its name
extern char*
    redis_listing_pattern;     ///< those that a change of storage objects deletes; {bucket} is where they are
extern bool redis_queues;      ///< deliver the items of queues to lists there
extern bool redis_subscribe;   ///< invalidate what others tell on the channel
extern int redis_timeout_ms;   ///< longest wait for an answer
extern int redis_max_backlog;  ///< rows of the outbox that are kept while Redis is away
extern char* jwt_secret;       ///< signs links to storage objects; empty: there is none here

}  // namespace settings

/// Defines every setting and reserves the prefix. Called once, from _PG_init. cache_ext.memory
/// is fixed at server start (default 64 MB) when that runs in shared_preload_libraries, and otherwise taken
/// from the configuration file when the region is made (default 16 MB).
void define_settings();

}  // namespace cache_ext::pg
