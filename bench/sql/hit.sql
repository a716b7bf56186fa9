-- A hit in a backend, net of the loop: against a table with functions, a primary-key look-up, and pg_local_cache where it
-- is installed.

CREATE TABLE bench.row (key text PRIMARY KEY, value jsonb NOT NULL);
INSERT INTO bench.row SELECT key, value FROM bench.item;

TRUNCATE seeds.query_cache;
SELECT count(seeds.set_cached_data(key, value, '1 day', tags)), count(set_cached_data(key, value, '1 day', tags)) FROM bench.item;
VACUUM (FREEZE, ANALYZE) bench.row, seeds.query_cache;

CALL bench.race('hit',
    ARRAY['loop', 'ours', 'seeds', 'look-up', 'seeds and count'],
    ARRAY['SELECT count(key) FROM bench.probe',
          'SELECT count(get_cached_data(key)) FROM bench.probe',
          'SELECT count(seeds.get_cached_data(key)) FROM bench.probe',
          'SELECT count((SELECT r.value FROM bench.row r WHERE r.key = p.key)) FROM bench.probe p',
          'SELECT count(seeds.get_and_count(key)) FROM bench.probe WHERE n <= 1000'],
    ARRAY[100000, 100000, 100000, 100000, 10000], :rounds);

INSERT INTO bench.figure
SELECT 10, 'a hit, net of the loop', '', bench.micros(ours), 'loop ' || bench.micros(alone), ours / 1000, 0.4, 0.25, 'µs', false
FROM bench.net('hit', 'ours') ours, bench.net('hit', 'loop', '') alone
UNION ALL
SELECT 20, '', 'PL/pgSQL get over a table', bench.micros(ours), bench.micros(theirs), theirs / ours, 10, 15, '× faster', true
FROM bench.net('hit', 'ours') ours, bench.net('hit', 'seeds') theirs
UNION ALL
SELECT 30, '', 'a primary-key look-up', bench.micros(ours), bench.micros(theirs), theirs / ours, 4, 5, '× faster', true
FROM bench.net('hit', 'ours') ours, bench.net('hit', 'look-up') theirs
UNION ALL
SELECT 40, '', 'PL/pgSQL get with hit count', bench.micros(ours), bench.micros(theirs), theirs / ours, 50, 60, '× faster', true
FROM bench.net('hit', 'ours') ours, bench.net('hit', 'seeds and count') theirs;
