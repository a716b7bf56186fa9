-- Reading and writing entries.

CREATE FUNCTION get_cached_data(p_cache_key text, p_cache_duration interval DEFAULT NULL)
RETURNS jsonb LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'get_cached_data';
COMMENT ON FUNCTION get_cached_data(text, interval) IS
    'the cached value of a key, or NULL on a miss; with a duration, only if it is no older than that';

CREATE FUNCTION get_cached_many(p_cache_keys text[])
RETURNS TABLE (cache_key text, cache_data jsonb, found boolean)
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100 AS 'MODULE_PATHNAME', 'get_cached_many';
COMMENT ON FUNCTION get_cached_many(text[]) IS 'the cached values of several keys, one row each, in the order asked';

CREATE FUNCTION get_cached_entry(
    p_cache_key text,
    OUT cache_data jsonb, OUT cache_tags text[], OUT created_at timestamptz, OUT expires_at timestamptz,
    OUT hit_count bigint, OUT is_stale boolean, OUT lease text)
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'get_cached_entry';
COMMENT ON FUNCTION get_cached_entry(text) IS
    'the entry of a key with its description, within its grace also a stale one, so marked; on a miss only the lease to be passed to set_cached_data';

CREATE FUNCTION cache_exists(p_cache_key text)
RETURNS boolean LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'cache_exists';
COMMENT ON FUNCTION cache_exists(text) IS 'whether a read of the key would hit; not counted as one';

CREATE FUNCTION set_cached_data(
    p_cache_key text, p_cache_data jsonb, p_cache_duration interval DEFAULT NULL, p_cache_tags text[] DEFAULT '{}',
    p_lease text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'set_cached_data';
COMMENT ON FUNCTION set_cached_data(text, jsonb, interval, text[], text) IS
    'stores a value: readable here at once, by others from commit on; false if it was refused';

CREATE FUNCTION add_cached_data(
    p_cache_key text, p_cache_data jsonb, p_cache_duration interval DEFAULT NULL, p_cache_tags text[] DEFAULT '{}',
    p_lease text DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'add_cached_data';
COMMENT ON FUNCTION add_cached_data(text, jsonb, interval, text[], text) IS
    'as set_cached_data, but only where no live entry is';

CREATE FUNCTION update_cache_hit_count(p_cache_key text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'update_cache_hit_count';
COMMENT ON FUNCTION update_cache_hit_count(text) IS 'marks an entry as used now; hits are counted by reading';

CREATE FUNCTION make_cache_key(p_namespace text, p_name text, p_params jsonb DEFAULT NULL)
RETURNS text LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'make_cache_key';
COMMENT ON FUNCTION make_cache_key(text, text, jsonb) IS
    'a key namespace:name:hash, the same for equal parameters';
