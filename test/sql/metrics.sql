-- The cache in numbers.
SET client_min_messages = warning;
CREATE EXTENSION cache_ext;
SELECT parameter_name, data_type FROM information_schema.parameters
WHERE specific_name LIKE 'get_cache_metrics%' AND parameter_mode = 'OUT' ORDER BY ordinal_position;

-- Nothing yet.
SELECT reset_cache_stats();
SELECT total_entries, average_hits, max_hits, reused_entries, oldest_entry, newest_entry, expired_entries, hits, misses, hit_rate, stale_hits,
       sets, refused_sets, evictions, invalidations, avg_hit_us, avg_compute_ms, time_saved_ms
FROM get_cache_metrics();
SELECT memory_used_bytes > 0 AS used, memory_used_bytes <= memory_limit_bytes AS within, attached_by IN ('preload', 'demand') AS attached,
       worker_state IS NOT NULL AS has_worker_state, counted_since <= clock_timestamp() AS counted
FROM get_cache_metrics();

SELECT set_cached_data('k' || i, to_jsonb(i), '1 hour', '{t}') FROM generate_series(1, 4) i;
SELECT get_cached_data('k1'), get_cached_data('k1'), get_cached_data('k2'), get_cached_data('absent');
SELECT set_cached_data('too large', to_jsonb(repeat('x', 2000000)));
SELECT invalidate_cache_key('k4');
SELECT set_cache_policy('g:', p_grace => '1 hour');
SELECT set_cached_data('g:1', '1', null, '{g}');
SELECT expire_cache_by_tags('{g}');
SELECT total_entries, average_hits, max_hits, reused_entries, oldest_entry <= newest_entry AS ordered, expired_entries, hits, misses, hit_rate, invalidations
FROM get_cache_metrics();
SELECT get_cache_stats() = to_jsonb(m) AS same FROM get_cache_metrics() m;
SELECT (s ->> 'total_entries')::int AS total, s ? 'worker_state' AS complete FROM get_cache_stats() s;

-- What was read most often.
SELECT cache_key, hit_count, cache_tags, scope, size_bytes > 0 AS has_size FROM get_top_cache_entries() ORDER BY hit_count DESC, cache_key;
SELECT cache_key, hit_count FROM get_top_cache_entries(1);
SELECT count(*) FROM get_top_cache_entries(0);
SELECT count(*) FROM get_top_cache_entries(NULL);
SELECT * FROM get_top_cache_entries(-1);

-- Resetting leaves the entries as they are.
SELECT reset_cache_stats();
SELECT total_entries, max_hits, hits, misses, hit_rate, sets, invalidations FROM get_cache_metrics();
SELECT get_cached_data('k1'), get_cached_data('absent');
SELECT hits, misses, hit_rate FROM get_cache_metrics();

-- They are there in any transaction, whatever is switched off.
BEGIN READ ONLY;
SET LOCAL cache_ext.enabled = off;
SELECT total_entries FROM get_cache_metrics();
COMMIT;

-- Clearing everything wants to be confirmed, and can be rolled back.
SELECT emergency_clear_cache('no such database');
SELECT emergency_clear_cache('');
SELECT emergency_clear_cache(NULL);
BEGIN;
SELECT set_cached_data('pending', '1');
SELECT emergency_clear_cache(current_database());
SELECT cache_exists('k1'), cache_exists('pending'), (SELECT count(*) FROM query_cache);
ROLLBACK;
SELECT get_cached_data('k1');
SELECT emergency_clear_cache(current_database());
SELECT cache_exists('k1'), (SELECT count(*) FROM query_cache);
SELECT total_entries FROM get_cache_metrics();
SELECT set_cached_data('k1', '"after"');
SELECT get_cached_data('k1');

DROP EXTENSION cache_ext;
