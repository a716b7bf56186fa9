-- The cache as a table to look at and to delete from.

CREATE FUNCTION cache_ext_internal.entries(
    p_values boolean,
    OUT cache_key text, OUT cache_data jsonb, OUT cache_tags text[], OUT created_at timestamptz, OUT expires_at timestamptz,
    OUT last_accessed timestamptz, OUT hit_count bigint, OUT tier text, OUT scope text, OUT size_bytes bigint)
RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 1000 AS 'MODULE_PATHNAME', 'entries';
COMMENT ON FUNCTION cache_ext_internal.entries(boolean) IS
    'the live entries that the caller may see, with their values or without: what query_cache shows; whoever reads the view executes it';

CREATE VIEW query_cache AS SELECT * FROM cache_ext_internal.entries(true);
COMMENT ON VIEW query_cache IS
    'the live entries that the caller may read; for shared callers all of the database, private values as NULL. DELETE invalidates them';
COMMENT ON COLUMN query_cache.last_accessed IS 'when it was last read, or else stored; may lag a second';
COMMENT ON COLUMN query_cache.hit_count IS 'how often it was read; may lag a second';
COMMENT ON COLUMN query_cache.tier IS 'pending: set by this transaction and not yet committed; memory: in the region';
COMMENT ON COLUMN query_cache.scope IS 'shared, or private: and the id of the scope';
COMMENT ON COLUMN query_cache.size_bytes IS 'memory that it takes, with key, tags and description';

CREATE FUNCTION cache_ext_internal.delete_entry()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'delete_entry';
COMMENT ON FUNCTION cache_ext_internal.delete_entry() IS 'invalidates what is deleted from query_cache';

CREATE TRIGGER delete_entry INSTEAD OF DELETE ON query_cache
FOR EACH ROW EXECUTE FUNCTION cache_ext_internal.delete_entry();
