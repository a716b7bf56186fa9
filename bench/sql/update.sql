-- An UPDATE of 100,000 rows: without a trigger, with a statement trigger and plain tags, and with a row trigger that deletes
-- from a cache table.

CREATE TABLE bench.plain (id integer PRIMARY KEY, stock integer NOT NULL, note text NOT NULL) WITH (fillfactor = 40);
CREATE TABLE bench.watched (LIKE bench.plain INCLUDING ALL) WITH (fillfactor = 40);
CREATE TABLE bench.row_watched (LIKE bench.plain INCLUDING ALL) WITH (fillfactor = 40);
INSERT INTO bench.plain SELECT n, n % 100, md5(n::text) FROM generate_series(1, 100000) n;
INSERT INTO bench.watched SELECT * FROM bench.plain;
INSERT INTO bench.row_watched SELECT * FROM bench.plain;
VACUUM (FREEZE, ANALYZE) bench.plain, bench.watched, bench.row_watched;

-- The cache table as it is at rest: no dead rows, no pending list in front of its GIN index.
TRUNCATE seeds.query_cache;
SELECT count(seeds.set_cached_data(key, value, '1 day', tags)) FROM bench.item;
VACUUM (FREEZE, ANALYZE) seeds.query_cache;

CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON bench.watched
FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('stock', 'stock_levels');
CREATE TRIGGER invalidate AFTER INSERT OR UPDATE OR DELETE ON bench.row_watched
FOR EACH ROW EXECUTE FUNCTION seeds.trigger_cache_invalidation();

SELECT count(set_cached_data(bench.key(n), value, '1 day', '{stock}')) FROM bench.item;

CALL bench.race('update',
    ARRAY['plain', 'watched', 'row'],
    ARRAY['UPDATE bench.plain SET stock = stock + 1',
          'UPDATE bench.watched SET stock = stock + 1',
          'UPDATE bench.row_watched SET stock = stock + 1'],
    ARRAY[1, 1, 1], :rounds * 2);

INSERT INTO bench.figure
SELECT 90, 'an UPDATE of 100,000 rows, statement trigger', 'no trigger', bench.millis(ours.nanoseconds), bench.millis(theirs.nanoseconds),
       bench.ratio('update', 'watched', 'plain'), 1.05, 1.02, '× the time', false
FROM bench.median ours, bench.median theirs
WHERE ours.topic = 'update' AND ours.variant = 'watched' AND theirs.topic = 'update' AND theirs.variant = 'plain'
UNION ALL
SELECT 100, 'the same, a row trigger in PL/pgSQL instead', 'no trigger', bench.millis(ours.nanoseconds), bench.millis(theirs.nanoseconds),
       bench.ratio('update', 'row', 'plain'), NULL, NULL, '× the time', false
FROM bench.median ours, bench.median theirs
WHERE ours.topic = 'update' AND ours.variant = 'row' AND theirs.topic = 'update' AND theirs.variant = 'plain';
