-- Cached functions in a session that goes on while what they are made of changes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
CREATE SCHEMA cfx;
SET search_path = cfx, public;

-- A type that changes while a function that has planned its call goes on to be called.
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION row_of() RETURNS pair LANGUAGE plpgsql STABLE AS $$ DECLARE r cfx.pair; BEGIN r.a := 5; RETURN r; END $$;
SELECT create_cached_function('row_of()', p_cache_tags => '{}');
SELECT row_of_cached();
CREATE FUNCTION step() RETURNS text LANGUAGE plpgsql AS $$ DECLARE x text; BEGIN x := cfx.row_of_cached()::text; RETURN x; END $$;
BEGIN;
SELECT step();
ALTER TYPE pair ALTER ATTRIBUTE a TYPE text;
SELECT step(), row_of_cached();
COMMIT;
SELECT step(), row_of_cached();
-- The same bytes of an argument of that type mean something else.
CREATE TYPE one AS (a int);
CREATE FUNCTION takes_row(r one) RETURNS text LANGUAGE sql STABLE AS $$ SELECT r::text $$;
SELECT create_cached_function('takes_row(one)', p_cache_tags => '{}');
SET datestyle = 'ISO';
SELECT takes_row_cached(ROW(1));
ALTER TYPE one ALTER ATTRIBUTE a TYPE date;
SELECT takes_row_cached(ROW('2000-01-02'::date));
RESET datestyle;

-- A tag that is too long for an entry to carry, or empty: nobody could invalidate the result by it.
CREATE FUNCTION tagged(word text) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed'; RETURN length(word); END $$;
SELECT create_cached_function('tagged(text)', p_cache_tags => '{"{word}"}');
SELECT tagged_cached(repeat('y', 256)), tagged_cached(repeat('y', 256));
SELECT tagged_cached(repeat('y', 257)), tagged_cached(repeat('y', 257));
SELECT tagged_cached(''), tagged_cached('');

-- A session keeps nothing of functions that are gone, and of definitions that were refused or replaced.
CREATE FUNCTION kept_contexts() RETURNS boolean LANGUAGE sql AS
    $$ SELECT count(*) < 10 FROM pg_backend_memory_contexts WHERE name LIKE 'cache\_ext cached function' $$;
DO $$ BEGIN
    FOR i IN 1..50 LOOP
        CREATE FUNCTION cfx.passing() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
        EXECUTE $c$SELECT create_cached_function('cfx.passing()', p_cache_tags => '{}')$c$;
        EXECUTE 'SELECT cfx.passing_cached()';
        DROP FUNCTION cfx.passing();
    END LOOP;
    FOR i IN 1..50 LOOP
        BEGIN
            PERFORM create_cached_function('cfx.tagged(text)', p_cache_tags => '{"{nothing}"}');
        EXCEPTION WHEN undefined_column THEN NULL;
        END;
    END LOOP;
END $$;
SELECT kept_contexts();
CREATE FUNCTION counted() RETURNS int LANGUAGE sql STABLE AS 'SELECT 0';
SELECT create_cached_function('counted()', p_cache_tags => '{}');
DO $$ BEGIN
    FOR i IN 1..50 LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION cfx.counted() RETURNS int LANGUAGE sql STABLE AS ''SELECT %s''', i);
        ASSERT cfx.counted_cached() = i;
    END LOOP;
END $$;
SELECT kept_contexts();

-- States of a definition in one transaction, rolled back or not.
BEGIN;
CREATE OR REPLACE FUNCTION counted() RETURNS int LANGUAGE sql STABLE AS 'SELECT 100';
SELECT counted_cached();
SAVEPOINT s;
CREATE OR REPLACE FUNCTION counted() RETURNS int LANGUAGE sql STABLE AS 'SELECT 200';
SELECT counted_cached();
ROLLBACK TO s;
SELECT counted_cached();
CREATE OR REPLACE FUNCTION counted() RETURNS int LANGUAGE sql STABLE AS 'SELECT 300';
SELECT counted_cached(), counted_cached();
ROLLBACK;
SELECT counted_cached();

-- A function that replaces or drops what is being called.
CREATE FUNCTION replaces(n int) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN
    CREATE OR REPLACE FUNCTION cfx.replaces(n int) RETURNS int LANGUAGE sql AS 'SELECT -n';
    RETURN n + cfx.replaces_cached(n);
END $f$;
SET client_min_messages = warning;
SELECT create_cached_function('replaces(int)', p_cache_tags => '{"t:{n}"}');
SELECT replaces_cached(3), replaces_cached(3);
CREATE FUNCTION drops(n int) RETURNS SETOF int LANGUAGE plpgsql AS $$ BEGIN DROP FUNCTION cfx.drops_cached; RETURN NEXT n; RETURN NEXT n + 1; END $$;
SELECT create_cached_function('drops(int)', p_cache_tags => '{"t:{n}"}');
SELECT * FROM drops_cached(3);
RESET client_min_messages;

-- One who writes a definition by hand cannot spoil the view of all.
SET check_function_bodies = off;
\set VERBOSITY terse
CREATE FUNCTION spoils() RETURNS int LANGUAGE cached AS '{"function": "cfx.nothing()", "duration": "rubbish"}';
CREATE FUNCTION spoils() RETURNS int LANGUAGE cached AS '{"function": "cfx.nothing()", "grace": "-1 day"}';
\set VERBOSITY default
RESET check_function_bodies;

-- Who is a member of pg_database_owner changes with the database's owner.
CREATE ROLE cfx_first;
CREATE ROLE cfx_second;
SELECT current_database() AS db, (SELECT rolname FROM pg_roles r JOIN pg_database d ON d.datdba = r.oid WHERE datname = current_database()) AS was \gset
GRANT USAGE ON SCHEMA cfx TO PUBLIC;
REVOKE EXECUTE ON FUNCTION counted() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION counted() TO pg_database_owner;
ALTER DATABASE :"db" OWNER TO cfx_first;
SET ROLE cfx_first;
SELECT counted_cached();
RESET ROLE;
CREATE FUNCTION as_first() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT cfx.counted_cached()';
ALTER FUNCTION as_first() OWNER TO cfx_first;
SELECT as_first();
ALTER DATABASE :"db" OWNER TO cfx_second;
SELECT as_first();
ALTER DATABASE :"db" OWNER TO :"was";

-- A definition names the function that it calls by its present name: a dump has nothing else. Whoever renames it, its schema, or a type.
CREATE SCHEMA cfx_other;
CREATE FUNCTION cfx_other.first(r one) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
SELECT create_cached_function('cfx_other.first(one)', p_cache_tags => '{}', p_name => 'renamed_cached');
ALTER FUNCTION cfx_other.first(one) RENAME TO "the second";
CREATE FUNCTION cfx_other.first(r one) RETURNS int LANGUAGE sql STABLE AS 'SELECT 666';
SELECT prosrc FROM pg_proc WHERE proname = 'renamed_cached';
ALTER SCHEMA cfx_other RENAME TO cfx_another;
ALTER TYPE one RENAME TO another;
SELECT prosrc FROM pg_proc WHERE proname = 'renamed_cached';
SELECT cfx_another.renamed_cached(NULL);
BEGIN;
ALTER FUNCTION cfx_another."the second"(another) SET SCHEMA cfx;
SELECT prosrc FROM pg_proc WHERE proname = 'renamed_cached';
ROLLBACK;
SELECT prosrc FROM pg_proc WHERE proname = 'renamed_cached';

-- A temporary table comes before the table of the same name, in the session that made it.
CREATE TABLE stock (n int);
INSERT INTO stock VALUES (1);
CREATE FUNCTION stock_of(OUT n int) LANGUAGE plpgsql STABLE AS $$ BEGIN EXECUTE 'SELECT n FROM stock' INTO n; END $$;
SELECT create_cached_function('stock_of()', p_cache_tags => '{}');
SELECT stock_of_cached();
CREATE TEMPORARY TABLE other AS SELECT 0 AS n;
SELECT stock_of_cached(), stock_of();
CREATE TEMPORARY TABLE stock AS SELECT 2 AS n;
SELECT stock_of_cached(), stock_of();
ALTER TABLE pg_temp.stock RENAME TO stocks;
SELECT stock_of_cached(), stock_of();
ALTER TABLE pg_temp.other RENAME TO stock;
SELECT stock_of_cached(), stock_of();
DROP TABLE pg_temp.stock;
SELECT stock_of_cached(), stock_of();

SET client_min_messages = warning;
DROP SCHEMA cfx, cfx_another CASCADE;
DROP ROLE cfx_first, cfx_second;
