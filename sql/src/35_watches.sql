-- Watched tables.

CREATE FUNCTION watch_table(p_table regclass, p_tags text[], p_when text DEFAULT NULL, p_cascade text DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'watch_table';
COMMENT ON FUNCTION watch_table(regclass, text[], text, text) IS
    'from now on whatever writes the table invalidates the tags; {column} stands for a column of the old and new row; replaces the watch that the table had';

CREATE FUNCTION unwatch_table(p_table regclass)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'unwatch_table';
COMMENT ON FUNCTION unwatch_table(regclass) IS 'removes the watch of a table; whether there was one';

-- Whoever may execute these could make a trigger that runs SQL with another's rights: nobody is granted that.
CREATE FUNCTION cache_ext_internal.watched_table_changed()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'watched_table_changed';
COMMENT ON FUNCTION cache_ext_internal.watched_table_changed() IS 'trigger of a watched table, made by watch_table';

CREATE FUNCTION cache_ext_internal.watched_member_changed()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'watched_member_changed';
COMMENT ON FUNCTION cache_ext_internal.watched_member_changed() IS
    'the same on a partition of a watched table, or on a table that inherits from it';

CREATE FUNCTION cache_ext_internal.trigger_arguments(p_arguments bytea)
RETURNS text[] LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'trigger_arguments';
COMMENT ON FUNCTION cache_ext_internal.trigger_arguments(bytea) IS 'the arguments of a trigger, from pg_trigger.tgargs';

CREATE VIEW cache_watches AS
SELECT w.tgrelid::pg_catalog.regclass AS watched_table,
       w.arguments[6:] AS tags,
       nullif(w.arguments[4], '') AS when_condition,
       nullif(w.arguments[5], '') AS cascade_query,
       nullif(w.arguments[2], '') AS owner,
       w.enabled
FROM (
    SELECT t.tgrelid, cache_ext_internal.trigger_arguments((pg_catalog.array_agg(t.tgargs))[1]) AS arguments,
           pg_catalog.bool_and(t.tgenabled OPERATOR(pg_catalog.<>) 'D') AS enabled
    FROM pg_catalog.pg_trigger t
    WHERE t.tgfoid OPERATOR(pg_catalog.=) 'cache_ext_internal.watched_table_changed'::pg_catalog.regproc
    GROUP BY t.tgrelid
) w;
COMMENT ON VIEW cache_watches IS 'the watched tables';
COMMENT ON COLUMN cache_watches.tags IS 'tags and templates of tags';
COMMENT ON COLUMN cache_watches.when_condition IS 'which rows count; null: all';
COMMENT ON COLUMN cache_watches.cascade_query IS 'the query that returns more tags';
COMMENT ON COLUMN cache_watches.owner IS
    'whose rights condition and cascade have, or the table''s owner where that is a superuser and the owner is none; null where there are none';
COMMENT ON COLUMN cache_watches.enabled IS 'false: a trigger of the watch has been disabled, and what it would see is missed';

-- Changed definitions of watched tables. Also where session_replication_role is replica.
CREATE FUNCTION cache_ext_internal.watch_ddl()
RETURNS event_trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'watch_ddl';
COMMENT ON FUNCTION cache_ext_internal.watch_ddl() IS 'keeps watches in step with the definitions of their tables';
