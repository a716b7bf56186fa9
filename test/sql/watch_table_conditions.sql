-- Conditions and cascades of watches.
SET client_min_messages = warning;
CREATE EXTENSION cache_ext;
\getenv folder PG_ABS_SRCDIR
\set watched :folder '/sql/include/watched.sql'
\set ECHO none
\i :watched
\set ECHO all
CREATE TABLE product (id int PRIMARY KEY, price numeric, note text);
CREATE TABLE part_of (id int, whole int);
INSERT INTO part_of VALUES (1, 2), (2, 3);

-- A condition says which rows count, plain tags included.
SELECT watch_table('product', ARRAY['all', 'p:{id}'], 'old.price IS DISTINCT FROM new.price');
SELECT * FROM cache_watches;
CALL run('INSERT INTO product VALUES (1, 10, NULL), (2, NULL, NULL), (3, 30, repeat(''long '', 10000))');
CALL run('UPDATE product SET note = ''n''');
CALL run('UPDATE product SET price = 11 WHERE id <> 3');
CALL run('UPDATE product SET price = 30');
CALL run('INSERT INTO product VALUES (1, 7), (4, NULL) ON CONFLICT (id) DO UPDATE SET price = excluded.price');
CALL run('MERGE INTO product p USING (VALUES (1, 7), (2, 8)) v (id, price) ON p.id = v.id
          WHEN MATCHED AND v.id = 1 THEN UPDATE SET price = v.price WHEN MATCHED THEN DELETE');
CALL run('DELETE FROM product WHERE id = 3');
CALL run('TRUNCATE product');
INSERT INTO product SELECT g, g * 10 FROM generate_series(1, 3) g;

-- Whole rows, and what is missing in the old or the new one.
SELECT watch_table('product', ARRAY['p:{id}'], 'old IS NULL');
CALL run('INSERT INTO product VALUES (4, 40) ON CONFLICT DO NOTHING');
CALL run('UPDATE product SET id = 5 WHERE id = 4');
CALL run('UPDATE product SET price = 0 WHERE id = 1');
SELECT watch_table('product', ARRAY['p:{id}'], 'new IS NULL AND EXISTS (SELECT FROM part_of p WHERE p.id = old.id)');
CALL run('DELETE FROM product WHERE id IN (2, 3)');
CALL run('INSERT INTO product VALUES (2, 20), (3, 30)');

-- A cascade sees old and new rows, and what the statement has written.
SELECT watch_table('product', ARRAY['p:{id}'], p_cascade => 'SELECT ''p:'' || whole FROM changed JOIN part_of USING (id)');
CALL run('UPDATE product SET price = 2 WHERE id = 1');
CALL run('UPDATE product SET id = 20 WHERE id = 2');
CALL run('UPDATE product SET id = 2 WHERE id = 20');
CALL run('UPDATE product SET price = 2 WHERE false');
SELECT watch_table('product', NULL, NULL, 'SELECT array_agg(''p:'' || p.id) || ARRAY[NULL, '''', repeat(''x'', 300)] FROM product p WHERE p.price > 100');
CALL run('UPDATE product SET price = 1000 WHERE id = 3');
CALL run('UPDATE product SET price = 1 WHERE id = 3');
-- Both.
SELECT watch_table('product', '{all}', 'new.price > 5', 'SELECT ''p:'' || id FROM changed');
CALL run('UPDATE product SET price = id * 3');
-- Thousands, which do not fit into memory.
SET work_mem = '64kB';
CALL run('INSERT INTO product SELECT g, 6 FROM generate_series(1001, 5000) g');
CALL run('UPDATE product SET price = 6, id = -id WHERE id > 1000');
RESET work_mem;
-- The row type may change.
ALTER TABLE product DROP COLUMN note, ADD COLUMN extra text DEFAULT 'e';
CALL run('UPDATE product SET price = 7 WHERE id = 3');
SET session_replication_role = replica;
CALL run('UPDATE product SET price = 7 WHERE id = 3');
RESET session_replication_role;

-- What fails is told once, and counts as if it held. The write succeeds.
DELETE FROM product WHERE id < 0;
SELECT watch_table('product', ARRAY['all', 'p:{id}'], '10 / (new.price - 3) < 0');
CALL run('UPDATE product SET price = 4');
CALL run('UPDATE product SET price = id');
CALL run('UPDATE product SET price = id WHERE id = 3');
SELECT id, price FROM product ORDER BY id;
SELECT watch_table('product', ARRAY['all'], NULL, 'SELECT ''p:'' || (10 / (price - 3)) FROM changed');
CALL run('UPDATE product SET price = id WHERE id = 3');
SELECT watch_table('product', ARRAY['p:{id}'], NULL, 'SELECT ''p:'' || (10 / (price - 3)) FROM changed');
CALL run('UPDATE product SET price = id WHERE id = 3');
-- Tables that go.
SELECT watch_table('product', ARRAY['p:{id}'], 'EXISTS (SELECT FROM part_of p WHERE p.id = new.id)');
CALL run('UPDATE product SET price = id');
ALTER TABLE part_of RENAME TO parts;
CALL run('UPDATE product SET price = id WHERE id = 3');
-- And nobody's temporary table in their place.
CREATE TEMP TABLE part_of (id int, whole int);
SELECT watch_table('product', ARRAY['p:{id}'], 'EXISTS (SELECT FROM part_of p WHERE p.id = new.id)');
CALL run('UPDATE product SET price = id WHERE id = 3');
DROP TABLE part_of;
ALTER TABLE parts RENAME TO part_of;

-- They may only read.
CREATE FUNCTION writes(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO part_of VALUES ($1); RETURN true; END $$;
SELECT watch_table('product', ARRAY['all'], 'writes(new.id)');
CALL run('UPDATE product SET price = id WHERE id = 3');
SELECT * FROM part_of;

-- They have the rights of whom made the watch, and no more.
CREATE ROLE cache_watcher;
CREATE ROLE cache_writer;
GRANT ALL ON SCHEMA public TO cache_watcher;
GRANT EXECUTE ON FUNCTION watch_table, set_cached_data, cache_exists TO cache_watcher, cache_writer;
GRANT SELECT, UPDATE ON product TO cache_writer;
GRANT TRIGGER ON product TO cache_watcher;
CREATE TABLE who (seen text);
SELECT watch_table('product', ARRAY['all'], 'new.id = 1');
SET ROLE cache_watcher;
CREATE FUNCTION public.is_me() RETURNS boolean LANGUAGE sql AS $$ SELECT current_user = 'cache_watcher' $$;
SELECT watch_table('product', ARRAY['all'], 'is_me()');
SELECT watch_table('product', ARRAY['all'], 'EXISTS (SELECT FROM who)');
RESET ROLE;
SELECT * FROM cache_watches;
CALL run('UPDATE product SET price = id WHERE id = 3');
SET ROLE cache_writer;
UPDATE product SET price = id;
SELECT current_user, current_setting('search_path');
RESET ROLE;
SET search_path = pg_catalog;
UPDATE public.product SET price = id WHERE id = 3;
RESET search_path;
ALTER ROLE cache_watcher RENAME TO cache_watcher_2;
CALL run('UPDATE product SET price = id WHERE id = 3');
-- A superuser's rights are not lent to the owner of another table, whose columns can be made to run his code.
CREATE SCHEMA cache_writers AUTHORIZATION cache_writer;
SET ROLE cache_writer;
CREATE TABLE cache_writers.own (id int, day int);
RESET ROLE;
SELECT watch_table('cache_writers.own', ARRAY['all'], 'new.day % 2 = 0');
SET ROLE cache_writer;
CREATE TYPE cache_writers.odd AS (x int);
CREATE FUNCTION cache_writers.cast_odd(cache_writers.odd) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'run as %', current_user; RETURN $1.x; END $$;
CREATE CAST (cache_writers.odd AS int) WITH FUNCTION cache_writers.cast_odd(cache_writers.odd) AS IMPLICIT;
ALTER TABLE cache_writers.own ALTER COLUMN day TYPE cache_writers.odd USING row(1)::cache_writers.odd;
RESET ROLE;
CALL run('INSERT INTO cache_writers.own VALUES (1, row(1))');
CALL run('INSERT INTO cache_writers.own VALUES (1, row(2))');
SELECT watch_table('cache_writers.own', ARRAY['all'], 'EXISTS (SELECT FROM pg_authid)');
DROP SCHEMA cache_writers CASCADE;
-- Nobody else makes such triggers.
SET ROLE cache_writer;
CREATE TEMP TABLE mine (id int);
CREATE TRIGGER t AFTER INSERT ON mine EXECUTE FUNCTION cache_ext_internal.watched_table_changed('1', 'postgres', '', 'true', '', 'all');
RESET ROLE;
GRANT USAGE ON SCHEMA cache_ext_internal TO cache_writer;
SET ROLE cache_writer;
CREATE TRIGGER t AFTER INSERT ON mine EXECUTE FUNCTION cache_ext_internal.watched_table_changed('1', 'postgres', '', 'true', '', 'all');
RESET ROLE;
DROP TABLE product, part_of, who, mine;
DROP PROCEDURE run;
DROP VIEW watch_triggers;
DROP EXTENSION cache_ext CASCADE;
DROP OWNED BY cache_watcher_2, cache_writer CASCADE;
DROP ROLE cache_watcher_2, cache_writer;
