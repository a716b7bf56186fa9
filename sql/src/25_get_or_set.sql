-- Computing what is missing.

CREATE FUNCTION get_or_set_cached_data(
    p_cache_key text, p_query text, p_cache_duration interval DEFAULT NULL, p_cache_tags text[] DEFAULT NULL,
    p_params jsonb DEFAULT '[]')
RETURNS jsonb LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'get_or_set_cached_data';
COMMENT ON FUNCTION get_or_set_cached_data(text, text, interval, text[], jsonb) IS
    'the cached value of a key; on a miss runs the query, once for all sessions, and stores its result; without tags the result depends on the tables that it read';
