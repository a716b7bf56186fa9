-- Cached functions without tags: a result lives until something that it was computed from changes. Needs preloading.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
CREATE ROLE cft_reader;
RESET client_min_messages;
CREATE SCHEMA cft;
GRANT USAGE ON SCHEMA cft TO PUBLIC;
SET search_path = cft, public;
CREATE TABLE products (id int PRIMARY KEY, name text, price numeric);
CREATE TABLE reviews (product int, stars int);
CREATE TABLE unread (v int);
INSERT INTO products VALUES (1, 'desk', 10), (2, 'lamp', 20);
INSERT INTO reviews VALUES (1, 5), (1, 4), (2, 1);
CREATE VIEW rated AS SELECT p.id, p.name, p.price, (SELECT round(avg(stars), 1) FROM reviews r WHERE r.product = p.id) AS stars FROM products p;
CREATE FUNCTION told() RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN true; END $$;
CREATE FUNCTION product(p_id int) RETURNS TABLE (name text, stars numeric) LANGUAGE sql STABLE AS $$ SELECT name, stars FROM cft.rated WHERE id = p_id AND cft.told() $$;
SELECT create_cached_function('product(int)');
SELECT * FROM product_cached(1);
SELECT * FROM product_cached(1);
INSERT INTO unread VALUES (1);
SELECT * FROM product_cached(1);
UPDATE products SET name = 'table' WHERE id = 1;
SELECT * FROM product_cached(1);
INSERT INTO reviews VALUES (1, 1);
SELECT * FROM product_cached(1);
TRUNCATE reviews;
SELECT * FROM product_cached(1);
COPY reviews FROM stdin;
1	2
\.
SELECT * FROM product_cached(1);
-- One's own writes at once, and what is rolled back not at all.
SELECT * FROM product_cached(2);
BEGIN;
UPDATE products SET name = 'sun' WHERE id = 2;
SELECT * FROM product_cached(2);
SAVEPOINT s;
UPDATE products SET name = 'moon' WHERE id = 2;
SELECT * FROM product_cached(2);
ROLLBACK TO s;
SELECT * FROM product_cached(2);
ROLLBACK;
SELECT * FROM product_cached(2);
-- Definitions.
CREATE OR REPLACE VIEW rated AS SELECT p.id, upper(p.name) AS name, p.price, (SELECT round(avg(stars), 1) FROM reviews r WHERE r.product = p.id) AS stars FROM products p;
SELECT * FROM product_cached(2);
ALTER TABLE products ALTER price TYPE float8 USING price;
DROP VIEW rated;
ALTER TABLE products ALTER price TYPE float8;
\set SHOW_CONTEXT never
SELECT * FROM product_cached(2);
\set SHOW_CONTEXT errors
CREATE VIEW rated AS SELECT id, name, 0::numeric AS stars FROM products;
SELECT * FROM product_cached(2);
SELECT cache_tags FROM query_cache WHERE cache_key LIKE 'function:cft.product_cached:%';

-- A cached function in a cached function, and in a query that is cached.
CREATE FUNCTION shout(p_id int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'shouted'; RETURN (SELECT upper(name) FROM cft.product_cached(p_id)); END $$;
SELECT create_cached_function('shout(int)');
SELECT shout_cached(1), shout_cached(1);
SELECT get_or_set_cached_data('shouted', 'SELECT to_jsonb(cft.shout_cached(1))');
UPDATE products SET name = 'door' WHERE id = 1;
SELECT get_or_set_cached_data('shouted', 'SELECT to_jsonb(cft.shout_cached(1))');
SELECT shout_cached(1);

-- Row security: each caller's rows, and what the policies read.
CREATE TABLE team (who name, product int);
CREATE TABLE notes (product int, note text);
INSERT INTO notes VALUES (1, 'first'), (2, 'second');
CREATE FUNCTION in_team(p int) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$ BEGIN RETURN EXISTS (SELECT FROM cft.team t WHERE t.who = 'cft_reader' AND t.product = p); END $$;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY of_team ON notes USING (EXISTS (SELECT FROM cft.team t WHERE t.who = current_user AND t.product = notes.product));
GRANT SELECT ON notes, team TO cft_reader;
CREATE FUNCTION notes_of() RETURNS SETOF text LANGUAGE sql STABLE AS $$ SELECT note FROM cft.notes WHERE cft.told() ORDER BY 1 $$;
SELECT create_cached_function('notes_of()');
SELECT create_cached_function('notes_of()', p_cache_tags => '{}', p_name => 'notes_tagged');
SELECT * FROM notes_of_cached();
SET ROLE cft_reader;
SELECT * FROM notes_of_cached();
SELECT * FROM notes_tagged();
SELECT * FROM notes_tagged();
RESET ROLE;
INSERT INTO team VALUES ('cft_reader', 2);
SET ROLE cft_reader;
SELECT * FROM notes_of_cached();
SELECT * FROM notes_tagged();
RESET ROLE;
-- With tags, what the table itself holds is theirs to say.
INSERT INTO notes VALUES (2, 'third');
SET ROLE cft_reader;
SELECT * FROM notes_of_cached();
SELECT * FROM notes_tagged();
RESET ROLE;
-- A policy that asks a function whose body is not looked into: everything that was read counts.
DROP POLICY of_team ON notes;
CREATE POLICY of_team ON notes USING (cft.in_team(product));
SET ROLE cft_reader;
SELECT * FROM notes_tagged();
SELECT * FROM notes_tagged();
RESET ROLE;
DELETE FROM team;
SET ROLE cft_reader;
SELECT * FROM notes_tagged();
SELECT * FROM notes_of_cached();
RESET ROLE;
-- One that asks a function which looks elsewhere for its tables.
DROP POLICY of_team ON notes;
CREATE SCHEMA cft_other;
GRANT USAGE ON SCHEMA cft_other TO cft_reader;
CREATE TABLE cft_other.team (who name, product int);
GRANT SELECT ON cft_other.team TO cft_reader;
CREATE FUNCTION in_other_team(p int) RETURNS boolean LANGUAGE sql STABLE SET search_path = cft_other AS $$ SELECT EXISTS (SELECT FROM team t WHERE t.product = p) $$;
CREATE POLICY of_team ON notes USING (cft.in_other_team(product));
SET ROLE cft_reader;
SELECT * FROM notes_tagged();
RESET ROLE;
INSERT INTO cft_other.team VALUES ('cft_reader', 1);
SET ROLE cft_reader;
SELECT * FROM notes_tagged();
RESET ROLE;
DROP POLICY of_team ON notes;
CREATE POLICY everything ON notes USING (true);
SET ROLE cft_reader;
SELECT count(*) FROM notes_tagged();
SELECT count(*) FROM notes_of_cached();
RESET ROLE;
REVOKE SELECT ON notes FROM cft_reader;
SET ROLE cft_reader;
SELECT count(*) FROM notes_of_cached();
SELECT count(*) FROM notes_tagged();
RESET ROLE;

-- With tags of one's own.
CREATE FUNCTION tagged(p_id int) RETURNS text LANGUAGE sql STABLE AS $$ SELECT name FROM cft.products WHERE id = p_id AND cft.told() $$;
SELECT create_cached_function('tagged(int)', p_cache_tags => ARRAY['product:{p_id}', 'products']);
SELECT tagged_cached(1), tagged_cached(1), tagged_cached(2);
UPDATE products SET name = 'gate' WHERE id = 1;
SELECT tagged_cached(1);
SELECT invalidate_cache_by_tags('{product:1}');
SELECT tagged_cached(1), tagged_cached(2);

-- What cannot be tracked is told, and not kept where that is the only way to be right.
CREATE SEQUENCE counter;
CREATE TEMPORARY TABLE mine (v int);
CREATE FUNCTION of_counter() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT last_value FROM cft.counter WHERE cft.told() $$;
SELECT create_cached_function('of_counter()');
SELECT of_counter_cached(), of_counter_cached();
CREATE FUNCTION of_mine() RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT count(*) FROM mine WHERE cft.told() $$;
SELECT create_cached_function('of_mine()');
SELECT of_mine_cached(), of_mine_cached();
SELECT create_cached_function('of_mine()', p_cache_tags => '{}', p_name => 'of_mine_tagged');
SELECT of_mine_tagged(), of_mine_tagged();
CREATE FUNCTION of_time() RETURNS date LANGUAGE sql STABLE AS $$ SELECT current_date $$;
SELECT create_cached_function('of_time()');
CREATE FUNCTION of_chance() RETURNS float8 LANGUAGE sql VOLATILE AS $$ SELECT random() $$;
SELECT create_cached_function('of_chance()');
CREATE FUNCTION of_me() RETURNS name LANGUAGE sql STABLE AS $$ SELECT current_user $$;
SELECT create_cached_function('of_me()');
CREATE FUNCTION of_plpgsql() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 1; END $$;
SELECT create_cached_function('of_plpgsql()');

SET client_min_messages = warning;
DROP SCHEMA cft, cft_other CASCADE;
DROP ROLE cft_reader;
