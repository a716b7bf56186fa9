-- Invalidating entries.

CREATE FUNCTION invalidate_cache_key(p_cache_key text)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'invalidate_cache_key';
COMMENT ON FUNCTION invalidate_cache_key(text) IS 'removes the entry of a key; whether there was one';

CREATE FUNCTION invalidate_cache_by_tags(p_tags text[])
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'invalidate_cache_by_tags';
COMMENT ON FUNCTION invalidate_cache_by_tags(text[]) IS
    'removes the entries that carry any of the tags; how many of those that the caller may see';

CREATE FUNCTION invalidate_cache_by_pattern(p_pattern text)
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'invalidate_cache_by_pattern';
COMMENT ON FUNCTION invalidate_cache_by_pattern(text) IS
    'removes the entries whose keys match a pattern of *, ?, [a-z] and \; how many';

CREATE FUNCTION expire_cache_by_tags(p_tags text[])
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'expire_cache_by_tags';
COMMENT ON FUNCTION expire_cache_by_tags(text[]) IS
    'marks the entries that carry any of the tags as stale where they have a grace, and removes the others; how many';

CREATE FUNCTION trigger_cache_invalidation()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'trigger_cache_invalidation';
COMMENT ON FUNCTION trigger_cache_invalidation() IS
    'AFTER trigger that invalidates the tags given as arguments; {column} stands for a column of the old and new row';
