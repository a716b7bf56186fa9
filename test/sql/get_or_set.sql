-- get_or_set_cached_data with tags: what it returns, what it refuses, what it keeps.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
CREATE SCHEMA get_or_set;
SET search_path = get_or_set, public;
CREATE TABLE products (id int PRIMARY KEY, name text, details jsonb);
INSERT INTO products SELECT i, 'name ' || i, jsonb_build_object('size', i) FROM generate_series(1, 5) i;
\set VERBOSITY default

-- Computed once.
CREATE SEQUENCE computed;
SELECT get_or_set_cached_data('gs:once', 'SELECT nextval(''computed'') AS n', NULL, '{gs}');
SELECT get_or_set_cached_data('gs:once', 'SELECT nextval(''computed'') AS n', NULL, '{gs}');
SELECT get_cached_data('gs:once'), last_value FROM computed;
SELECT cache_tags, hit_count FROM get_cached_entry('gs:once');
SELECT invalidate_cache_by_tags('{gs}');
SELECT get_or_set_cached_data('gs:once', 'SELECT nextval(''computed'') AS n', NULL, '{gs}');
SELECT expires_at - created_at AS duration FROM get_cached_entry('gs:once');
SELECT get_or_set_cached_data('gs:short', 'SELECT 1 AS a', '1 minute', '{}');
SELECT expires_at - created_at AS duration FROM get_cached_entry('gs:short');

-- One column of type json or jsonb is its value.
SELECT get_or_set_cached_data('gs:jsonb', 'SELECT details FROM products WHERE id = 3', NULL, '{}');
SELECT get_or_set_cached_data('gs:json', $$SELECT '{"b": 1, "a": 2}'::json$$, NULL, '{}');
SELECT get_or_set_cached_data('gs:agg', 'SELECT jsonb_agg(id ORDER BY id) FROM products', NULL, '{}');
SELECT get_or_set_cached_data('gs:none', 'SELECT details FROM products WHERE false', NULL, '{}');
SELECT get_or_set_cached_data('gs:null', 'SELECT NULL::jsonb', NULL, '{}');
SELECT jsonb_typeof(get_cached_data('gs:none')), jsonb_typeof(get_cached_data('gs:null'));
SELECT get_or_set_cached_data('gs:two', 'SELECT details FROM products', NULL, '{}');
SELECT cache_exists('gs:two');

-- Anything else is an array of objects, as jsonb_agg(to_jsonb(row)) makes it.
SELECT get_or_set_cached_data('gs:one', 'SELECT id FROM products WHERE id = 1', NULL, '{}');
SELECT get_or_set_cached_data('gs:empty', 'SELECT id FROM products WHERE false', NULL, '{}');
SELECT get_or_set_cached_data('gs:nothing', 'SELECT FROM products WHERE id < 3', NULL, '{}');
SELECT get_or_set_cached_data('gs:twice', 'SELECT 1 AS a, 2 AS a', NULL, '{}');
SELECT get_or_set_cached_data('gs:values', 'VALUES (1, ''x''), (2, NULL)', NULL, '{}');
SELECT get_or_set_cached_data('gs:all', 'TABLE products ORDER BY id', NULL, '{}') = (SELECT jsonb_agg(to_jsonb(p) ORDER BY id) FROM products p) AS same;
-- Objects of all sizes, so that each place in the array needs other padding; more than one of the array's offsets.
CREATE VIEW rows AS
    SELECT i AS id, repeat('x', i % 11) AS x, CASE WHEN i % 3 = 0 THEN NULL ELSE i / 7.0 END AS n, i % 2 = 0 AS even, ARRAY[i, i + 1] AS a,
           ROW(i, 'r', NULL)::products AS r, now() AS at
    FROM generate_series(1, 1000) i;
SELECT get_or_set_cached_data('gs:rows', 'SELECT * FROM rows', NULL, '{}') = (SELECT jsonb_agg(to_jsonb(whole)) FROM rows whole) AS same;
SELECT count(*) AS wrong
FROM generate_series(1, 1000) i, to_jsonb(get_cached_data('gs:rows')) v WHERE (v -> (i - 1) ->> 'id')::int <> i OR length(v -> (i - 1) ->> 'x') <> i % 11;
SELECT jsonb_array_length(get_cached_data('gs:rows')) AS length;

-- Parameters.
SELECT get_or_set_cached_data('gs:p1', 'SELECT id FROM products WHERE id > $1 AND name = $2', NULL, '{}', '[3, "name 4"]');
SELECT get_or_set_cached_data('gs:p2', 'SELECT $1 AS a, $2::jsonb AS b, $3::bool AS c, $4::numeric AS d, $5::int AS e, $6::text AS f, $7::date AS g', NULL, '{}',
                              '["it''s", {"a": [1, 2]}, true, 1.50, null, [1, "x"], "2024-02-29"]');
SELECT get_or_set_cached_data('gs:p3', 'SELECT $1::text AS a', NULL, '{}', $$["'; DROP TABLE products; --"]$$);
SELECT get_or_set_cached_data('gs:p4', 'SELECT id FROM products WHERE id = ANY ($1)', NULL, '{}', '["{1,2}"]');
SELECT get_or_set_cached_data('gs:p5', 'SELECT 1 AS a', NULL, '{}', NULL);
SELECT get_or_set_cached_data('gs:x', 'SELECT $1::int', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'SELECT 1', NULL, '{}', '[1]');
SELECT get_or_set_cached_data('gs:x', 'SELECT $2::int', NULL, '{}', '[1, 2]');
SELECT get_or_set_cached_data('gs:x', 'SELECT $1 + 1', NULL, '{}', '["one"]');
SELECT get_or_set_cached_data('gs:x', 'SELECT $1 IS NULL', NULL, '{}', '[1]');
SELECT get_or_set_cached_data('gs:x', 'SELECT 1', NULL, '{}', '{"a": 1}');
SELECT get_or_set_cached_data('gs:x', 'SELECT $1::int', NULL, '{}', '1');

-- What is no query.
SELECT get_or_set_cached_data('gs:x', 'SELECT 1; SELECT 2', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', '', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', ' -- nothing', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'SHOW work_mem', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'EXPLAIN SELECT 1', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'CREATE TABLE made ()', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'SELECT 1 AS a INTO made', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'INSERT INTO products VALUES (9)', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'INSERT INTO products VALUES (9) RETURNING id', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'WITH d AS (DELETE FROM products RETURNING id) TABLE d', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'SELECT id FROM products FOR UPDATE', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', NULL, NULL, '{}');
SELECT get_or_set_cached_data(NULL, 'SELECT 1', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'SELECT 1', '-1 s', '{}');
SELECT get_or_set_cached_data('gs:x', 'SELECT 1', NULL, ARRAY['a', NULL]);
-- The query's own errors are the server's.
SELECT get_or_set_cached_data('gs:x', 'SELECT 1 / 0', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'SELECT missing FROM products', NULL, '{}');
SELECT get_or_set_cached_data('gs:x', 'SELEC 1', NULL, '{}');
SELECT cache_exists('gs:x'), count(*) FROM products;

-- An error in the middle leaves nothing behind.
DO $$
BEGIN
    PERFORM get_or_set_cached_data('gs:x', 'SELECT 1 / (3 - id) FROM products', NULL, '{}');
EXCEPTION WHEN division_by_zero THEN
    PERFORM get_or_set_cached_data('gs:after', 'SELECT 1 AS a', NULL, '{}');
END $$;
SELECT cache_exists('gs:x'), get_cached_data('gs:after');

-- A transaction that has done nothing publishes at once, whatever becomes of it; one that has written, at its commit.
BEGIN READ ONLY;
SELECT get_or_set_cached_data('gs:ro', 'SELECT count(*) FROM products', NULL, '{}');
ROLLBACK;
SELECT get_cached_data('gs:ro');
BEGIN;
INSERT INTO products VALUES (6);
SELECT get_or_set_cached_data('gs:rw', 'SELECT count(*) FROM products', NULL, '{}');
SELECT get_cached_data('gs:rw');
ROLLBACK;
SELECT get_cached_data('gs:rw');
BEGIN;
SELECT set_cached_data('gs:mine', '1');
SELECT get_or_set_cached_data('gs:of mine', 'SELECT get_cached_data(''gs:mine'')', NULL, '{}');
ROLLBACK;
SELECT get_cached_data('gs:mine'), get_cached_data('gs:of mine');
BEGIN;
SAVEPOINT a;
INSERT INTO products VALUES (6);
SELECT get_or_set_cached_data('gs:savepoint', 'SELECT count(*) FROM products', NULL, '{}');
ROLLBACK TO a;
SELECT get_cached_data('gs:savepoint');
SELECT get_or_set_cached_data('gs:savepoint', 'SELECT count(*) FROM products', NULL, '{}');
COMMIT;
SELECT get_cached_data('gs:savepoint');
-- A function that writes while it computes.
CREATE FUNCTION write_one() RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO products VALUES (7); RETURN 7; END $$;
BEGIN;
SELECT get_or_set_cached_data('gs:writes', 'SELECT write_one()', NULL, '{}');
ROLLBACK;
SELECT get_cached_data('gs:writes');

-- Within one transaction after its own invalidation.
SELECT get_or_set_cached_data('gs:again', 'SELECT count(*) FROM products', NULL, '{gs:p}');
BEGIN;
DELETE FROM products WHERE id = 5;
SELECT invalidate_cache_by_tags('{gs:p}');
SELECT get_or_set_cached_data('gs:again', 'SELECT count(*) FROM products', NULL, '{gs:p}');
ROLLBACK;
SELECT get_cached_data('gs:again');

-- Off, or bypassed: computed.
SET cache_ext.enabled = off;
SELECT get_or_set_cached_data('gs:off', 'SELECT 1 AS a', NULL, '{}');
RESET cache_ext.enabled;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT get_or_set_cached_data('gs:off', 'SELECT 1 AS a', NULL, '{}');
COMMIT;
SELECT cache_exists('gs:off');

-- Too large: returned, not kept.
SELECT length(get_or_set_cached_data('gs:large', $$SELECT to_jsonb(string_agg(md5(i::text), '')) FROM generate_series(1, 50000) i$$, NULL, '{}')::text) AS length,
       cache_exists('gs:large');

-- Nor is what comes from a temporary table, wherever it is read.
CREATE TEMPORARY TABLE own AS SELECT 1 AS a;
CREATE FUNCTION read_own() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN (SELECT a FROM own); END $$;
CREATE TEMPORARY VIEW over_own AS SELECT a + 1 AS b FROM own;
SELECT get_or_set_cached_data('gs:t1', 'SELECT a FROM own', NULL, '{}'), get_or_set_cached_data('gs:t2', 'SELECT read_own()', NULL, '{}'),
       get_or_set_cached_data('gs:t3', 'SELECT b FROM over_own', NULL, '{}'), get_or_set_cached_data('gs:t4', 'SELECT 1 AS a WHERE EXISTS (SELECT FROM own)', NULL, '{}');
SELECT cache_exists(k) FROM unnest(ARRAY['gs:t1', 'gs:t2', 'gs:t3', 'gs:t4']) k;
SELECT get_or_set_cached_data('gs:t5', $$SELECT get_or_set_cached_data('gs:t6', 'SELECT a FROM own', NULL, '{}')$$, NULL, '{}');
SELECT cache_exists('gs:t5'), cache_exists('gs:t6');

-- A query that asks for its own key.
SELECT get_or_set_cached_data('gs:self', $$SELECT get_or_set_cached_data('gs:self', 'SELECT 1 AS inner', NULL, '{}') AS a, 2 AS b$$, NULL, '{}');
SELECT get_cached_data('gs:self');
CREATE FUNCTION endless() RETURNS jsonb LANGUAGE sql AS $$ SELECT get_or_set_cached_data('gs:endless', 'SELECT endless()', NULL, '{}') $$;
\set VERBOSITY sqlstate
SELECT endless();
\set VERBOSITY default
SELECT cache_exists('gs:endless');

-- The same statement sees what it would have computed.
SELECT get_or_set_cached_data('gs:same', 'SELECT count(*) AS n FROM products', NULL, '{gs:p}') -> 0 ->> 'n' = (SELECT count(*)::text FROM products) AS same;

-- Rights: the current user's, within a SECURITY DEFINER function the owner's; names as the caller's search_path has them.
CREATE ROLE regress_gs_reader;
CREATE ROLE regress_gs_other;
GRANT USAGE ON SCHEMA get_or_set TO regress_gs_reader, regress_gs_other;
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO regress_gs_reader, regress_gs_other', 'get_or_set_cached_data(text, text, interval, text[], jsonb)'::regprocedure);
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO regress_gs_reader, regress_gs_other', 'get_cached_data(text, interval)'::regprocedure);
END $$;
CREATE FUNCTION count_products() RETURNS jsonb LANGUAGE sql SECURITY DEFINER SET search_path = get_or_set, public AS
$$ SELECT get_or_set_cached_data('gs:definer', 'SELECT count(*) AS n, current_user = session_user AS own FROM products', NULL, '{}') $$;
SET ROLE regress_gs_reader;
SELECT get_or_set_cached_data('gs:denied', 'SELECT count(*) FROM products', NULL, '{}');
SELECT count_products();
SELECT get_cached_data('gs:definer');
SET ROLE regress_gs_other;
SELECT get_cached_data('gs:definer');
RESET ROLE;

-- Row security: each has what it may see.
CREATE TABLE notes (owner name, body text);
INSERT INTO notes VALUES ('regress_gs_reader', 'one'), ('regress_gs_other', 'two'), ('regress_gs_other', 'three');
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_notes ON notes USING (owner = current_user);
GRANT SELECT ON notes TO regress_gs_reader, regress_gs_other;
SET ROLE regress_gs_reader;
SELECT get_or_set_cached_data('gs:notes', 'SELECT body FROM notes ORDER BY 1', NULL, '{}');
SET ROLE regress_gs_other;
SELECT get_or_set_cached_data('gs:notes', 'SELECT body FROM notes ORDER BY 1', NULL, '{}');
SET ROLE regress_gs_reader;
SELECT get_or_set_cached_data('gs:notes', 'never run', NULL, '{}');
RESET ROLE;

-- A shared prefix, which only shared writers may fill.
SELECT set_cache_policy('gs:shared:', p_shared => true);
SET ROLE regress_gs_reader;
SELECT get_or_set_cached_data('gs:shared:a', 'SELECT 1 AS a', NULL, '{}');
SELECT get_cached_data('gs:shared:a');
RESET ROLE;
SELECT get_or_set_cached_data('gs:shared:a', 'SELECT 2 AS a', NULL, '{}');
SET ROLE regress_gs_reader;
SELECT get_or_set_cached_data('gs:shared:a', 'SELECT 3 AS a', NULL, '{}');
RESET ROLE;
SELECT drop_cache_policy('gs:shared:');

-- It can be cancelled.
SET statement_timeout = '50ms';
SELECT get_or_set_cached_data('gs:slow', 'WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a FROM r) SELECT count(*) FROM r', NULL, '{}');
RESET statement_timeout;

SET client_min_messages = warning;
DROP SCHEMA get_or_set CASCADE;
DROP OWNED BY regress_gs_reader, regress_gs_other;
DROP ROLE regress_gs_reader, regress_gs_other;
