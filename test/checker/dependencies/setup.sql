-- Tables that results depend on, and the oracle: in one statement what the cache returns equals what computing it returns.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
DROP SCHEMA IF EXISTS watching CASCADE;
CREATE SCHEMA watching;
SET search_path = watching, public;
CREATE TABLE one (id int PRIMARY KEY, v int);
CREATE TABLE two (id int PRIMARY KEY REFERENCES one ON DELETE CASCADE, v int);
CREATE TABLE parts (id int, v int) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE fresh (v int);
INSERT INTO one SELECT i, i FROM generate_series(1, 20) i;
INSERT INTO two SELECT i, i FROM generate_series(1, 10) i;
INSERT INTO parts SELECT i, i FROM generate_series(1, 20) i;
INSERT INTO fresh VALUES (1);
CREATE FUNCTION nested() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT sum(v) FROM watching.two); END';
CREATE SEQUENCE hits;
CREATE SEQUENCE misses;

-- Which query a number stands for.
CREATE FUNCTION query(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT (ARRAY['SELECT sum(v) AS s, count(*) AS n FROM watching.one',
                  'SELECT sum(one.v + two.v) AS s FROM watching.one JOIN watching.two USING (id)',
                  'SELECT sum(v) AS s FROM watching.parts',
                  'SELECT v AS s FROM watching.parts WHERE id = 3',
                  'SELECT watching.nested() AS s',
                  'SELECT sum(v) AS s FROM watching.fresh'])[n]
$$;
CREATE FUNCTION check_one(n int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    there boolean;
    cached jsonb;
    computed jsonb;
BEGIN
    EXECUTE format('SELECT cache_exists(%1$L), get_or_set_cached_data(%1$L, %2$L), coalesce((SELECT jsonb_agg(to_jsonb(q)) FROM (%2$s) q), ''[]'')',
                   'watching:' || n, watching.query(n)) INTO there, cached, computed;
    PERFORM nextval(CASE WHEN there THEN 'watching.hits' ELSE 'watching.misses' END);
    IF cached IS DISTINCT FROM computed THEN
        RAISE EXCEPTION 'VIOLATION: query %: cached % (found: %), computed %', n, cached, there, computed;
    END IF;
END $$;
