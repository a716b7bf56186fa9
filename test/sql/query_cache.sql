-- The view query_cache: what it shows is what one could read, and what is deleted from it is invalidated.
SET client_min_messages = warning;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE EXTENSION cache_ext;
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a WHERE a.attrelid = 'query_cache'::regclass AND a.attnum > 0 ORDER BY a.attnum;

-- What an entry says of itself.
SELECT set_cached_data('k1', '{"n": 1}', '1 hour', '{t2,t1,t2}');
SELECT cache_key, cache_data, cache_tags, expires_at - created_at AS life, last_accessed >= created_at AS accessed, hit_count, tier, scope,
       size_bytes > 0 AS has_size
FROM query_cache;
SELECT get_cached_data('k1') IS NOT NULL, get_cached_data('k1') IS NOT NULL, cache_exists('k1');
SELECT cache_key, hit_count FROM query_cache;
-- Values of all sizes: within one block, compressed, in many pieces.
SELECT set_cached_data('v' || n, to_jsonb(repeat(md5(n::text), n))) FROM unnest(ARRAY[1, 100, 10000]) AS n;
SELECT cache_key, cache_data = to_jsonb(repeat(md5(substr(cache_key, 2)), substr(cache_key, 2)::int)) AS same
FROM query_cache WHERE cache_key LIKE 'v%' ORDER BY 1;
SELECT set_cached_data('null', 'null');
SELECT cache_data, cache_data IS NULL AS sql_null FROM query_cache WHERE cache_key = 'null';
DELETE FROM query_cache;
SELECT count(*) FROM query_cache;

-- One's own uncommitted work is in it, with savepoints.
SELECT set_cached_data('k1', '"old"', null, '{t}'), set_cached_data('k2', '"old"');
BEGIN;
SELECT set_cached_data('k1', '"new"', null, '{t}'), set_cached_data('k3', '"new"');
SELECT cache_key, cache_data, tier FROM query_cache ORDER BY 1;
SAVEPOINT s;
SELECT invalidate_cache_by_tags('{t}'), invalidate_cache_key('k2');
SELECT cache_key, cache_data, tier FROM query_cache ORDER BY 1;
ROLLBACK TO s;
SELECT cache_key, cache_data, tier FROM query_cache ORDER BY 1;
SELECT invalidate_cache_by_pattern('k[12]');
SELECT cache_key, cache_data, tier FROM query_cache ORDER BY 1;
ROLLBACK;
SELECT cache_key, cache_data, tier FROM query_cache ORDER BY 1;
-- DELETE is transactional and takes pending entries too.
BEGIN;
SELECT set_cached_data('k3', '"pending"');
WITH d AS (DELETE FROM query_cache WHERE cache_key IN ('k1', 'k3') RETURNING cache_key, cache_data) SELECT * FROM d ORDER BY 1;
SELECT cache_key FROM query_cache ORDER BY 1;
SELECT cache_exists('k1'), cache_exists('k3');
ROLLBACK;
SELECT get_cached_data('k1'), get_cached_data('k2'), get_cached_data('k3');
DELETE FROM query_cache WHERE 't' = ANY (cache_tags);
SELECT cache_exists('k1'), get_cached_data('k2');
SELECT set_cached_data('k1', '"again"');
SELECT get_cached_data('k1');
-- Nothing else can be done to it.
INSERT INTO query_cache (cache_key) VALUES ('k');
UPDATE query_cache SET cache_data = '1';
TRUNCATE query_cache;

-- A private caller sees its own entries and the shared ones that they do not hide.
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"a"}';
SELECT set_cached_data('k1', '"of a"'), set_cached_data('a', '"of a"');
SELECT cache_key, cache_data, left(scope, 7) AS scope, scope ~ '^(shared|private:[0-9a-f]{32})$' AS good FROM query_cache ORDER BY 1;
SET request.jwt.claims = '{"sub":"b"}';
SELECT cache_key, cache_data, left(scope, 7) AS scope FROM query_cache ORDER BY 1;
SELECT set_cached_data('k1', '"of b"');
-- It shows nothing where a read would give nothing.
SET cache_ext.enabled = off;
SELECT count(*) FROM query_cache;
RESET cache_ext.enabled;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM query_cache;
COMMIT;
-- A shared caller sees all of them, private values as NULL.
RESET ROLE;
SELECT cache_key, cache_data, left(scope, 7) AS scope FROM query_cache ORDER BY 1, 2, 3;
SELECT count(DISTINCT scope) FROM query_cache;
SET ROLE service_role;
SELECT cache_key, cache_data, left(scope, 7) AS scope FROM query_cache ORDER BY 1, 2, 3;
-- It deletes exactly the rows that it names: b's entry here, not a's nor the shared one.
SET ROLE authenticated;
SELECT scope AS scope_of_b FROM query_cache WHERE cache_data = '"of b"' \gset
SET ROLE service_role;
DELETE FROM query_cache WHERE cache_key = 'k1' AND scope = :'scope_of_b';
SET ROLE authenticated;
SELECT get_cached_data('k1');
SET request.jwt.claims = '{"sub":"a"}';
SELECT get_cached_data('k1'), get_cached_data('a');
-- Whoever is given DELETE deletes what it sees, and nothing else.
RESET ROLE;
GRANT DELETE ON query_cache TO authenticated;
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"b"}';
SELECT set_cached_data('b', '"of b"');
WITH d AS (DELETE FROM query_cache RETURNING cache_key, cache_data) SELECT * FROM d ORDER BY 1;
SELECT count(*) FROM query_cache;
SET request.jwt.claims = '{"sub":"a"}';
SELECT cache_key, cache_data FROM query_cache ORDER BY 1;
RESET ROLE;
RESET request.jwt.claims;
DELETE FROM query_cache;
SELECT count(*) FROM query_cache;

-- Every entry once, however many there are; a limit is no obstacle.
SELECT count(*) FILTER (WHERE stored) FROM (SELECT set_cached_data('n' || i, to_jsonb(i), null, ARRAY['n' || i % 10]) AS stored FROM generate_series(1, 5000) i) s;
SELECT count(*), count(DISTINCT cache_key), sum(cache_data::int) FROM query_cache WHERE cache_key LIKE 'n%';
SELECT count(*) FROM (SELECT FROM query_cache LIMIT 3) s;
DELETE FROM query_cache WHERE 'n3' = ANY (cache_tags);
SELECT count(*) FROM query_cache WHERE cache_key LIKE 'n%';
SELECT set_cached_data('gone', '1', '1 microsecond');
SELECT count(*) FROM query_cache WHERE cache_key = 'gone';
-- Through a cursor, whose snapshot stays.
BEGIN;
DECLARE c CURSOR FOR SELECT cache_key FROM query_cache WHERE cache_key LIKE 'n4_' ORDER BY 1;
FETCH 2 FROM c;
SELECT invalidate_cache_by_pattern('n4*') > 0;
FETCH 2 FROM c;
COMMIT;

DROP EXTENSION cache_ext;
DROP ROLE authenticated, service_role;
