-- get_or_set_cached_data without tags: the result lives until something that it was computed from changes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
CREATE SCHEMA deps;
SET search_path = deps, public;
CREATE TABLE a (id int PRIMARY KEY, v int);
CREATE TABLE b (id int PRIMARY KEY REFERENCES a ON DELETE CASCADE ON UPDATE CASCADE, v int);
CREATE TABLE unread (v int);
CREATE TABLE parts (id int, v int) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2, 3);
CREATE TABLE parent (v int);
CREATE TABLE child () INHERITS (parent);
CREATE MATERIALIZED VIEW stored AS SELECT count(*) AS n FROM a;
CREATE TABLE allowed (who name);
CREATE TABLE guarded (v int);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON guarded USING (EXISTS (SELECT FROM allowed WHERE who = current_user));
CREATE VIEW over_b AS SELECT v FROM b;
CREATE FUNCTION inlined() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM deps.b';
CREATE FUNCTION nested() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT count(*) FROM deps.b); END $$;
CREATE FUNCTION twice_nested() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT deps.nested()'; RETURN deps.nested(); END $$;
INSERT INTO a SELECT i, i FROM generate_series(1, 5) i;
INSERT INTO b SELECT i, i FROM generate_series(1, 3) i;
INSERT INTO parts VALUES (1, 1), (2, 2);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (2);

-- What is depended on for the first time is kept once no transaction is left that may have written it unnoticed.
CREATE PROCEDURE fill(query text) LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        PERFORM get_or_set_cached_data('deps', query);
        COMMIT;
        EXIT WHEN cache_exists('deps');
    END LOOP;
END $$;

-- Whether the result of the query outlives the statement; and whether what is then there, or is computed, is right.
CREATE PROCEDURE try(query text, change text) LANGUAGE plpgsql AS $$
DECLARE
    survived boolean;
    is_right boolean;
BEGIN
    CALL deps.fill(query);
    EXECUTE change;
    COMMIT;
    survived := cache_exists('deps');
    EXECUTE format('SELECT get_or_set_cached_data(''deps'', %L) = (SELECT jsonb_agg(to_jsonb(q)) FROM (%s) q)', query, query) INTO is_right;
    RAISE NOTICE '%: %, %', change, CASE WHEN survived THEN 'still there' ELSE 'gone' END, CASE WHEN is_right THEN 'right' ELSE 'WRONG' END;
    PERFORM invalidate_cache_key('deps');
    COMMIT;
END $$;

-- Writes to the table.
CALL try('SELECT count(*), sum(v) FROM a', 'INSERT INTO a VALUES (6, 6)');
CALL try('SELECT count(*), sum(v) FROM a', 'UPDATE a SET v = v + 1 WHERE id = 6');
CALL try('SELECT count(*), sum(v) FROM a', 'DELETE FROM a WHERE id = 6');
CALL try('SELECT count(*), sum(v) FROM a', 'MERGE INTO a USING (VALUES (6)) n (id) ON a.id = n.id WHEN NOT MATCHED THEN INSERT VALUES (n.id, 0)');
CALL try('SELECT count(*), sum(v) FROM a', 'INSERT INTO a VALUES (6, 6) ON CONFLICT (id) DO UPDATE SET v = 7');
CALL try('SELECT count(*), sum(v) FROM a', 'WITH d AS (DELETE FROM a WHERE id = 6 RETURNING id) SELECT FROM d');
CALL try('SELECT count(*), sum(v) FROM a', 'COPY a FROM PROGRAM ''echo 6,1'' (FORMAT csv)');
CALL try('SELECT count(*), sum(v) FROM b', 'DELETE FROM a WHERE id = 3');
CALL try('SELECT count(*), sum(id) FROM b', 'UPDATE a SET id = 10 WHERE id = 2');
CALL try('SELECT count(*), sum(v) FROM b', 'TRUNCATE b');
CALL try('SELECT v FROM stored CROSS JOIN (VALUES (1)) x (v) WHERE n > 0', 'REFRESH MATERIALIZED VIEW stored');
INSERT INTO b VALUES (1, 1);

-- Other tables, and statements that write nothing.
CALL try('SELECT count(*), sum(v) FROM a', 'INSERT INTO unread VALUES (1)');
CALL try('SELECT count(*), sum(v) FROM a', 'UPDATE a SET v = 0 WHERE false');
CALL try('SELECT count(*), sum(v) FROM a', 'SELECT FROM a FOR UPDATE');
CALL try('SELECT count(*), sum(v) FROM a', 'CREATE TEMPORARY TABLE mine (id serial PRIMARY KEY, v text)');
CALL try('SELECT count(*), sum(v) FROM a', 'INSERT INTO mine (v) VALUES (1)');
CALL try('SELECT count(*), sum(v) FROM a', 'DROP TABLE mine');
CALL try('SELECT count(*), sum(v) FROM a', 'CREATE INDEX ON unread (v)');
CALL try('SELECT count(*), sum(v) FROM a', 'ANALYZE a');

-- Read through views, functions, policies; partitions and children.
CALL try('SELECT v FROM over_b', 'UPDATE b SET v = v + 1');
CALL try('SELECT inlined()', 'INSERT INTO b VALUES (4, 4)');
CALL try('SELECT nested()', 'DELETE FROM b WHERE id = 4');
CALL try('SELECT twice_nested()', 'INSERT INTO b VALUES (4, 4)');
CALL try('SELECT 1 AS x WHERE EXISTS (SELECT FROM b WHERE id = 4)', 'UPDATE b SET v = v + 1');
CALL try('SELECT sum(v) FROM parts', 'INSERT INTO parts VALUES (3, 3)');
CALL try('SELECT sum(v) FROM parts WHERE id = 1', 'INSERT INTO parts VALUES (2, 2)');
CALL try('SELECT sum(v) FROM parts WHERE id = 1', 'UPDATE parts SET id = 1 WHERE id = 2');
CALL try('SELECT sum(v) FROM parts', 'CREATE TABLE parts_4 PARTITION OF parts FOR VALUES IN (4)');
CALL try('SELECT sum(v) FROM parts', 'INSERT INTO parts VALUES (4, 4)');
CALL try('SELECT sum(v) FROM parts', 'ALTER TABLE parts DETACH PARTITION parts_4');
CALL try('SELECT sum(v) FROM parts', 'ALTER TABLE parts ATTACH PARTITION parts_4 FOR VALUES IN (4)');
CALL try('SELECT sum(v) FROM parts', 'DROP TABLE parts_4');
CALL try('SELECT sum(v) FROM parent', 'UPDATE child SET v = 5');
CALL try('SELECT sum(v) FROM ONLY parent', 'UPDATE child SET v = 6');
CALL try('SELECT sum(v) FROM parent', 'CREATE TABLE child_2 (v int) INHERITS (parent)');
CALL try('SELECT sum(v) FROM parent', 'INSERT INTO child_2 VALUES (9)');

-- Changed definitions and privileges.
CALL try('SELECT count(*) FROM a', 'ALTER TABLE a ADD COLUMN w int');
CALL try('SELECT sum(v) FROM a', 'ALTER TABLE a ALTER v TYPE bigint USING v * 2');
CALL try('SELECT v FROM over_b', 'CREATE OR REPLACE VIEW over_b AS SELECT v + 1 AS v FROM b');
CALL try('SELECT nested()', 'CREATE OR REPLACE FUNCTION nested() RETURNS bigint LANGUAGE sql AS ''SELECT 77::bigint''');
CALL try('SELECT count(*) FROM a', 'GRANT SELECT ON a TO PUBLIC');
CALL try('SELECT count(*) FROM guarded', 'DROP POLICY p ON guarded');
CREATE POLICY p ON guarded USING (EXISTS (SELECT FROM allowed WHERE who = current_user));

-- Row security reads tables too.
CREATE ROLE regress_deps_reader;
GRANT USAGE ON SCHEMA deps TO regress_deps_reader;
GRANT SELECT ON guarded, allowed TO regress_deps_reader;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO regress_deps_reader', 'get_or_set_cached_data(text, text, interval, text[], jsonb)'::regprocedure);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO regress_deps_reader', 'cache_exists(text)'::regprocedure);
END $$;
INSERT INTO guarded VALUES (1);
SET ROLE regress_deps_reader;
CALL fill('SELECT count(*) FROM guarded');
SELECT get_or_set_cached_data('deps', 'SELECT count(*) FROM guarded');
RESET ROLE;
INSERT INTO allowed VALUES ('regress_deps_reader');
SET ROLE regress_deps_reader;
SELECT cache_exists('deps');
SELECT get_or_set_cached_data('deps', 'SELECT count(*) FROM guarded');
RESET ROLE;
SELECT invalidate_cache_key('deps');

-- What one caller may have put there goes into nothing that all are given.
SELECT set_cache_policy('shared:', p_shared => true);
CREATE FUNCTION for_all() RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS $$
    SELECT get_or_set_cached_data('shared:deps', $q$ SELECT get_or_set_cached_data('deps:mine', 'SELECT count(*) FROM deps.allowed') AS a $q$) $$;
SET ROLE regress_deps_reader;
SELECT get_or_set_cached_data('deps:mine', 'SELECT 666 AS count');
SELECT for_all(), cache_exists('shared:deps');
RESET ROLE;
SELECT for_all(), cache_exists('shared:deps');
SELECT invalidate_cache_by_pattern('*deps*'), drop_cache_policy('shared:');

-- Rolled back: nothing has happened. Own writes are seen at once.
CALL fill('SELECT count(*) FROM b');
BEGIN;
INSERT INTO b VALUES (5, 5);
SELECT cache_exists('deps'), get_or_set_cached_data('deps', 'SELECT count(*) FROM b'), invalidate_cache_by_pattern('deps');
SELECT cache_exists('deps');
ROLLBACK;
SELECT cache_exists('deps');
BEGIN;
SAVEPOINT s;
TRUNCATE b;
SELECT cache_exists('deps');
ROLLBACK TO s;
SELECT cache_exists('deps');
INSERT INTO unread VALUES (1);
SELECT cache_exists('deps');
COMMIT;
SELECT cache_exists('deps');
BEGIN;
SAVEPOINT s;
UPDATE b SET v = 0;
RELEASE s;
SELECT cache_exists('deps');
COMMIT;
SELECT cache_exists('deps');
-- What a writing transaction computes from what it has not written is kept when it commits, unless it writes it later.
BEGIN;
INSERT INTO unread VALUES (2);
SELECT get_or_set_cached_data('deps', 'SELECT count(*) FROM b');
SELECT cache_exists('deps');
COMMIT;
SELECT cache_exists('deps');
SELECT invalidate_cache_key('deps');
BEGIN;
INSERT INTO unread VALUES (3);
SELECT get_or_set_cached_data('deps', 'SELECT count(*) FROM b');
SELECT cache_exists('deps');
DELETE FROM b WHERE id = 1;
SELECT cache_exists('deps');
COMMIT;
SELECT cache_exists('deps');

-- What depends on what, and why it went.
CALL fill('SELECT count(*) FROM over_b, parts');
SELECT kind, name, relation = name::regclass AS same FROM cache_dependencies WHERE cache_key = 'deps' ORDER BY name;
INSERT INTO parts VALUES (2, 2);
SELECT reason, name, relation::regclass, status FROM explain_invalidation('deps') WHERE scope = 'shared';
CALL fill('SELECT count(*) FROM over_b, parts');
SELECT reason, name, relation::regclass, status FROM explain_invalidation('deps') WHERE scope = 'shared';
COMMENT ON TABLE parts IS 'no change';
SELECT cache_exists('deps');
ALTER TABLE unread ADD COLUMN w int;
SELECT cache_exists('deps'), reason, name, relation, status FROM explain_invalidation('deps') WHERE scope = 'shared';
CALL fill('SELECT count(*) FROM b');
BEGIN;
UPDATE b SET v = v;
SELECT reason, name, relation::regclass, at FROM explain_invalidation('deps') WHERE scope = 'shared';
ROLLBACK;

-- Its own tags are not shown, and users' tags do not reach them.
CALL fill('SELECT count(*) FROM b');
SELECT cache_tags FROM get_cached_entry('deps');
SELECT invalidate_cache_by_tags(ARRAY['b'::regclass::oid::text, '0']), cache_exists('deps');

-- Writes that the server does not count.
SET track_counts = off;
INSERT INTO unread VALUES (4);
RESET track_counts;
SELECT cache_exists('deps');
CALL fill('SELECT count(*) FROM b');
BEGIN;
SET LOCAL track_counts = off;
INSERT INTO b VALUES (5, 5);
SET LOCAL track_counts = on;
SELECT cache_exists('deps');
COMMIT;
SELECT get_or_set_cached_data('deps', 'SELECT count(*) FROM b') -> 0 ->> 'count' = (SELECT count(*)::text FROM b) AS same;

-- What cannot be followed is computed each time.
CREATE SEQUENCE counter;
SELECT get_or_set_cached_data('deps:catalog', 'SELECT count(*) > 0 AS x FROM pg_class'), get_or_set_cached_data('deps:sequence', 'SELECT last_value FROM counter');
SELECT cache_exists('deps:catalog'), cache_exists('deps:sequence');
-- What another cached value went into depends on what that depends on, and ends with it; whether that was computed or there already.
CALL fill('SELECT count(*) FROM b');
SELECT get_or_set_cached_data('deps:outer', $$SELECT get_or_set_cached_data('deps', 'SELECT count(*) FROM b') AS a$$);
SELECT cache_exists('deps:outer');
UPDATE b SET v = v;
SELECT cache_exists('deps:outer');
SELECT get_or_set_cached_data('deps:outer', $$SELECT get_or_set_cached_data('deps', 'SELECT count(*) FROM b') AS a$$);
SELECT cache_exists('deps:outer');
UPDATE b SET v = v;
SELECT cache_exists('deps:outer');
SELECT set_cache_policy('deps:in', p_cache_duration => '1 minute', p_tags => '{deps_policy}');
SELECT get_or_set_cached_data('deps:inner', 'SELECT count(*) FROM b') IS NULL AS a;
SELECT get_or_set_cached_data('deps:outer', $$SELECT get_or_set_cached_data('deps:inner', '') AS a$$, '1 hour') IS NULL AS a;
SELECT cache_exists('deps:outer'), outermost.expires_at = inside.expires_at AS ends_with_it, outermost.cache_tags
FROM get_cached_entry('deps:outer') outermost, get_cached_entry('deps:inner') inside;
SELECT get_or_set_cached_data('deps:outermost', $$SELECT get_or_set_cached_data('deps:outer', '') AS a, get_cached_data('deps:inner')$$) IS NULL AS a;
SELECT cache_exists('deps:outermost'), invalidate_cache_by_tags('{deps_policy}');
SELECT cache_exists('deps:outermost'), cache_exists('deps:outer');
SELECT get_or_set_cached_data('deps:outer', $$SELECT get_or_set_cached_data('deps:inner', 'SELECT count(*) FROM b') AS a$$, '1 hour') IS NULL AS a;
SELECT cache_exists('deps:outer'), outermost.expires_at = inside.expires_at AS ends_with_it, outermost.cache_tags
FROM get_cached_entry('deps:outer') outermost, get_cached_entry('deps:inner') inside;
SELECT drop_cache_policy('deps:in'), invalidate_cache_by_tags('{deps_policy}');
-- Of what is past its end nothing is kept, unless it is refreshed on the way.
SELECT set_cache_policy('deps:in', p_grace => '1 hour', p_tags => '{deps_policy}');
SELECT get_or_set_cached_data('deps:inner', 'SELECT count(*) FROM b') IS NULL AS a;
SELECT expire_cache_by_tags('{deps_policy}');
SELECT get_or_set_cached_data('deps:outer', $$SELECT is_stale FROM get_cached_entry('deps:inner')$$), cache_exists('deps:outer');
SELECT get_or_set_cached_data('deps:outer', $$SELECT get_or_set_cached_data('deps:inner', 'SELECT count(*) FROM b') IS NULL AS a$$), cache_exists('deps:outer');
SELECT drop_cache_policy('deps:in'), invalidate_cache_by_tags('{deps_policy}');
-- What somebody has set may be set anew without telling; likewise whether there is anything.
SELECT set_cached_data('deps:set', '1', p_cache_tags => '{deps_set}');
SELECT get_or_set_cached_data('deps:outer', $$SELECT get_cached_data('deps:set') AS a$$), cache_exists('deps:outer');
SELECT get_or_set_cached_data('deps:outer', $$SELECT get_cached_data('deps:none') AS a$$), cache_exists('deps:outer');
SELECT get_or_set_cached_data('deps:outer', $$SELECT cache_exists('deps:none') AS a$$), cache_exists('deps:outer');
SELECT get_or_set_cached_data('deps:outer', $$SELECT count(*) < 0 AS a FROM query_cache$$), cache_exists('deps:outer');
-- More than 64 things.
DO $$ BEGIN FOR i IN 1 .. 64 LOOP EXECUTE 'CREATE TABLE many_' || i || ' ()'; END LOOP; END $$;
SELECT get_or_set_cached_data('deps:many', (SELECT string_agg('SELECT FROM many_' || i, ' UNION ALL ') FROM generate_series(1, 64) i)) AS many, cache_exists('deps:many');

-- The extension may be in no database but one, and tables have the same numbers elsewhere: nothing is mixed up. Nothing read: kept.
SELECT get_or_set_cached_data('deps:constant', 'SELECT 1 AS a'), cache_exists('deps:constant');

SET client_min_messages = warning;
DROP SCHEMA deps CASCADE;
DROP OWNED BY regress_deps_reader;
DROP ROLE regress_deps_reader;
