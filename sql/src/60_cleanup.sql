-- Removing what is of no use any more, and the log of it.

CREATE TABLE cache_cleanup_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cleaned_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    source text NOT NULL CHECK (source IN ('function', 'worker')),
    expired_entries integer NOT NULL,
    dead_entries integer NOT NULL,
    remaining_entries bigint NOT NULL,
    duration_ms double precision NOT NULL
);
COMMENT ON TABLE cache_cleanup_log IS 'what the cleanups of the last 30 days removed';
COMMENT ON COLUMN cache_cleanup_log.source IS 'who cleaned up: the background worker or a call of cleanup_expired_cache';
COMMENT ON COLUMN cache_cleanup_log.expired_entries IS 'entries removed because their time was over';
COMMENT ON COLUMN cache_cleanup_log.dead_entries IS 'entries removed because what they were computed from had changed';
COMMENT ON COLUMN cache_cleanup_log.remaining_entries IS 'entries of this database that stayed';
CREATE INDEX cache_cleanup_log_cleaned_at ON cache_cleanup_log (cleaned_at);

CREATE FUNCTION cleanup_expired_cache()
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'cleanup_expired_cache';
COMMENT ON FUNCTION cleanup_expired_cache() IS
    'removes the expired and invalidated entries of this database now and logs it; how many';

CREATE FUNCTION get_cache_cleanup_stats(p_days integer DEFAULT 7)
RETURNS TABLE (
    day date, runs bigint, expired_entries bigint, dead_entries bigint, total_removed bigint, avg_duration_ms double precision)
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF p_days IS NULL OR p_days < 1 THEN
        RAISE EXCEPTION 'number of days must be at least 1'
            USING ERRCODE = 'invalid_parameter_value', DETAIL = pg_catalog.format('It is %s.', coalesce(p_days::text, 'null')),
                  HINT = 'The log holds the last 30 days.';
    END IF;
    RETURN QUERY
        SELECT l.cleaned_at::date, count(*), sum(l.expired_entries), sum(l.dead_entries),
               sum(l.expired_entries) + sum(l.dead_entries), avg(l.duration_ms)
        FROM @extschema@.cache_cleanup_log l
        WHERE l.cleaned_at::date > CURRENT_DATE - p_days
        GROUP BY 1 ORDER BY 1 DESC;
END
$$;
COMMENT ON FUNCTION get_cache_cleanup_stats(integer) IS 'what was cleaned up on each of the last days, today included';
