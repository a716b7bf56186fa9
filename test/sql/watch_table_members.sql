-- Partitions of watched tables, and tables that inherit from them.
SET client_min_messages = warning;
CREATE EXTENSION cache_ext;
\getenv folder PG_ABS_SRCDIR
\set watched :folder '/sql/include/watched.sql'
\set ECHO none
\i :watched
\set ECHO all

CREATE TABLE sale (id int, day int) PARTITION BY RANGE (day);
CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM (10) TO (20);
CREATE TABLE sale_2 PARTITION OF sale FOR VALUES FROM (20) TO (30) PARTITION BY LIST (id);
CREATE TABLE sale_2_x PARTITION OF sale_2 DEFAULT;
SELECT watch_table('sale', ARRAY['all', 'p:{id}']);
SELECT watched_table FROM cache_watches;
TABLE watch_triggers;
CALL run('INSERT INTO sale VALUES (1, 10), (2, 20)');
CALL run('INSERT INTO sale_1 VALUES (3, 10)');
CALL run('UPDATE sale_2 SET day = 21');
CALL run('UPDATE sale_2_x SET day = 22');
CALL run('UPDATE sale SET day = 11 WHERE day = 22');
CALL run('COPY sale_1 FROM PROGRAM ''echo 3,12'' WITH (FORMAT csv)');
CALL run('TRUNCATE sale_1');

-- Triggers that are disabled and enabled again.
ALTER TABLE sale DISABLE TRIGGER ALL;
CALL run('ALTER TABLE sale ENABLE TRIGGER ALL');
TABLE watch_triggers;
-- Columns of the whole, needed by a partition's own watch.
SELECT unwatch_table('sale');
ALTER TABLE sale ADD COLUMN note int;
SELECT watch_table('sale_1', ARRAY['p:{note}']);
CALL run('ALTER TABLE sale ALTER COLUMN note TYPE text');
ALTER TABLE sale RENAME COLUMN note TO remark;
ALTER TABLE sale DROP COLUMN note;
SELECT unwatch_table('sale_1');
ALTER TABLE sale DROP COLUMN note;
SELECT watch_table('sale', ARRAY['all', 'p:{id}']);
-- Partitions that come and go.
CALL run('CREATE TABLE sale_3 PARTITION OF sale FOR VALUES FROM (30) TO (40)');
CALL run('INSERT INTO sale_3 VALUES (3, 30)');
CREATE TABLE sale_4 (id int, day int) PARTITION BY LIST (id);
CREATE TABLE sale_4_x PARTITION OF sale_4 DEFAULT;
INSERT INTO sale_4 VALUES (2, 40);
CALL run('ALTER TABLE sale ATTACH PARTITION sale_4 FOR VALUES FROM (40) TO (50)');
CALL run('INSERT INTO sale_4_x VALUES (3, 40)');
CALL run('ALTER TABLE sale DETACH PARTITION sale_4');
CALL run('INSERT INTO sale_4_x VALUES (3, 40)');
ALTER TABLE sale DETACH PARTITION sale_3 CONCURRENTLY;
CALL run('INSERT INTO sale_3 VALUES (3, 30)');
CALL run('DROP TABLE sale_2_x');
TABLE watch_triggers;
SELECT watch_table('sale', '{all}');
TABLE watch_triggers;
CALL run('INSERT INTO sale_1 VALUES (3, 10)');
CALL run('ALTER TABLE sale DETACH PARTITION sale_1');

-- A partition may have a watch of its own.
CREATE TABLE sale_5 PARTITION OF sale FOR VALUES FROM (50) TO (60);
SELECT watch_table('sale_5', '{other}');
CALL run('INSERT INTO sale VALUES (3, 50)');
CALL run('INSERT INTO sale_5 VALUES (3, 50)');
SELECT unwatch_table('sale');
TABLE watch_triggers;
SELECT unwatch_table('sale_5');
DROP TABLE sale, sale_1, sale_3, sale_4;

-- Two watches that meet on one partition are told apart, also where the one was restored from a dump, and its id there is the partition's OID here.
CREATE TABLE sale (id int, day int) PARTITION BY RANGE (day);
CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM (10) TO (20);
DO $$ BEGIN
    EXECUTE (SELECT string_agg(format('CREATE TRIGGER cache_ext_watch_%1$s_statement AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON %2$s FOR EACH STATEMENT
        EXECUTE FUNCTION cache_ext_internal.%3$s(%1$L, %4$L, %4$L, %4$L, %4$L, %5$L)', 'sale_1'::regclass::oid, restored, function, '', 'all'), '; ')
        FROM (VALUES ('sale', 'watched_table_changed'), ('sale_1', 'watched_member_changed')) v (restored, function));
END $$;
TABLE watch_triggers;
SELECT watch_table('sale_1', '{other}');
CALL run('INSERT INTO sale_1 VALUES (1, 10)');
TABLE watch_triggers;
DROP TABLE sale;

-- Whoever owns the table makes its partitions, also where ordinary triggers do not fire.
CREATE ROLE cache_sales;
GRANT CREATE ON SCHEMA public TO cache_sales;
SET ROLE cache_sales;
CREATE TABLE owned (id int) PARTITION BY LIST (id);
RESET ROLE;
SELECT watch_table('owned', '{all}');
SET ROLE cache_sales;
CREATE TABLE owned_1 PARTITION OF owned FOR VALUES IN (1);
RESET ROLE;
SET session_replication_role = replica;
CREATE TABLE owned_2 PARTITION OF owned FOR VALUES IN (2);
RESET session_replication_role;
TABLE watch_triggers;
CALL run('INSERT INTO owned_1 VALUES (1)');
CALL run('INSERT INTO owned_2 VALUES (2)');
-- Made while event triggers were off: watching again finds it.
ALTER EVENT TRIGGER cache_ext_watch_end DISABLE;
CREATE TABLE owned_3 PARTITION OF owned FOR VALUES IN (3);
ALTER EVENT TRIGGER cache_ext_watch_end ENABLE ALWAYS;
SELECT watch_table('owned', '{all}');
CALL run('INSERT INTO owned_3 VALUES (3)');
DROP TABLE owned;
DROP OWNED BY cache_sales;
DROP ROLE cache_sales;

-- Inheritance.
CREATE TABLE base (id int);
CREATE TABLE child (more text) INHERITS (base);
SELECT watch_table('base', ARRAY['all', 'p:{id}']);
TABLE watch_triggers;
CALL run('INSERT INTO child VALUES (1)');
CALL run('UPDATE base SET id = 2');
CALL run('UPDATE ONLY base SET id = 2');
CREATE TABLE grandchild (id int) INHERITS (child);
CALL run('INSERT INTO grandchild VALUES (3)');
CREATE TABLE adopted (extra int, id int);
INSERT INTO adopted VALUES (1, 3);
CALL run('ALTER TABLE adopted INHERIT base');
CALL run('UPDATE adopted SET extra = 2');
CALL run('ALTER TABLE adopted NO INHERIT base');
CALL run('UPDATE adopted SET extra = 3');
CREATE TEMP TABLE passing () INHERITS (base);
TABLE watch_triggers;
CALL run('DROP TABLE grandchild');
SELECT unwatch_table('base');
TABLE watch_triggers;
DROP TABLE base, child, adopted, passing;

-- A child that is watched alone: what is done to its parent is done to its rows. A column can be renamed by other names of the command, too.
CREATE TABLE base (id int);
CREATE TABLE child (more text) INHERITS (base);
SELECT watch_table('child', ARRAY['all', 'p:{id}']);
CALL run('ALTER TABLE base ADD COLUMN new int DEFAULT 3');
CALL run('ALTER TABLE base ALTER COLUMN new TYPE text');
CREATE PROCEDURE renaming(command text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command || ' RENAME COLUMN id TO ident';
EXCEPTION WHEN dependent_objects_still_exist OR wrong_object_type THEN
    RAISE WARNING 'refused';
END
$$;
CALL renaming('ALTER TABLE base');
CALL renaming('ALTER VIEW base');
CALL renaming('ALTER MATERIALIZED VIEW base');
CALL renaming('ALTER FOREIGN TABLE base');
DROP PROCEDURE renaming;
DROP TABLE base, child;

-- With a condition.
CREATE TABLE sale (id int, day int) PARTITION BY RANGE (day);
CREATE TABLE sale_1 PARTITION OF sale FOR VALUES FROM (10) TO (20);
CREATE TABLE sale_2 (day int, gone int, id int);
ALTER TABLE sale_2 DROP COLUMN gone;
ALTER TABLE sale ATTACH PARTITION sale_2 FOR VALUES FROM (20) TO (30);
SELECT watch_table('sale', ARRAY['p:{id}'], 'new.day % 2 = 0', 'SELECT ''other'' FROM changed WHERE id = 3');
TABLE watch_triggers;
CALL run('INSERT INTO sale VALUES (1, 10), (2, 21)');
CALL run('INSERT INTO sale_2 VALUES (20, 3), (21, 1)');
CALL run('UPDATE sale SET day = 12 WHERE id = 2');
CALL run('UPDATE sale_1 SET day = 14 WHERE id = 2');
SET session_replication_role = replica;
CALL run('UPDATE sale SET day = 22 WHERE id = 2');
RESET session_replication_role;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE sale_3 PARTITION OF sale FOR VALUES FROM (30) TO (40) SERVER nowhere;
SELECT watch_table('sale', ARRAY['p:{id}']);
CALL run('CREATE TABLE sale_4 PARTITION OF sale FOR VALUES FROM (40) TO (50)');
-- It may have rows already.
CALL run('CREATE FOREIGN TABLE sale_4_1 PARTITION OF sale FOR VALUES FROM (50) TO (60) SERVER nowhere');
DROP TABLE sale_4;
DROP FOREIGN TABLE sale_4_1;
CREATE FOREIGN TABLE sale_3 PARTITION OF sale FOR VALUES FROM (30) TO (40) SERVER nowhere;
TABLE watch_triggers;
SELECT watch_table('sale', ARRAY['p:{id}'], 'new.day % 2 = 0');
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
DROP TABLE sale;
DROP PROCEDURE run;
DROP VIEW watch_triggers;
DROP EXTENSION cache_ext CASCADE;
