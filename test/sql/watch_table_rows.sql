-- The triggers for rows that watches have where triggers for statements may not fire: where rows are applied, and where a statement names a table
-- above the watched one.
SET client_min_messages = error;
CREATE EXTENSION cache_ext;
\getenv folder PG_ABS_SRCDIR
\set watched :folder '/sql/include/watched.sql'
\set ECHO none
\i :watched
\set ECHO all
CREATE VIEW row_triggers AS
SELECT tgrelid::regclass AS table_name, tgenabled AS enabled
FROM pg_trigger WHERE tgname LIKE 'cache_ext_watch_%_row' ORDER BY tgrelid::regclass::text, tgname;

-- Subscriptions. What they apply is in test/t/050_watch_table.pl.
CREATE TABLE plain (id int);
CREATE TABLE templates (id int);
CREATE TABLE conditions (id int);
CREATE TABLE whole (id int) PARTITION BY RANGE (id);
CREATE TABLE whole_1 PARTITION OF whole FOR VALUES FROM (0) TO (10);
CREATE TABLE base (id int);
CREATE TABLE child () INHERITS (base);
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE remote () INHERITS (base) SERVER nowhere;
SELECT watch_table('plain', '{all}'), watch_table('templates', ARRAY['p:{id}']), watch_table('conditions', '{all}', 'new.id > 1'),
       watch_table('whole', '{all}'), watch_table('base', '{all}');
TABLE row_triggers;
CREATE SUBSCRIPTION cache_ext_s CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE);
TABLE row_triggers;
-- What comes afterwards.
CREATE TABLE later (id int);
SELECT watch_table('later', '{all}');
CREATE TABLE whole_2 PARTITION OF whole FOR VALUES FROM (10) TO (20);
SELECT table_name FROM row_triggers WHERE table_name IN ('later'::regclass, 'whole_2'::regclass);
ALTER TABLE plain DISABLE TRIGGER ALL;
ALTER TABLE plain ENABLE TRIGGER ALL;
SELECT watch_table('templates', '{all}');
TABLE row_triggers;
-- Another, of which nothing depends; the last takes them with it.
CREATE SUBSCRIPTION cache_ext_t CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE);
DROP SUBSCRIPTION cache_ext_s;
SELECT count(*) FROM row_triggers;
-- Only as it commits by itself: the locks keep readers out.
BEGIN;
DROP SUBSCRIPTION cache_ext_t;
SELECT count(*) FROM row_triggers;
ROLLBACK;
DROP SUBSCRIPTION cache_ext_t;
TABLE row_triggers;
-- What is rolled back was not there.
BEGIN;
CREATE SUBSCRIPTION cache_ext_s CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE);
SELECT count(*) FROM row_triggers;
ROLLBACK;
TABLE row_triggers;
-- A subscription that was made while event triggers were off: watching again finds it.
ALTER EVENT TRIGGER cache_ext_watch_end DISABLE;
CREATE SUBSCRIPTION cache_ext_s CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE);
ALTER EVENT TRIGGER cache_ext_watch_end ENABLE ALWAYS;
TABLE row_triggers;
SELECT watch_table('plain', '{all}');
TABLE row_triggers;
-- A watch that is restored from where there was no subscription.
SELECT pg_get_triggerdef(oid) AS definition FROM pg_trigger WHERE tgrelid = 'conditions'::regclass AND tgname LIKE '%\_update' \gset
DO $$ BEGIN EXECUTE (SELECT format('DROP TRIGGER %I ON conditions', tgname) FROM pg_trigger
                        WHERE tgrelid = 'conditions'::regclass AND tgname LIKE '%\_update'); END $$;
:definition;
TABLE row_triggers;
DROP SUBSCRIPTION cache_ext_s;
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
DROP TABLE plain, templates, conditions, whole, base, child, later;

-- A partition that is watched alone, and statements that name the whole.
CREATE TABLE whole (id int, n int) PARTITION BY RANGE (id);
CREATE TABLE whole_1 PARTITION OF whole FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
CREATE TABLE whole_1_1 PARTITION OF whole_1 FOR VALUES FROM (0) TO (5);
CREATE TABLE whole_2 PARTITION OF whole FOR VALUES FROM (10) TO (20);
SELECT watch_table('whole_1', '{all}');
TABLE row_triggers;
CALL run('INSERT INTO whole VALUES (1, 1), (2, 2)');
CALL run('INSERT INTO whole_1_1 VALUES (3, 1)');
CALL run('UPDATE whole SET n = 3 WHERE id = 1');
CALL run('UPDATE whole SET n = 3 WHERE id > 10');
CALL run('UPDATE whole SET id = 11 WHERE id = 2');
CALL run('COPY whole FROM PROGRAM ''echo 4,4'' WITH (FORMAT csv)');
CALL run('MERGE INTO whole w USING (VALUES (1)) v (id) ON w.id = v.id WHEN MATCHED THEN DELETE');
CALL run('TRUNCATE whole');
CREATE TABLE whole_1_2 PARTITION OF whole_1 FOR VALUES FROM (5) TO (10);
CALL run('INSERT INTO whole VALUES (6, 6)');
SELECT watch_table('whole_1', ARRAY['other', 'p:{n}']);
CALL run('INSERT INTO whole VALUES (1, 1)');
SELECT watch_table('whole_1', '{other}', 'new.n = 2', 'SELECT ''p:'' || id FROM changed');
TABLE row_triggers;
CALL run('UPDATE whole SET n = 3');
CALL run('UPDATE whole SET n = 2 WHERE id = 1');
SELECT unwatch_table('whole_1');
SELECT watch_table('whole_2', '{other}', 'new.n = 2');
CALL run('INSERT INTO whole VALUES (11, 1)');
CALL run('INSERT INTO whole VALUES (12, 2)');
-- A watched table that becomes a partition.
CREATE TABLE whole_3 (id int, n int) PARTITION BY RANGE (id);
CREATE TABLE whole_3_1 PARTITION OF whole_3 FOR VALUES FROM (20) TO (25);
SELECT watch_table('whole_3', '{all}');
TABLE row_triggers;
ALTER TABLE whole ATTACH PARTITION whole_3 FOR VALUES FROM (20) TO (30);
TABLE row_triggers;
CALL run('INSERT INTO whole VALUES (20, 1)');
-- Watching what is above too makes no difference to it; below one watch for all, nothing is needed.
SELECT watch_table('whole', '{p:3}');
CALL run('INSERT INTO whole VALUES (20, 1)');
SELECT unwatch_table('whole_3'), unwatch_table('whole_2');
TABLE row_triggers;
DROP TABLE whole;

-- Inheritance: children that are watched alone, that have other parents too, or get them.
CREATE TABLE base (id int);
CREATE TABLE child () INHERITS (base);
SELECT watch_table('child', '{all}');
INSERT INTO child VALUES (1);
CALL run('UPDATE base SET id = 2');
CALL run('UPDATE ONLY base SET id = 2');
SELECT unwatch_table('child');
CREATE TABLE aside (id int);
CREATE TABLE two () INHERITS (base, aside);
INSERT INTO two VALUES (1);
SELECT watch_table('base', '{all}');
TABLE row_triggers;
CALL run('DELETE FROM aside');
CREATE TABLE atop (id int);
ALTER TABLE base INHERIT atop;
TABLE row_triggers;
CALL run('UPDATE atop SET id = 3');
-- A diamond of which all is watched.
CREATE TABLE top (id int);
CREATE TABLE middle_1 () INHERITS (top);
CREATE TABLE middle_2 () INHERITS (top);
CREATE TABLE bottom () INHERITS (middle_1, middle_2);
SELECT watch_table('top', '{other}');
SELECT count(*) FROM row_triggers WHERE table_name IN ('top'::regclass, 'middle_1'::regclass, 'middle_2'::regclass, 'bottom'::regclass);
INSERT INTO bottom VALUES (1);
CALL run('UPDATE middle_2 SET id = 2');
DROP TABLE top, middle_1, middle_2, bottom, two, child, base, atop, aside;
DROP PROCEDURE run;
DROP VIEW watch_triggers;
DROP EXTENSION cache_ext CASCADE;
