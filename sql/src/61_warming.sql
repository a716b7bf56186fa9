-- Computing what is used most before somebody asks for it.

CREATE TABLE cache_ext_internal.warm_list (
    cache_key text COLLATE "C" PRIMARY KEY,
    hits bigint NOT NULL,
    noted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE cache_ext_internal.warm_list IS 'the shared results of cached functions that were used most, noted before each sweep';
COMMENT ON COLUMN cache_ext_internal.warm_list.noted_at IS 'when it was last met in the cache';

CREATE FUNCTION warm_cache(p_limit integer DEFAULT 100)
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'warm_cache';
COMMENT ON FUNCTION warm_cache(integer) IS
    'computes the most used shared results of cached functions that are not in the cache any more, each as its function''s owner; how many';
