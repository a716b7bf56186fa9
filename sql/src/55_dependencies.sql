-- What depends on what, and why an entry went.

CREATE FUNCTION cache_ext_internal.look_at_function(p_function regprocedure, OUT kind text, OUT description text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'look_at_function';
COMMENT ON FUNCTION cache_ext_internal.look_at_function(regprocedure) IS
    'the tables that a function reads, as far as it can be seen without running it, and what it reads whose changes are not seen';

CREATE FUNCTION cache_ext_internal.dependencies(
    OUT cache_key text, OUT scope text, OUT kind text, OUT name text, OUT relation oid)
RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1000 COST 1000 AS 'MODULE_PATHNAME', 'dependencies';
COMMENT ON FUNCTION cache_ext_internal.dependencies() IS
    'what the live entries that the caller may see depend on: what cache_dependencies shows; whoever reads the view executes it';

CREATE VIEW cache_dependencies AS SELECT * FROM cache_ext_internal.dependencies();
COMMENT ON VIEW cache_dependencies IS
    'what the live entries that the caller may see depend on, a row for each tag and for each relation that was read while computing';
COMMENT ON COLUMN cache_dependencies.scope IS 'shared, or private: and the id of the scope';
COMMENT ON COLUMN cache_dependencies.kind IS 'tag, or relation: a table or materialized view that was read while the value was computed';
COMMENT ON COLUMN cache_dependencies.name IS 'the tag; or the name of the relation, with its schema where the search_path does not find it';
COMMENT ON COLUMN cache_dependencies.relation IS 'the OID of the relation';

CREATE FUNCTION explain_invalidation(
    p_cache_key text, OUT cache_key text, OUT scope text, OUT reason text, OUT name text, OUT relation oid, OUT at timestamptz,
    OUT transaction xid8, OUT status text)
RETURNS SETOF record LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 COST 1000 AS 'MODULE_PATHNAME', 'explain_invalidation';
COMMENT ON FUNCTION explain_invalidation(text) IS
    'why the entry of this key last went, as far as it is remembered: the reason, what was invalidated, when, and by which transaction';
