-- What watch_table refuses, and what it refuses to others.
SET client_min_messages = warning;
CREATE EXTENSION cache_ext;
CREATE TABLE product (id int, name text);

SELECT watch_table(NULL, '{a}');
SELECT watch_table('nothing', '{a}');
SELECT watch_table(0, '{a}');
SELECT watch_table('product', NULL);
SELECT watch_table('product', '{}');
SELECT watch_table('product', '{NULL}');
SELECT watch_table('product', '{""}');
SELECT watch_table('product', ARRAY[repeat('x', 257)]);
SELECT watch_table('product', ARRAY(SELECT 't' || g FROM generate_series(1, 65) g));
SELECT watch_table('product', ARRAY['p:{nothing}']);
SELECT watch_table('product', ARRAY['p:{id']);
SELECT watch_table('product', ARRAY['p:id}']);
SELECT watch_table('product', ARRAY['p:{ctid}']);
SELECT watch_table('product', '{a}', '');
SELECT watch_table('product', '{a}', 'nothing > 1');
SELECT watch_table('product', '{a}', 'id > 1');
SELECT watch_table('product', '{a}', 'new.id');
SELECT watch_table('product', '{a}', 'new.id > 0) AND (true');
SELECT watch_table('product', '{a}', 'true) UNION SELECT NULL, (NULL');
SELECT watch_table('product', '{a}', NULL, '  ');
SELECT watch_table('product', '{a}', NULL, 'SELECT id FROM changed');
SELECT watch_table('product', '{a}', NULL, 'SELECT name, name FROM changed');
SELECT watch_table('product', '{a}', NULL, 'SELECT name FROM change');
SELECT watch_table('product', '{a}', NULL, 'DELETE FROM product RETURNING name');
SELECT watch_table('product', '{a}', NULL, 'WITH d AS (DELETE FROM product RETURNING name) SELECT name FROM d');
SELECT watch_table('product', '{a}', NULL, 'SELECT name FROM product FOR UPDATE');
SELECT watch_table('product', '{a}', NULL, 'SELECT ''a''; SELECT ''b''');
SELECT watch_table('product', '{a}', NULL, 'SELECT ''a'' INTO b');
SELECT count(*) FROM cache_watches;

CREATE VIEW a_view AS SELECT * FROM product;
SELECT watch_table('a_view', '{a}');
CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM product;
SELECT watch_table('a_matview', '{a}');
CREATE TEMP TABLE a_temp (id int);
SELECT watch_table('a_temp', '{a}');
CREATE SEQUENCE a_sequence;
SELECT watch_table('a_sequence', '{a}');
SELECT watch_table('pg_class', '{a}');
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE a_foreign (id int) SERVER nowhere;
SELECT watch_table('a_foreign', '{a}');
SELECT unwatch_table('a_view');
BEGIN READ ONLY;
SELECT watch_table('product', '{a}');
ROLLBACK;

-- Definitions that a watch needs.
DROP VIEW a_view;
DROP MATERIALIZED VIEW a_matview;
SELECT watch_table('product', ARRAY['p:{id}'], 'new.name <> ''''');
ALTER TABLE product RENAME COLUMN id TO number;
ALTER TABLE product DROP COLUMN id;
ALTER TABLE product DROP COLUMN name CASCADE;
ALTER TABLE product ALTER COLUMN name TYPE int USING 0;
ALTER TABLE product ALTER COLUMN id TYPE bigint;
ALTER TABLE product RENAME TO products;
ALTER TABLE products RENAME TO product;
SELECT tgname AS name FROM pg_trigger WHERE tgrelid = 'product'::regclass AND tgname LIKE '%update' \gset
-- The message has a number in it.
\set VERBOSITY sqlstate
ALTER TRIGGER :"name" ON product RENAME TO something;
\set VERBOSITY default
BEGIN;
SELECT unwatch_table('product');
ALTER TABLE product RENAME COLUMN id TO number;
SELECT watch_table('product', ARRAY['p:{number}']);
COMMIT;
CREATE DOMAIN d AS int;
ALTER TABLE product ADD COLUMN d d;
SELECT watch_table('product', ARRAY['p:{d}']);
DROP DOMAIN d CASCADE;
-- Where the event trigger did not see it, the trigger itself does.
ALTER EVENT TRIGGER cache_ext_watch_end DISABLE;
ALTER EVENT TRIGGER cache_ext_watch_drop DISABLE;
ALTER TABLE product DROP COLUMN d;
SELECT set_cached_data('k', '1', p_cache_tags => '{other}');
INSERT INTO product VALUES (1, 'x');
SELECT cache_exists('k');
ALTER EVENT TRIGGER cache_ext_watch_end ENABLE ALWAYS;
ALTER EVENT TRIGGER cache_ext_watch_drop ENABLE ALWAYS;
-- And what it does not concern goes on.
ALTER TABLE a_temp ADD COLUMN more int;
CREATE TABLE unrelated (id int);
ALTER TABLE unrelated RENAME COLUMN id TO number;
DROP TABLE unrelated;
SELECT unwatch_table('product');

-- Who may: EXECUTE, and the privilege TRIGGER.
CREATE ROLE cache_somebody;
SET ROLE cache_somebody;
SELECT watch_table('product', '{a}');
RESET ROLE;
GRANT EXECUTE ON FUNCTION watch_table, unwatch_table TO cache_somebody;
SET ROLE cache_somebody;
SELECT watch_table('product', '{a}');
SELECT unwatch_table('product');
RESET ROLE;
GRANT TRIGGER ON product TO cache_somebody;
SET ROLE cache_somebody;
SELECT watch_table('product', '{a}');
SELECT unwatch_table('product');
SELECT * FROM cache_watches;
RESET ROLE;
DROP OWNED BY cache_somebody;
DROP ROLE cache_somebody;

SELECT cache_ext_internal.watched_table_changed();
CREATE TRIGGER by_hand AFTER INSERT ON product EXECUTE FUNCTION cache_ext_internal.watched_table_changed('x');
INSERT INTO product VALUES (1);
DROP TABLE product CASCADE;
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
DROP EXTENSION cache_ext;
