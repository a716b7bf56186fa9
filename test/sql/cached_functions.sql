-- Cached functions: every kind of result and argument. Each function tells when it is computed; a second call does not.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
CREATE SCHEMA cf;
SET search_path = cf, public;
CREATE FUNCTION told(what text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', what; RETURN true; END $$;
CREATE TYPE pair AS (a int, b text);
CREATE TYPE nested AS (p pair, ps pair[]);
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN small AS int CHECK (value < 100);
CREATE DOMAIN checked_pair AS pair CHECK ((value).a > 0);
CREATE TABLE things (id int, gone int, name text);
ALTER TABLE things DROP COLUMN gone;
INSERT INTO things VALUES (1, 'one'), (2, NULL), (3, repeat('three ', 3000));

-- Single values.
CREATE FUNCTION f_int(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', n; RETURN n * 2; END $$;
SELECT create_cached_function('f_int(int)', p_cache_tags => '{}');
SELECT f_int_cached(1), f_int_cached(1), f_int_cached(2);
SELECT f_int_cached(n => 2), f_int_cached(1, '1 hour'), f_int_cached(NULL), f_int_cached(NULL);
CREATE FUNCTION f_text(n int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', n; RETURN (SELECT name FROM things WHERE id = n); END $$;
SELECT create_cached_function('f_text(int)', p_cache_tags => '{}');
SELECT f_text_cached(1), f_text_cached(2), md5(f_text_cached(3)) = md5(f_text(3)), f_text_cached(4);
SELECT f_text_cached(1), f_text_cached(2), md5(f_text_cached(3)) = md5(repeat('three ', 3000)), f_text_cached(4);
CREATE FUNCTION f_any(kind text) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', kind; RETURN jsonb_build_object('kind', kind); END $$;
SELECT create_cached_function('f_any(text)', p_cache_tags => '{}');
SELECT f_any_cached('x'), f_any_cached('x') ->> 'kind';
CREATE FUNCTION f_fixed() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT '3f0bd8a0-0000-4000-8000-000000000001'::uuid WHERE cf.told('fixed') $$;
SELECT create_cached_function('f_fixed()', p_cache_tags => '{}');
SELECT f_fixed_cached(), f_fixed_cached();
CREATE FUNCTION f_mood(happy bool) RETURNS mood LANGUAGE sql STABLE AS $$ SELECT CASE WHEN happy THEN 'happy' ELSE 'sad' END::cf.mood WHERE cf.told('mood') $$;
SELECT create_cached_function('f_mood(bool)', p_cache_tags => '{}');
SELECT f_mood_cached(true), f_mood_cached(true), f_mood_cached(false) < 'happy';
CREATE FUNCTION f_domain(n small) RETURNS small LANGUAGE sql STABLE AS $$ SELECT n WHERE cf.told('domain') $$;
SELECT create_cached_function('f_domain(small)', p_cache_tags => '{}');
SELECT f_domain_cached(5), f_domain_cached(5), pg_typeof(f_domain_cached(5));
CREATE FUNCTION f_range(n int) RETURNS int4multirange LANGUAGE sql STABLE AS $$ SELECT int4multirange(int4range(1, n), int4range(n + 5, n + 9)) WHERE cf.told('range') $$;
SELECT create_cached_function('f_range(int)', p_cache_tags => '{}');
SELECT f_range_cached(5), f_range_cached(5) @> 12;
CREATE FUNCTION f_array(n int) RETURNS numeric[] LANGUAGE sql STABLE AS $$ SELECT array_agg(i / 4.0) FROM generate_series(1, n) i WHERE cf.told('array') $$;
SELECT create_cached_function('f_array(int)', p_cache_tags => '{}');
SELECT f_array_cached(2), (f_array_cached(2))[1];
-- An array that plpgsql has in its own form.
CREATE FUNCTION f_expanded(n int) RETURNS int[] LANGUAGE plpgsql STABLE AS $$ DECLARE r int[]; BEGIN RAISE NOTICE 'computed'; FOR i IN 1..n LOOP r := r || i; END LOOP; RETURN r; END $$;
SELECT create_cached_function('f_expanded(int)', p_cache_tags => '{}');
DO $$ DECLARE a int[] := cf.f_expanded_cached(3); b int[]; BEGIN a[1] := 7; b := cf.f_expanded_cached(3); RAISE NOTICE '% %', a, b; END $$;

-- The name of a cursor says nothing elsewhere: what returns one, or reads one, runs each time.
CREATE FUNCTION f_cursor(n int, OUT c refcursor) LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; OPEN c FOR SELECT n; END $$;
SELECT create_cached_function('f_cursor(int)', p_cache_tags => '{}');
BEGIN;
SELECT f_cursor_cached(1) AS c \gset
FETCH ALL FROM :"c";
COMMIT;
BEGIN;
SELECT f_cursor_cached(1) AS c \gset
FETCH ALL FROM :"c";
COMMIT;
CREATE FUNCTION f_fetch(c refcursor) RETURNS int LANGUAGE plpgsql STABLE AS $$ DECLARE n int; BEGIN FETCH c INTO n; RETURN n; END $$;
SELECT create_cached_function('f_fetch(refcursor)', p_cache_tags => '{}');
BEGIN;
DECLARE two CURSOR FOR VALUES (1), (2);
SELECT f_fetch_cached('two'), f_fetch_cached('two');
COMMIT;

-- Rows.
CREATE FUNCTION f_row(n int) RETURNS pair LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', n; IF n > 0 THEN RETURN ROW(n, 'b' || n)::cf.pair; END IF; RETURN NULL; END $$;
SELECT create_cached_function('f_row(int)', p_cache_tags => '{}');
SELECT f_row_cached(1), (f_row_cached(1)).b, f_row_cached(0), f_row_cached(0) IS NULL;
SELECT * FROM f_row_cached(1);
SELECT * FROM f_row_cached(0);
CREATE FUNCTION f_checked(n int) RETURNS checked_pair LANGUAGE sql STABLE AS $$ SELECT ROW(n, 'c')::cf.checked_pair WHERE cf.told('checked') $$;
SELECT create_cached_function('f_checked(int)', p_cache_tags => '{}');
SELECT f_checked_cached(1), (f_checked_cached(1)).a;
CREATE FUNCTION f_nested(n int) RETURNS nested LANGUAGE sql STABLE AS $$ SELECT ROW(ROW(n, 'x'), ARRAY[ROW(1, 'y')::cf.pair])::cf.nested WHERE cf.told('nested') $$;
SELECT create_cached_function('f_nested(int)', p_cache_tags => '{}');
SELECT f_nested_cached(1), ((f_nested_cached(1)).ps)[1].b;
CREATE FUNCTION f_out(n int, OUT twice int, INOUT t text, OUT last numeric) LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', n; twice := 2 * n; t := t || '!'; last := 1.50; END $$;
SELECT create_cached_function('f_out(int, text)', p_cache_tags => '{}');
SELECT f_out_cached(1, 'a'), (f_out_cached(1, 'a')).last;
SELECT * FROM f_out_cached(1, 'a');
SELECT * FROM f_out_cached(t => 'a', n => 1, p_cache_duration => '1 hour');
CREATE FUNCTION f_one_out(n int, OUT twice bigint) LANGUAGE sql STABLE AS $$ SELECT 2 * n::bigint WHERE cf.told('one out') $$;
SELECT create_cached_function('f_one_out(int)', p_cache_tags => '{}');
SELECT f_one_out_cached(4), f_one_out_cached(4);
CREATE FUNCTION f_record(n int) RETURNS record LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', n; RETURN ROW(n, 'r'::text, ARRAY[n]); END $$;
SELECT create_cached_function('f_record(int)', p_cache_tags => '{}');
SELECT * FROM f_record_cached(1) AS r (a int, b text, c int[]);
SELECT * FROM f_record_cached(1) AS r (x int, y text, z int[]);
-- Other columns are another result; and without a list it is computed each time.
\set VERBOSITY terse
SELECT * FROM f_record_cached(1) AS r (a int, b varchar, c int[]);
\set VERBOSITY default
SELECT f_record_cached(2), f_record_cached(2);

-- Sets.
CREATE FUNCTION s_int(n int) RETURNS SETOF int LANGUAGE plpgsql STABLE ROWS 3 AS $$ BEGIN RAISE NOTICE 'computed %', n; RETURN QUERY SELECT generate_series(1, n); END $$;
SELECT create_cached_function('s_int(int)', p_cache_tags => '{}');
SELECT * FROM s_int_cached(3);
SELECT s_int_cached(3), s_int_cached(2);
SELECT count(*) FROM s_int_cached(0);
SELECT count(*) FROM s_int_cached(0);
SELECT i, j FROM generate_series(1, 3) i CROSS JOIN LATERAL s_int_cached(i) j;
SELECT j FROM s_int_cached(3) WITH ORDINALITY x(j, n) LIMIT 1;
SELECT sum(a * b) FROM s_int_cached(3) a, s_int_cached(3) b;
CREATE FUNCTION s_things(first int) RETURNS SETOF things LANGUAGE sql STABLE AS $$ SELECT * FROM cf.things WHERE id >= first AND cf.told('things') ORDER BY id $$;
SELECT create_cached_function('s_things(int)', p_cache_tags => '{}');
SELECT id, length(name) FROM s_things_cached(2);
SELECT id, length(name) FROM s_things_cached(2);
SELECT (s_things_cached(2)).id;
CREATE FUNCTION s_table(n int) RETURNS TABLE (i int, t text, j jsonb) LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', n; FOR k IN 1..n LOOP i := k; t := CASE k WHEN 2 THEN NULL ELSE 't' || k END; j := to_jsonb(k); RETURN NEXT; END LOOP; END $$;
SELECT create_cached_function('s_table(int)', p_cache_tags => '{}');
SELECT * FROM s_table_cached(3);
SELECT * FROM s_table_cached(3) ORDER BY i DESC;
CREATE FUNCTION s_out(n int, OUT a int, OUT b text) RETURNS SETOF record LANGUAGE sql STABLE AS $$ SELECT g, 'v' || g FROM generate_series(1, n) g WHERE cf.told('s_out') $$;
SELECT create_cached_function('s_out(int)', p_cache_tags => '{}');
SELECT * FROM s_out_cached(2);
SELECT * FROM s_out_cached(2);
CREATE FUNCTION s_record(n int) RETURNS SETOF record LANGUAGE sql STABLE AS $$ SELECT g, g::text FROM generate_series(1, n) g WHERE cf.told('s_record') $$;
SELECT create_cached_function('s_record(int)', p_cache_tags => '{}');
SELECT * FROM s_record_cached(1) AS r (a int, b text);
SELECT * FROM s_record_cached(1) AS r (a int, b text);
SELECT s_record_cached(1);
-- More rows than memory for one statement, through a cursor that goes back.
CREATE FUNCTION s_many(n int) RETURNS TABLE (i int, t text) LANGUAGE sql STABLE AS $$ SELECT g, repeat('x', 40) FROM generate_series(1, n) g $$;
SELECT create_cached_function('s_many(int)', p_cache_tags => '{}');
SET work_mem = '64kB';
SELECT count(*), sum(i), sum(length(t)) FROM s_many_cached(5000);
SELECT count(*), sum(i), sum(length(t)) FROM s_many_cached(5000);
RESET work_mem;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT i FROM s_many_cached(5000);
FETCH LAST FROM c;
FETCH FIRST FROM c;
COMMIT;

-- Arguments.
CREATE FUNCTION a_poly(a anyelement, b anyelement) RETURNS anyarray LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed % %', pg_typeof(a), a; RETURN ARRAY[a, b]; END $$;
SELECT create_cached_function('a_poly(anyelement, anyelement)', p_cache_tags => ARRAY['poly:{a}']);
SELECT a_poly_cached(1, 2), a_poly_cached(1, 2), a_poly_cached('1'::text, '2'), a_poly_cached('1'::text, '2');
SELECT invalidate_cache_by_tags('{poly:1}');
SELECT a_poly_cached(1, 2);
CREATE FUNCTION a_set(VARIADIC a anyarray) RETURNS SETOF anyelement LANGUAGE sql STABLE AS $$ SELECT x FROM unnest(a) x WHERE cf.told('set') $$;
SELECT create_cached_function('a_set(anyarray)', p_cache_tags => '{}');
SELECT * FROM a_set_cached(1, 2);
SELECT * FROM a_set_cached(VARIADIC '{1,2}'::int[]);
SELECT * FROM a_set_cached('a'::text);
CREATE FUNCTION a_variadic(n int, VARIADIC a text[] DEFAULT '{}') RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed %', a; RETURN n || array_to_string(a, ','); END $$;
SELECT create_cached_function('a_variadic(int, text[])', p_cache_tags => '{}');
SELECT a_variadic_cached(1), a_variadic_cached(1, 'a', 'b'), a_variadic_cached(1, VARIADIC '{a,b}'), a_variadic_cached(1, 'a,b');
-- An overloaded name: what is called is the very function that was cached.
CREATE FUNCTION a_over(a anyelement) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'any' $$;
CREATE FUNCTION a_over(a int) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'int' $$;
SELECT create_cached_function('a_over(anyelement)', p_cache_tags => '{}');
SELECT a_over_cached(1), a_over(1);
CREATE FUNCTION a_default(a int, b int DEFAULT 5, c int DEFAULT 6) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN concat(a, ' ', b, ' ', c); END $$;
SELECT create_cached_function('a_default(int, int, int)', p_cache_tags => '{}');
SELECT a_default_cached(1), a_default_cached(1, 5), a_default_cached(1, c => 6), a_default_cached(1, 5, 6, '1 day');
-- Defaults are those that the function has now; what somebody has said of the cached function itself stays.
ALTER FUNCTION a_default_cached(int, int, int, interval) SET work_mem = '1MB';
CREATE OR REPLACE FUNCTION a_default(a int DEFAULT '-1', b int DEFAULT 7, c int DEFAULT length(')' || E')\n RETURNS ')) RETURNS text LANGUAGE sql STABLE AS $$ SELECT concat(a, ' ', b, ' ', c) $$;
SELECT a_default_cached(), a_default(), a_default_cached(1, c => 6), a_default_cached(p_cache_duration => '1 day');
SELECT proconfig FROM pg_proc WHERE proname = 'a_default_cached';
-- There is room for a hundred arguments.
DO $$ BEGIN
    EXECUTE format('CREATE FUNCTION cf.a_hundred(%s) RETURNS int LANGUAGE sql STABLE AS $f$ SELECT $1 + $100 $f$', (SELECT string_agg(format('a%s int DEFAULT %s', i, i), ', ') FROM generate_series(1, 100) i));
    PERFORM create_cached_function('cf.a_hundred'::regproc::regprocedure, p_cache_tags => ARRAY['t:{$100}']);
END $$;
SELECT a_hundred_cached(), a_hundred_cached(2);
CREATE FUNCTION a_strict(a int, b int) RETURNS int LANGUAGE plpgsql STABLE STRICT AS $$ BEGIN RAISE NOTICE 'computed'; RETURN a + b; END $$;
SELECT create_cached_function('a_strict(int, int)', p_cache_tags => '{}');
SELECT a_strict_cached(1, NULL), a_strict_cached(1, 2), a_strict_cached(1, 2);
CREATE FUNCTION a_strict_set(a int) RETURNS SETOF int LANGUAGE plpgsql STABLE STRICT AS $$ BEGIN RAISE NOTICE 'computed'; RETURN NEXT a; END $$;
SELECT create_cached_function('a_strict_set(int)', p_cache_tags => '{}');
SELECT * FROM a_strict_set_cached(NULL);
-- Rows and arrays as arguments; long ones; what differs in one byte or is null.
CREATE FUNCTION a_many(p pair, ps pair[], t text, n numeric, b bytea) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN concat(p, ps, length(t), n, b); END $$;
SELECT create_cached_function('a_many(pair, pair[], text, numeric, bytea)', p_cache_tags => '{}');
SELECT a_many_cached(ROW(1, 'x'), ARRAY[ROW(1, 'y')::pair], repeat('t', 5000), 1.0, '\x00') = a_many_cached(ROW(1, 'x'), ARRAY[ROW(1, 'y')::pair], repeat('t', 5000), 1.0, '\x00');
SELECT a_many_cached(ROW(1, 'x'), ARRAY[ROW(1, 'y')::pair], repeat('t', 5000), 1.00, '\x00');
SELECT a_many_cached(NULL, NULL, '', NULL, NULL), a_many_cached(NULL, NULL, NULL, NULL, ''), a_many_cached(NULL, NULL, '', NULL, NULL);
-- A string argument that is stored elsewhere is the same string.
SELECT count(DISTINCT a_many_cached(NULL, NULL, name, 1, NULL)) FROM (SELECT name FROM things WHERE id = 3 UNION ALL SELECT repeat('three ', 3000)) x;
-- Collations are part of the question.
CREATE FUNCTION a_collation(a text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN a; END $$;
SELECT create_cached_function('a_collation(text)', p_cache_tags => '{}');
SELECT a_collation_cached('x' COLLATE "C"), a_collation_cached('x' COLLATE "POSIX"), a_collation_cached('x' COLLATE "C");

-- A tag is the same whatever is set where it is made.
CREATE FUNCTION a_times(d date, t timestamptz, i interval, f float8) RETURNS date LANGUAGE sql STABLE AS $$ SELECT d $$;
SELECT create_cached_function('a_times(date, timestamptz, interval, float8)', p_cache_tags => ARRAY['{d}', '{t}', '{i}', '{f}']);
SET datestyle = 'German';
SET timezone = 'Asia/Tokyo';
SET extra_float_digits = -10;
SELECT a_times_cached('02.01.2026', '02.01.2026 03:04:05', '1 day 2 hours', 0.1234567890123456), '1 day 2 hours'::interval, now()::text LIKE '%JST';
RESET datestyle;
RESET timezone;
RESET extra_float_digits;
SELECT cache_tags FROM query_cache WHERE cache_key LIKE 'function:cf.a_times%';

-- Settings that may change a result are part of the question, unless the function fixes them.
CREATE FUNCTION by_setting() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN '2026-01-02 03:04:05+00'::timestamptz::text; END $$;
SELECT create_cached_function('by_setting()', p_cache_tags => '{}');
SET timezone = 'UTC';
SELECT by_setting_cached();
SET timezone = 'Asia/Tokyo';
SELECT by_setting_cached();
SET datestyle = 'German';
SELECT by_setting_cached();
RESET datestyle;
SET timezone = 'UTC';
SELECT by_setting_cached();
RESET timezone;
CREATE FUNCTION by_abbreviation() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT ('2026-01-02 03:04:05 ' || 'IST')::timestamptz $$;
SELECT create_cached_function('by_abbreviation()', p_cache_tags => '{}', p_shared => true);
SET timezone_abbreviations = 'India';
SELECT by_abbreviation_cached() AT TIME ZONE 'UTC';
RESET timezone_abbreviations;
SELECT by_abbreviation_cached() AT TIME ZONE 'UTC';
CREATE FUNCTION by_path() RETURNS text LANGUAGE plpgsql STABLE SET search_path = cf AS $$ BEGIN RAISE NOTICE 'computed'; RETURN 'p'; END $$;
SELECT create_cached_function('by_path()', p_cache_tags => '{}');
SELECT by_path_cached();
SET search_path = public;
SELECT cf.by_path_cached();
SET search_path = cf, public;

-- Recursion, and cached functions in cached functions.
CREATE FUNCTION fib(n int) RETURNS numeric LANGUAGE plpgsql STABLE AS $$ BEGIN IF n < 2 THEN RETURN n; END IF; RETURN cf.fib_cached(n - 1) + cf.fib_cached(n - 2); END $$;
SELECT create_cached_function('fib(int)', p_cache_tags => '{}');
SELECT fib_cached(80);
SELECT hits, computations FROM cached_functions WHERE function = 'fib(int)'::regprocedure;
CREATE FUNCTION endless(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN cf.endless_cached(n); END $$;
SELECT create_cached_function('endless(int)', p_cache_tags => '{}');
SET max_stack_depth = '200kB';
\set VERBOSITY sqlstate
SELECT endless_cached(1);
\set VERBOSITY default
RESET max_stack_depth;
SELECT f_int_cached(1);

-- A function that writes does so each time; one that fails keeps nothing.
CREATE TABLE log (n int);
CREATE FUNCTION writes(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN INSERT INTO cf.log VALUES (n); RETURN n; END $$;
SELECT create_cached_function('writes(int)', p_cache_tags => '{}');
SELECT writes_cached(1), writes_cached(1);
SELECT writes_cached(1);
SELECT count(*) FROM log;
-- So does one that locks rows, also where something has been written before.
CREATE FUNCTION locks(n int) RETURNS int LANGUAGE plpgsql AS $$ DECLARE r int; BEGIN RAISE NOTICE 'locked'; SELECT id INTO r FROM cf.things WHERE id = n FOR UPDATE; RETURN r; END $$;
SELECT create_cached_function('locks(int)', p_cache_tags => '{}');
SELECT locks_cached(1);
BEGIN;
INSERT INTO log VALUES (0);
SELECT locks_cached(1), locks_cached(1);
ROLLBACK;
SELECT locks_cached(1);
CREATE FUNCTION fails(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN 1 / n; END $$;
SELECT create_cached_function('fails(int)', p_cache_tags => '{}');
SELECT fails_cached(0);
SELECT fails_cached(0);
SELECT fails_cached(1), fails_cached(1);
-- What is too large is returned each time.
CREATE FUNCTION large(n int) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN QUERY SELECT string_agg(md5(g::text), '') FROM generate_series(1, 1000) g, generate_series(1, n) GROUP BY g % n; END $$;
SELECT create_cached_function('large(int)', p_cache_tags => '{}');
SELECT count(*), sum(length(x)) FROM large_cached(40) x;
SELECT count(*), sum(length(x)) FROM large_cached(40) x;
SELECT count(*), sum(length(x)) FROM large_cached(2) x;
SELECT count(*), sum(length(x)) FROM large_cached(2) x;

-- Durations.
SELECT create_cached_function('f_any(text)', '1 hour', p_cache_tags => '{}', p_name => 'f_any_hour');
SELECT f_any_hour('d');
SELECT expires_at - created_at FROM query_cache WHERE cache_key LIKE 'function:cf.f_any_hour:%';
SELECT f_any_hour('e', '2 hours');
SELECT max(expires_at - created_at) FROM query_cache WHERE cache_key LIKE 'function:cf.f_any_hour:%';

SELECT f_fixed_cached() IS NOT NULL;
-- What lies in the cache: no set reaches it, and it can be invalidated like everything else.
SELECT cache_data IS NULL, cache_tags, scope FROM query_cache WHERE cache_key LIKE 'function:cf.f_fixed_cached:%';
SELECT get_cached_data(cache_key) FROM query_cache WHERE cache_key LIKE 'function:cf.f_fixed_cached:%';
SELECT set_cached_data(cache_key, '1') FROM query_cache WHERE cache_key LIKE 'function:cf.f_fixed_cached:%';
SELECT f_fixed_cached();
DELETE FROM query_cache WHERE cache_key LIKE 'function:cf.f_fixed_cached:%';
SELECT f_fixed_cached();
SELECT invalidate_cache_key(cache_key) FROM query_cache WHERE cache_key LIKE 'function:cf.f_fixed_cached:%';
SELECT f_fixed_cached();
SELECT invalidate_cache_by_pattern('function:cf.f_fixed*');
SELECT f_fixed_cached();

-- Prepared statements, plans that go on, simple expressions.
PREPARE q (int) AS SELECT f_int_cached($1);
EXECUTE q (11);
EXECUTE q (11);
CREATE OR REPLACE FUNCTION f_int(n int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed anew %', n; RETURN n * 3; END $$;
EXECUTE q (11);
DO $$ DECLARE x int; BEGIN
    FOR i IN 1..3 LOOP
        x := cf.f_int_cached(20);
        RAISE NOTICE '%', x;
        IF i = 2 THEN
            CREATE OR REPLACE FUNCTION cf.f_int(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT n * 4';
        END IF;
    END LOOP;
END $$;

-- Types that change.
SELECT f_row_cached(1);
ALTER TYPE pair ADD ATTRIBUTE c int;
SELECT f_row_cached(1);
ALTER TYPE pair DROP ATTRIBUTE c;
SELECT f_row_cached(1), f_nested_cached(1);
ALTER TABLE things ADD COLUMN more int DEFAULT 7;
SELECT id, more FROM s_things_cached(2);
SELECT id, more FROM s_things_cached(2);
ALTER TABLE things DROP COLUMN name;
SELECT * FROM s_things_cached(2);

-- Names that change, and functions that go.
ALTER FUNCTION f_mood(bool) RENAME TO f_humour;
ALTER FUNCTION f_mood_cached RENAME TO f_humour_kept;
SELECT f_humour_kept(true);
SELECT cached_function, function FROM cached_functions WHERE function = 'f_humour(bool)'::regprocedure;
SELECT drop_cached_function('f_humour(bool)');
SELECT f_humour_kept(true);
DROP FUNCTION f_domain(small);
SELECT f_domain_cached(5);
SELECT drop_cached_function('f_any_hour(text, interval)');
SELECT cached_function FROM cached_functions WHERE function = 'f_any(text)'::regprocedure;

SET client_min_messages = warning;
DROP SCHEMA cf CASCADE;
RESET client_min_messages;
SELECT count(*) FROM cached_functions;
