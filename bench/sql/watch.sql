-- An UPDATE of 100,000 rows of a watched table: plain tags, a template that makes a tag of each row, a template of a thousand tags, a condition.

CREATE TABLE bench.unwatched (id integer PRIMARY KEY, shop integer NOT NULL, stock integer NOT NULL, note text NOT NULL) WITH (fillfactor = 40);
CREATE TABLE bench.watched_plain (LIKE bench.unwatched INCLUDING ALL) WITH (fillfactor = 40);
CREATE TABLE bench.watched_row (LIKE bench.unwatched INCLUDING ALL) WITH (fillfactor = 40);
CREATE TABLE bench.watched_shop (LIKE bench.unwatched INCLUDING ALL) WITH (fillfactor = 40);
CREATE TABLE bench.watched_condition (LIKE bench.unwatched INCLUDING ALL) WITH (fillfactor = 40);
INSERT INTO bench.unwatched SELECT n, n % 1000, n % 100, md5(n::text) FROM generate_series(1, 100000) n;
INSERT INTO bench.watched_plain SELECT * FROM bench.unwatched;
INSERT INTO bench.watched_row SELECT * FROM bench.unwatched;
INSERT INTO bench.watched_shop SELECT * FROM bench.unwatched;
INSERT INTO bench.watched_condition SELECT * FROM bench.unwatched;
VACUUM (FREEZE, ANALYZE) bench.unwatched, bench.watched_plain, bench.watched_row, bench.watched_shop, bench.watched_condition;
SELECT watch_table('bench.watched_plain', ARRAY['stock', 'stock_levels']), watch_table('bench.watched_row', ARRAY['item:{id}']),
    watch_table('bench.watched_shop', ARRAY['shop:{shop}']), watch_table('bench.watched_condition', ARRAY['stock'], 'new.stock = 0');

CALL bench.race('watch',
    ARRAY['none', 'plain', 'row', 'shop', 'condition'],
    ARRAY['UPDATE bench.unwatched SET stock = stock + 1',
          'UPDATE bench.watched_plain SET stock = stock + 1',
          'UPDATE bench.watched_row SET stock = stock + 1',
          'UPDATE bench.watched_shop SET stock = stock + 1',
          'UPDATE bench.watched_condition SET stock = stock + 1'],
    ARRAY[1, 1, 1, 1, 1], :rounds * 2);

INSERT INTO bench.figure
SELECT position, what, 'not watched', bench.millis(ours.nanoseconds), bench.millis(theirs.nanoseconds), bench.ratio('watch', ours.variant, 'none'),
       NULL, NULL, '× the time', false
FROM (VALUES (101, 'plain', 'an UPDATE of 100,000 rows, watch_table, plain tags'), (102, 'row', 'the same, a template: 100,000 tags'),
             (103, 'shop', 'the same, a template: 1,000 tags'), (104, 'condition', 'the same, a condition')) v(position, variant, what)
JOIN bench.median ours ON ours.topic = 'watch' AND ours.variant = v.variant
JOIN bench.median theirs ON theirs.topic = 'watch' AND theirs.variant = 'none';
