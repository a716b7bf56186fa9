-- warm_cache: what was used and is not in the cache any more is computed again.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS cache_ext CASCADE;
CREATE EXTENSION cache_ext;
CREATE ROLE warm_owner;
CREATE ROLE warm_admin;
RESET client_min_messages;
CREATE SCHEMA warming;
GRANT USAGE, CREATE ON SCHEMA warming TO warm_owner;
GRANT EXECUTE ON FUNCTION warm_cache, invalidate_cache_by_tags, create_cached_function TO warm_owner;
GRANT EXECUTE ON FUNCTION warm_cache TO warm_admin;
GRANT USAGE ON LANGUAGE cached TO warm_owner;
SET search_path = warming, public;
-- What the tests need of an entry: reads that are hits count.
CREATE FUNCTION entries() RETURNS TABLE (entry text, read bigint) LANGUAGE sql AS $$
    SELECT regexp_replace(cache_key, ':[0-9a-f]{32}:.*', ''), sum(hit_count)::bigint FROM query_cache WHERE cache_key LIKE 'function:%' GROUP BY 1 ORDER BY 1 $$;

SET ROLE warm_owner;
SET search_path = warming, public;
CREATE TABLE item (id int PRIMARY KEY, name text);
INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 9) n;
CREATE FUNCTION name_of(p_id int) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN RAISE NOTICE 'name of % for %', p_id, current_user; RETURN (SELECT name FROM item WHERE id = p_id); END $$;
SELECT create_cached_function('name_of(int)', p_cache_tags => ARRAY['item', 'item:{p_id}'], p_shared => true);
CREATE FUNCTION own_name_of(p_id int) RETURNS text LANGUAGE sql STABLE AS 'SELECT name FROM item WHERE id = p_id';
SELECT create_cached_function('own_name_of(int)', p_cache_tags => '{item}');

-- Nothing was used, nothing is warmed; what is fresh neither.
SELECT warm_cache();
SELECT name_of_cached(1), name_of_cached(2), own_name_of_cached(1);
SELECT name_of_cached(1), name_of_cached(1), name_of_cached(2), own_name_of_cached(1);
SELECT warm_cache();

-- What was invalidated is, the most used first, as the function's owner; what is private is not. Then it is read.
RESET ROLE;
SELECT name_of_cached(3);
UPDATE item SET name = name || ' (changed)';
SELECT invalidate_cache_by_tags('{item}') AS removed;
SET ROLE warm_admin;
SELECT warm_cache(1);
SELECT warm_cache(p_limit => 5);
SELECT warm_cache();
RESET ROLE;
SELECT name_of_cached(1), name_of_cached(2);
SELECT * FROM entries();
SELECT invalidate_cache_by_tags('{item:2}');
SELECT warm_cache();

-- A sweep removes what it was known by, so it is noted before.
SELECT name_of_cached(1), name_of_cached(2);
SELECT invalidate_cache_by_tags('{item}') AS removed;
SELECT cleanup_expired_cache() >= 2 AS swept;
SELECT regexp_replace(cache_key, ':[0-9a-f]{32}:.*', '') AS function, hits, noted_at <= clock_timestamp() AS dated FROM cache_ext_internal.warm_list ORDER BY 1, 2;
BEGIN READ ONLY;
SELECT warm_cache();
COMMIT;
SELECT name_of_cached(1), name_of_cached(2);
-- What was not met for a day goes from the list, and no more than 1000 stay.
INSERT INTO cache_ext_internal.warm_list SELECT 'function:none' || n, 2, clock_timestamp() - n * interval '25 hours' FROM generate_series(0, 1) n;
INSERT INTO cache_ext_internal.warm_list SELECT 'function:rare' || n, 0 FROM generate_series(1, 1100) n;
SELECT cleanup_expired_cache() >= 0 AS swept;
SELECT cache_key FROM cache_ext_internal.warm_list WHERE cache_key LIKE 'function:none%';
SELECT count(*) FROM cache_ext_internal.warm_list;
SELECT warm_cache();

-- Every kind of argument and of result.
SET client_min_messages = warning;
CREATE TYPE mood AS ENUM ('sad', 'fine');
CREATE DOMAIN small AS int CHECK (value < 100);
CREATE TYPE pair AS (a int, b text);
CREATE FUNCTION all_types(a smallint, b int, c bigint, d boolean, e real, f double precision, g text, h uuid, i numeric, j date, k timestamptz, l interval,
    m jsonb, n int[], o text[], p mood, q int4range, r small, s name, t "char", u char(3), v bytea, w int8multirange, x small[])
RETURNS text LANGUAGE sql STABLE AS $$ SELECT concat_ws('|', a, b, c, d, e, f, g, h, i, j, l, m, n, o, p, q, r, s, t, u, v, w, x) $$;
CREATE FUNCTION rows_of(a int) RETURNS SETOF item LANGUAGE sql STABLE AS 'SELECT * FROM item WHERE id <= a ORDER BY id';
CREATE FUNCTION table_of(a int) RETURNS TABLE (x int, y text) LANGUAGE sql STABLE AS 'SELECT id, name FROM item WHERE id <= a ORDER BY id';
CREATE FUNCTION numbers(a int) RETURNS SETOF int LANGUAGE sql STABLE AS 'SELECT generate_series(1, a)';
CREATE FUNCTION outs(a int, OUT x int, OUT y text) LANGUAGE sql STABLE AS 'SELECT a + 1, ''y''';
CREATE FUNCTION one_row(a int) RETURNS item LANGUAGE sql STABLE AS 'SELECT * FROM item WHERE id = a';
CREATE FUNCTION many(VARIADIC a int[]) RETURNS int LANGUAGE sql STABLE AS 'SELECT sum(n)::int FROM unnest(a) n';
CREATE FUNCTION nothing_given() RETURNS text LANGUAGE sql STABLE AS 'SELECT ''nothing''';
CREATE FUNCTION strict_one(a text) RETURNS text LANGUAGE sql STABLE STRICT AS 'SELECT upper(a)';
-- These are not: what they were called with cannot be made again from a key.
CREATE FUNCTION of_pair(a pair) RETURNS text LANGUAGE sql STABLE AS 'SELECT a.b';
CREATE FUNCTION of_any(a anyelement) RETURNS text LANGUAGE sql STABLE AS 'SELECT a::text';
CREATE FUNCTION records(a int) RETURNS SETOF record LANGUAGE sql STABLE AS 'SELECT id, name FROM item WHERE id <= a';
SELECT count(create_cached_function(p.oid::regprocedure, p_cache_tags => '{types}', p_shared => true)) FROM pg_proc p
WHERE pronamespace = 'warming'::regnamespace AND proname IN ('all_types', 'rows_of', 'table_of', 'numbers', 'outs', 'one_row', 'many', 'nothing_given', 'strict_one',
    'of_pair', 'of_any', 'records');
RESET client_min_messages;
CREATE VIEW calls AS
SELECT all_types_cached(smallint '-1', -2, -3, true, -1.5, 2.5, 'grüße', '00112233-4455-6677-8899-aabbccddeeff', 12.340, '2026-01-02', '2026-01-02 03:04:05+00', '1 day 2 hours',
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) AS some_types,
       all_types_cached(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"a": [1, null]}', NULL, '{x,NULL,"y z"}', 'fine', '[1,5)', 42, NULL, 'c', 'ab', '\xdeadbeef',
           '{[1,2),[5,7)}', NULL) AS other_types,
       all_types_cached(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{1,NULL,3}', NULL, NULL, NULL, NULL, 'a name', NULL, NULL, NULL, NULL, '{1,2}') AS last_types,
       all_types_cached(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) AS nulls,
       all_types_cached(NULL, NULL, NULL, NULL, NULL, NULL, repeat('long', 100), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) = repeat('long', 100) AS long,
       (SELECT string_agg(r::text, ' ') FROM rows_of_cached(2) r) AS rows, (SELECT string_agg(r::text, ' ') FROM table_of_cached(2) r) AS table_rows,
       (SELECT array_agg(r) FROM numbers_cached(3) r) AS numbers, outs_cached(1)::text AS outs, one_row_cached(1) AS one_row, many_cached(1, 2, 3) AS many,
       nothing_given_cached() AS nothing, strict_one_cached('s') AS strict_one, of_pair_cached('(1,b)') AS of_pair, of_any_cached(1.5) AS of_any,
       (SELECT array_agg(r.b) FROM records_cached(2) r (a int, b text)) AS records;
\x on
SELECT * FROM calls;
SELECT * FROM calls;
\x off
CREATE TABLE seen AS SELECT * FROM calls;
SELECT invalidate_cache_by_tags('{types}') AS removed;
SELECT warm_cache();
SELECT warm_cache();
-- All but long, of_pair, of_any and records.
SELECT cache_key ~ ':#' AS hashed, regexp_replace(cache_key, ':[0-9a-f]{32}:.*', '') AS entry FROM query_cache WHERE cache_tags = '{types}' ORDER BY 2, 1;
SELECT (SELECT seen::text FROM seen) = (SELECT calls::text FROM calls) AS same;

-- Rights. What the owner may not read, it does not get.
CREATE FUNCTION secret() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT string_agg(usename, ',') FROM warming.secrets) || current_user; END $$;
CREATE TABLE secrets AS SELECT 'me'::text AS usename;
ALTER FUNCTION secret() OWNER TO warm_owner;
GRANT SELECT ON secrets TO warm_owner;
SELECT create_cached_function('secret()', p_cache_tags => '{secret}', p_shared => true);
SELECT secret_cached();
SELECT secret_cached();
REVOKE SELECT ON secrets FROM warm_owner;
SELECT invalidate_cache_by_tags('{secret}');
SELECT warm_cache();
GRANT SELECT ON secrets TO warm_owner;
SELECT warm_cache();
SELECT secret_cached();
-- Privileges are part of a function's state, and so of its keys.
SELECT invalidate_cache_by_tags('{secret}');
REVOKE EXECUTE ON FUNCTION secret() FROM PUBLIC, warm_owner;
SELECT warm_cache();
GRANT EXECUTE ON FUNCTION secret() TO warm_owner;
-- A function that was replaced has other keys.
CREATE OR REPLACE FUNCTION secret() RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'replaced' $$;
SELECT warm_cache();

-- One that fails hinders no other, and is told of once; one that writes is not let.
SET ROLE warm_owner;
CREATE TABLE failing (fails boolean);
INSERT INTO failing VALUES (false);
CREATE FUNCTION divided(a int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN IF (SELECT fails FROM failing) THEN RETURN a / 0; END IF; RETURN a; END $$;
CREATE FUNCTION writing() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN IF (SELECT fails FROM failing) THEN INSERT INTO failing VALUES (true); END IF; RETURN 1; END $$;
SELECT create_cached_function('divided(int)', p_cache_tags => '{failing}', p_shared => true);
SELECT create_cached_function('writing()', p_cache_tags => '{failing}', p_shared => true);
SELECT divided_cached(1), divided_cached(2), writing_cached(), divided_cached(1), divided_cached(2), writing_cached(), name_of_cached(1);
SELECT divided_cached(1), divided_cached(2), writing_cached(), name_of_cached(1);
UPDATE failing SET fails = true;
SELECT invalidate_cache_by_tags('{failing,item:1}');
SELECT warm_cache();
TABLE failing;

-- What is computed from uncommitted writes is nobody else's.
UPDATE failing SET fails = false;
SELECT warm_cache();
BEGIN;
UPDATE item SET name = 'uncommitted' WHERE id = 1;
SELECT invalidate_cache_by_tags('{item:1}') AS removed;
SELECT warm_cache();
SELECT name_of_cached(1);
ROLLBACK;
SELECT name_of_cached(1);

-- What is in its grace is refreshed.
CREATE FUNCTION graceful() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN 1; END $$;
SELECT create_cached_function('graceful()', '1 hour', '{graceful}', p_shared => true, p_grace => '1 hour');
SELECT graceful_cached();
SELECT graceful_cached();
RESET ROLE;
SELECT expire_cache_by_tags('{graceful}');
SELECT warm_cache();
SELECT graceful_cached();
-- Where that fails it is told of and counted as elsewhere, although there is a value.
SET ROLE warm_owner;
CREATE FUNCTION graceful_quotient(a int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN a / (SELECT CASE WHEN fails THEN 0 ELSE 1 END FROM failing); END $$;
SELECT create_cached_function('graceful_quotient(int)', '1 hour', '{quotients}', p_shared => true, p_grace => '1 hour');
SELECT graceful_quotient_cached(1), graceful_quotient_cached(2), graceful_quotient_cached(3);
SELECT graceful_quotient_cached(1), graceful_quotient_cached(2), graceful_quotient_cached(3);
RESET ROLE;
UPDATE failing SET fails = true;
SELECT warm_cache() > 0 AS others;
SELECT expire_cache_by_tags('{quotients}');
SELECT warm_cache(1);
SELECT graceful_quotient_cached(1);
DROP FUNCTION graceful_quotient CASCADE;

-- Other settings make other keys; they are warmed where these are set.
SET timezone = 'Asia/Tokyo';
SELECT name_of_cached(4);
SELECT name_of_cached(4);
SELECT invalidate_cache_by_tags('{item}') > 0 AS removed;
RESET timezone;
SELECT warm_cache() > 0 AS others;
SET timezone = 'Asia/Tokyo';
SELECT warm_cache();
RESET timezone;

-- Mistakes, and where there is nothing to do.
SELECT warm_cache(0);
SELECT warm_cache(-1);
SELECT warm_cache(NULL);
SELECT invalidate_cache_by_tags('{item}') > 0 AS removed;
SET cache_ext.enabled = off;
SELECT warm_cache();
RESET cache_ext.enabled;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT warm_cache();
COMMIT;
SELECT invalidate_cache_by_tags('{types}') > 0 AS removed;
SET statement_timeout = '100ms';
\set VERBOSITY sqlstate
SELECT warm_cache();
\set VERBOSITY default
RESET statement_timeout;
SELECT has_function_privilege('public', 'warm_cache(int)', 'EXECUTE') AS everybody;

SET client_min_messages = warning;
DROP EXTENSION cache_ext CASCADE;
DROP SCHEMA warming CASCADE;
DROP OWNED BY warm_owner, warm_admin;
DROP ROLE warm_owner, warm_admin;
CREATE EXTENSION cache_ext;
