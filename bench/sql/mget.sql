-- A hit against local_cache.mget of pg_local_cache, where that extension is there: a key a call, and many a call.

SELECT current_setting('pg_local_cache.binary_version', true) IS NOT NULL AS installed \gset
\if :installed

-- The role of its workers has to be there, though nothing here uses it.
CREATE ROLE local_cache_worker LOGIN NOINHERIT;
CREATE EXTENSION IF NOT EXISTS pg_local_cache;
GRANT CONNECT ON DATABASE postgres TO local_cache_worker;
GRANT USAGE ON SCHEMA local_cache TO local_cache_worker;
GRANT SELECT ON local_cache.mapping TO local_cache_worker;
CREATE TABLE bench.mapped (id bigint PRIMARY KEY, value jsonb NOT NULL);
INSERT INTO bench.mapped SELECT n, value FROM bench.item;
VACUUM (FREEZE, ANALYZE) bench.mapped;
SELECT local_cache.attach_table('bench.mapped'::regclass);

CREATE TABLE bench.single AS SELECT n, key, ARRAY[n::bigint] AS ids FROM bench.probe;
CREATE TABLE bench.batch AS
SELECT array_agg(n::bigint) AS ids FROM (SELECT n, row_number() OVER () / 1000 AS batch FROM bench.probe) p GROUP BY batch;
VACUUM (FREEZE, ANALYZE) bench.single, bench.batch;
SELECT count(set_cached_data(key, value, '1 day', tags)) FROM bench.item;

CALL bench.race('mget',
    ARRAY['loop', 'ours', 'one', 'many'],
    ARRAY['SELECT count(key), count(ids) FROM bench.single',
          'SELECT count(get_cached_data(key)) FROM bench.single',
          'SELECT count(local_cache.mget(''bench.mapped'', ids)) FROM bench.single',
          'SELECT sum(cardinality(local_cache.mget(''bench.mapped'', ids))) FROM bench.batch'],
    ARRAY[100000, 100000, 100000, 100000], :rounds);

INSERT INTO bench.figure
SELECT 50, '', 'pg_local_cache''s mget', bench.micros(ours), bench.micros(one) || ' (1000 a call: ' || bench.micros(many) || ')',
       least(one, many) / ours, 2, 4, '× faster', true
FROM bench.net('mget', 'ours') ours, bench.net('mget', 'one') one, bench.net('mget', 'many', '') many;

\else
INSERT INTO bench.figure VALUES (50, '', 'pg_local_cache''s mget', '', 'not installed', NULL, 2, 4, '× faster', true);
\endif
