-- Watched tables: what the tags of a watch are invalidated by.
CREATE EXTENSION cache_ext;

\getenv folder PG_ABS_SRCDIR
\set watched :folder '/sql/include/watched.sql'
\set ECHO none
\i :watched
\set ECHO all

CREATE TABLE product (id int PRIMARY KEY, parent int REFERENCES product ON DELETE CASCADE ON UPDATE CASCADE, name text);
INSERT INTO product VALUES (1, NULL, 'one'), (2, 1, 'two'), (3, NULL, 'three');

-- Plain tags.
SELECT watch_table('product', '{all}');
SELECT * FROM cache_watches;
TABLE watch_triggers;
CALL run('INSERT INTO product VALUES (4, NULL, ''four'')');
CALL run('UPDATE product SET name = ''x'' WHERE id = 4');
CALL run('UPDATE product SET name = ''x'' WHERE false');
CALL run('DELETE FROM product WHERE id = 4');
CALL run('SELECT * FROM product');

-- Templates: the old and the new row's. Watching again replaces.
SELECT watch_table('product', ARRAY['p:{id}', 'p:{parent}']);
TABLE watch_triggers;
CALL run('UPDATE product SET name = ''x'' WHERE id = 2');
CALL run('UPDATE product SET id = 5 WHERE id = 1');
CALL run('UPDATE product SET id = 1 WHERE id = 5');
CALL run('INSERT INTO product VALUES (4, 3, ''four'')');
CALL run('DELETE FROM product WHERE id = 4');
CALL run('DELETE FROM product WHERE id = 1');
CALL run('INSERT INTO product VALUES (1, NULL, ''one''), (2, 1, ''two'')');

-- Both, by every kind of statement.
SELECT watch_table('product', ARRAY['all', 'p:{id}']);
CALL run('INSERT INTO product VALUES (1, NULL, ''one'') ON CONFLICT (id) DO UPDATE SET name = ''again''');
CALL run('INSERT INTO product VALUES (1, NULL, ''one'') ON CONFLICT DO NOTHING');
CALL run('MERGE INTO product p USING (VALUES (1), (9)) v (id) ON p.id = v.id
          WHEN MATCHED THEN UPDATE SET name = ''merged'' WHEN NOT MATCHED THEN INSERT VALUES (v.id)');
CALL run('COPY product (id) FROM PROGRAM ''echo 8''');
CALL run('WITH w AS (UPDATE product SET name = ''w'' WHERE id = 3 RETURNING id) SELECT * FROM w');
CREATE VIEW small AS SELECT * FROM product WHERE id < 3;
CALL run('UPDATE small SET name = ''by view'' WHERE id = 2');
CREATE VIEW ruled AS SELECT id FROM product;
CREATE RULE r AS ON DELETE TO ruled DO INSTEAD UPDATE product SET name = NULL WHERE id = old.id;
CALL run('DELETE FROM ruled WHERE id = 3');
CREATE TABLE log (id int);
CREATE RULE log AS ON INSERT TO log DO ALSO UPDATE product SET name = 'logged' WHERE id = new.id;
CALL run('INSERT INTO log VALUES (2)');
CALL run('TRUNCATE product');
INSERT INTO product VALUES (1, NULL, 'one'), (2, 1, 'two'), (3, NULL, 'three');
SET session_replication_role = replica;
CALL run('UPDATE product SET name = ''x'' WHERE id = 2');
RESET session_replication_role;

-- With plain tags only, too.
SELECT watch_table('product', '{all}');
SET session_replication_role = replica;
CALL run('UPDATE product SET name = ''x'' WHERE id = 2');
RESET session_replication_role;
CALL run('TRUNCATE product');
CALL run('DELETE FROM product WHERE false');

-- What is rolled back has not been.
INSERT INTO product VALUES (1), (2), (3);
SELECT watch_table('product', ARRAY['all', 'p:{id}']);
CALL run('DO $x$ BEGIN UPDATE product SET name = ''y''; RAISE ''no''; EXCEPTION WHEN raise_exception THEN NULL; END $x$');

-- A disabled trigger shows. Enabling triggers as some tools do restores what they were.
ALTER TABLE product DISABLE TRIGGER ALL;
SELECT watched_table, enabled FROM cache_watches;
CALL run('UPDATE product SET name = ''z''');
CALL run('ALTER TABLE product ENABLE TRIGGER ALL');
SELECT watched_table, enabled FROM cache_watches;
TABLE watch_triggers;

-- Beginning to watch invalidates what is there: tags that are known, or everything.
CALL run($$SELECT watch_table('product', '{all,other}')$$);
CALL run($$SELECT watch_table('product', ARRAY['p:{id}'])$$);
CALL run($$SELECT unwatch_table('product')$$);
CALL run('UPDATE product SET name = NULL');
TABLE watch_triggers;
SELECT unwatch_table('product');

-- A search_path that has nothing in it, other schemas and names that need quoting.
CREATE SCHEMA "Odd one";
CREATE TABLE "Odd one"."A table" ("Its id" int);
SELECT watch_table('"Odd one"."A table"', ARRAY['p:{Its id}', '{{all}}', 'it''s \ so']);
SELECT * FROM cache_watches;
CALL run('INSERT INTO "Odd one"."A table" VALUES (2)');
DROP SCHEMA "Odd one" CASCADE;
SELECT count(*) FROM cache_watches;

-- Values that are set to their names in a domain, an enumeration, a NULL.
CREATE DOMAIN number AS int;
CREATE TYPE mood AS ENUM ('p', 'q');
CREATE TABLE kinds (n number, m mood);
SELECT watch_table('kinds', ARRAY['{m}:{n}']);
CALL run('INSERT INTO kinds VALUES (1, ''p''), (2, ''q''), (3, NULL)');
CALL run('ALTER TYPE mood RENAME VALUE ''p'' TO ''r''');
DROP TABLE kinds;
CREATE TABLE stored (id int, twice int GENERATED ALWAYS AS (id * 2) STORED);
SELECT watch_table('stored', ARRAY['p:{twice}']);
CALL run('INSERT INTO stored VALUES (1)');
DROP TABLE stored;
DROP TYPE mood;
DROP DOMAIN number;

-- A tag is the same whatever is set where it is made.
CREATE TABLE watched_days (d date, at timestamptz);
SELECT watch_table('watched_days', ARRAY['day:{d}', 'at:{at}']);
SELECT set_cached_data('day', '1', p_cache_tags => '{day:2026-01-02}'), set_cached_data('at', '1', p_cache_tags => '{at:2026-01-01 18:04:05+00}'),
    set_cached_data('other day', '1', p_cache_tags => '{day:2026-02-01}');
SET datestyle = 'SQL, DMY';
SET timezone = 'Asia/Tokyo';
INSERT INTO watched_days VALUES ('02/01/2026', '02/01/2026 03:04:05');
RESET datestyle;
RESET timezone;
SELECT cache_exists('day') AS day, cache_exists('at') AS at, cache_exists('other day') AS other_day;
DROP TABLE watched_days;
-- What is written as the name of an object is its number in tags: the name can be changed, and is written with its schema or without. In other values,
-- where that cannot be, it has its schema.
CREATE TABLE watched_names (r regclass, a regtype[], m money);
SELECT watch_table('watched_names', ARRAY['r:{r}', 'a:{a}', 'm:{m}']);
SELECT set_cached_data('r', '1', p_cache_tags => ARRAY['r:' || 'product'::regclass::oid]), set_cached_data('a', '1', p_cache_tags => ARRAY['a:{integer,public.product}']),
    set_cached_data('m', '1', p_cache_tags => ARRAY['m:$1,000.00']);
SET search_path = '';
INSERT INTO public.watched_names VALUES ('public.product', '{int,public.product}', 1000);
RESET search_path;
SELECT cache_exists('r') AS r, cache_exists('a') AS a, cache_exists('m') AS m;
DROP TABLE watched_names;

DROP TABLE log CASCADE;
DROP VIEW small, ruled;
DROP PROCEDURE run;

-- The extension does not go without the watches.
SELECT watch_table('product', '{all}');
\set VERBOSITY sqlstate
DROP EXTENSION cache_ext;
\set VERBOSITY default
SET client_min_messages = warning;
DROP EXTENSION cache_ext CASCADE;
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'cache_ext_watch_%';
DROP TABLE product;
DROP VIEW watch_triggers;
