-- Looking after the cache.

CREATE FUNCTION get_cache_metrics(
    OUT total_entries bigint, OUT average_hits double precision, OUT max_hits bigint, OUT reused_entries bigint,
    OUT oldest_entry timestamptz, OUT newest_entry timestamptz, OUT expired_entries bigint,
    OUT hits bigint, OUT misses bigint, OUT hit_rate double precision, OUT stale_hits bigint,
    OUT sets bigint, OUT refused_sets bigint, OUT evictions bigint, OUT invalidations bigint,
    OUT memory_used_bytes bigint, OUT memory_limit_bytes bigint,
    OUT avg_hit_us double precision, OUT avg_compute_ms double precision, OUT time_saved_ms double precision,
    OUT attached_by text, OUT worker_state text,
    OUT index_bytes bigint, OUT tag_count bigint, OUT scope_count bigint, OUT private_entries bigint, OUT private_bytes bigint,
    OUT all_entries bigint, OUT swept_entries bigint, OUT clock bigint, OUT counted_since timestamptz)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'get_cache_metrics';
COMMENT ON FUNCTION get_cache_metrics() IS
    'the cache in numbers: total_entries to expired_entries are this database''s, all others the whole server''s; hit_rate is per cent';

CREATE FUNCTION get_cache_stats()
RETURNS jsonb LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT pg_catalog.to_jsonb(m) FROM get_cache_metrics() m;
END;
COMMENT ON FUNCTION get_cache_stats() IS 'the same as get_cache_metrics, as one object';

CREATE FUNCTION get_top_cache_entries(
    p_limit integer DEFAULT 20,
    OUT cache_key text, OUT hit_count bigint, OUT created_at timestamptz, OUT expires_at timestamptz, OUT cache_tags text[],
    OUT last_accessed timestamptz, OUT scope text, OUT size_bytes bigint)
RETURNS SETOF record LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 20
BEGIN ATOMIC
    SELECT e.cache_key, e.hit_count, e.created_at, e.expires_at, e.cache_tags, e.last_accessed, e.scope, e.size_bytes
    FROM cache_ext_internal.entries(false) e
    ORDER BY e.hit_count DESC, e.last_accessed DESC, e.cache_key, e.scope
    LIMIT coalesce(p_limit, 20);
END;
COMMENT ON FUNCTION get_top_cache_entries(integer) IS 'the entries of query_cache that were read most often, without their values';

CREATE FUNCTION reset_cache_stats()
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'reset_cache_stats';
COMMENT ON FUNCTION reset_cache_stats() IS
    'begins counting anew what get_cache_metrics counts for the whole server; the hits of entries stay';

CREATE FUNCTION emergency_clear_cache(p_confirm text)
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'emergency_clear_cache';
COMMENT ON FUNCTION emergency_clear_cache(text) IS
    'removes all entries of this database when the transaction commits; how many. p_confirm is the database''s name';
