-- Cached functions: who may make them, who is given which results, and mistakes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
CREATE ROLE cfr_alice;
CREATE ROLE cfr_bob;
CREATE ROLE cfr_owner;
RESET client_min_messages;
CREATE SCHEMA cfr;
GRANT USAGE ON SCHEMA cfr TO PUBLIC;
GRANT CREATE ON SCHEMA cfr TO cfr_owner;
SET search_path = cfr, public;

-- Mistakes.
\set VERBOSITY terse
SELECT create_cached_function('no_such(int)', p_cache_tags => '{}');
SELECT create_cached_function(NULL);
SELECT create_cached_function(1::oid::regprocedure, p_cache_tags => '{}');
\set VERBOSITY default
CREATE FUNCTION plain(a int, word text DEFAULT 'w') RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed for %', current_user; RETURN concat(a, word); END $$;
CREATE PROCEDURE proc() LANGUAGE sql AS '';
CREATE AGGREGATE agg(int) (SFUNC = int4pl, STYPE = int);
CREATE FUNCTION nothing() RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION on_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
SELECT create_cached_function('proc()', p_cache_tags => '{}');
SELECT create_cached_function('agg(int)', p_cache_tags => '{}');
SELECT create_cached_function('nothing()', p_cache_tags => '{}');
SELECT create_cached_function('on_write()', p_cache_tags => '{}');
SELECT create_cached_function('pg_catalog.concat("any")', p_cache_tags => '{}');
SELECT create_cached_function('plain(int, text)', '-1 hour', '{}');
SELECT create_cached_function('plain(int, text)', '0', '{}');
SELECT create_cached_function('plain(int, text)', p_cache_tags => '{}', p_grace => '0');
SELECT create_cached_function('plain(int, text)', p_cache_tags => ARRAY['t:{nothing}']);
SELECT create_cached_function('plain(int, text)', p_cache_tags => ARRAY['t:{a']);
SELECT create_cached_function('plain(int, text)', p_cache_tags => ARRAY['t:a}']);
SELECT create_cached_function('plain(int, text)', p_cache_tags => ARRAY['t:{$3}']);
SELECT create_cached_function('plain(int, text)', p_cache_tags => ARRAY[NULL]);
SELECT create_cached_function('plain(int, text)', p_cache_tags => ARRAY['']);
SELECT create_cached_function('plain(int, text)', p_cache_tags => ARRAY[repeat('t', 257)]);
SELECT create_cached_function('plain(int, text)', p_cache_tags => '{}', p_name => '');
SELECT create_cached_function('plain(int, text)', p_cache_tags => '{}', p_name => repeat('n', 64));
CREATE FUNCTION taken(a int, word text, i interval) RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT create_cached_function('plain(int, text)', p_cache_tags => '{}', p_name => 'taken');
SELECT count(*) FROM cached_functions;
SELECT create_cached_function('plain(int, text)', p_cache_tags => ARRAY['t:{a}:{$2}', 'all']);
SELECT create_cached_function('plain_cached(int, text, interval)', p_cache_tags => '{}');
SELECT plain_cached(1), plain_cached(1, p_cache_duration => '-1 hour');
SELECT plain_cached(1), plain_cached(1, 'v'), plain_cached(NULL);
SELECT cache_tags FROM query_cache WHERE cache_key LIKE 'function:cfr.plain%' ORDER BY 1;
SELECT drop_cached_function('taken(int, text, interval)');
SELECT drop_cached_function(NULL);
-- Made again, it is changed; with the name of an argument already there, none is added.
SELECT create_cached_function('plain(int, text)', '1 day', p_cache_tags => ARRAY['t:{a}']);
SELECT cached_function, function, cache_duration, grace, cache_tags, shared, tracked FROM cached_functions;
CREATE FUNCTION has_it(p_cache_duration int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
SELECT create_cached_function('has_it(int)', p_cache_tags => '{}');
SELECT has_it_cached(1);

-- The language by hand: what does not fit the function underneath is refused.
CREATE FUNCTION by_hand(a int, word text) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": []}';
SELECT by_hand(1, 'w');
CREATE FUNCTION bad_1(a int) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": []}';
CREATE FUNCTION bad_2(a int, word text) RETURNS int LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": []}';
CREATE FUNCTION bad_3(a int, word text, i int) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": []}';
CREATE FUNCTION bad_4(a int, word text) RETURNS SETOF text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": []}';
CREATE FUNCTION bad_5(a int, word text) RETURNS text LANGUAGE cached STRICT AS '{"function": "cfr.plain(integer,text)", "tags": []}';
CREATE FUNCTION bad_6(a int, word text) RETURNS text LANGUAGE cached AS 'cfr.plain';
CREATE FUNCTION bad_7(a int, word text) RETURNS text LANGUAGE cached AS '{"tags": []}';
CREATE FUNCTION bad_8(a int, word text) RETURNS text LANGUAGE cached AS '{"function": "cfr.gone(integer)", "tags": []}';
CREATE FUNCTION bad_9(a int, word text) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": {"a": 1}}';
CREATE FUNCTION bad_10(a int, word text) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": [1]}';
CREATE FUNCTION bad_11(a int, word text) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "shared": "yes"}';
CREATE FUNCTION bad_12(a int, word text) RETURNS text LANGUAGE cached AS '{"function": "cfr.by_hand(integer,text)", "tags": []}';
-- As in a restored dump: checked when it is called.
SET check_function_bodies = off;
CREATE FUNCTION later(a int) RETURNS int LANGUAGE cached AS '{"function": "cfr.not_yet(integer)", "tags": []}';
CREATE FUNCTION never(a int) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": []}';
RESET check_function_bodies;
SELECT later(1);
CREATE FUNCTION not_yet(a int) RETURNS int LANGUAGE sql AS 'SELECT a + 1';
SELECT later(1), later(1);
SELECT never(1);
DROP FUNCTION by_hand, later, never;

-- Who may make one.
SET ROLE cfr_owner;
SELECT create_cached_function('plain(int, text)', p_cache_tags => '{}');
RESET ROLE;
GRANT EXECUTE ON FUNCTION create_cached_function, drop_cached_function TO cfr_owner;
SET ROLE cfr_owner;
SELECT create_cached_function('plain(int, text)', p_cache_tags => '{}');
CREATE FUNCTION owned(a int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed for %', current_user; RETURN concat(current_user, ' ', nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'); END $$;
SELECT create_cached_function('owned(int)', p_cache_tags => '{}');
RESET ROLE;
GRANT USAGE ON LANGUAGE cached TO cfr_owner;
SET ROLE cfr_owner;
SELECT create_cached_function('owned(int)', p_cache_tags => '{}');
-- The language is no way to run somebody else's function with his rights.
CREATE FUNCTION stolen(a int, word text) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": [], "shared": true}';
SET check_function_bodies = off;
CREATE FUNCTION stolen(a int, word text) RETURNS text LANGUAGE cached AS '{"function": "cfr.plain(integer,text)", "tags": [], "shared": true}';
RESET check_function_bodies;
SELECT stolen(1, 'w');
DROP FUNCTION stolen;
SELECT drop_cached_function('plain(int, text)');
RESET ROLE;
-- Nor is it once one is the owner's equal no more, in a session that has called it before.
GRANT cfr_owner TO cfr_alice;
GRANT USAGE ON LANGUAGE cached TO cfr_alice;
GRANT CREATE ON SCHEMA cfr TO cfr_alice;
SET ROLE cfr_alice;
CREATE FUNCTION lent(a int) RETURNS text LANGUAGE cached AS '{"function": "cfr.owned(integer)", "tags": [], "shared": true}';
SELECT lent(1);
RESET ROLE;
REVOKE cfr_owner FROM cfr_alice;
SELECT lent(1);
DROP FUNCTION lent;
REVOKE CREATE ON SCHEMA cfr FROM cfr_alice;
REVOKE USAGE ON LANGUAGE cached FROM cfr_alice;
-- A superuser makes it for the owner.
SELECT create_cached_function('owned(int)', p_cache_tags => '{}', p_name => 'owned_too');
SELECT proname, pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'cfr'::regnamespace AND proname LIKE 'owned%' ORDER BY 1;

-- Whoever looks into another's function, or makes its cached one, runs none of the owner's code with his own rights, which parsing may do.
SET ROLE cfr_owner;
CREATE FUNCTION checks(v int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN IF current_user <> 'cfr_owner' THEN RAISE WARNING 'run as %', current_user; END IF; RETURN true; END $$;
CREATE DOMAIN checked AS int CHECK (cfr.checks(value));
CREATE FUNCTION by_default(a checked[] DEFAULT '{1}') RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT cardinality($1); END;
CREATE FUNCTION in_body() RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT '{2}'::cfr.checked[] IS NOT NULL $$;
CREATE TABLE guarded (v int);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_body ON guarded USING (cfr.in_body());
RESET ROLE;
SELECT create_cached_function('by_default(checked[])', p_cache_tags => '{}');
SELECT cache_ext_internal.look_at_function('in_body()');
CREATE FUNCTION reads_guarded() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM cfr.guarded';
SELECT create_cached_function('reads_guarded()', p_cache_tags => '{}');
SELECT reads_guarded_cached();
SET ROLE cfr_owner;
CREATE OR REPLACE FUNCTION by_default(a checked[] DEFAULT '{3,4}') RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT cardinality($1); END;
RESET ROLE;
SELECT by_default_cached();

-- So an owner who may not make cached functions himself is told where one does not follow.
REVOKE USAGE ON LANGUAGE cached FROM cfr_owner;
SET ROLE cfr_owner;
CREATE FUNCTION followed(a int) RETURNS int LANGUAGE sql STABLE AS 'SELECT a';
RESET ROLE;
SELECT create_cached_function('followed(int)', p_cache_tags => '{}');
SET ROLE cfr_owner;
CREATE OR REPLACE FUNCTION followed(a int DEFAULT 5) RETURNS int LANGUAGE sql STABLE AS 'SELECT a';
RESET ROLE;
\set VERBOSITY terse
SELECT create_cached_function('followed(int)', p_cache_tags => '{}');
\set VERBOSITY default
GRANT USAGE ON LANGUAGE cached TO cfr_owner;
SELECT create_cached_function('followed(int)', p_cache_tags => '{}');
SELECT followed_cached();

-- Each caller has results of his own: role, claims, and whose rights count inside a definer's function.
SELECT owned_cached(1);
SET ROLE cfr_alice;
SELECT owned_cached(1), owned_cached(1);
SET request.jwt.claims = '{"sub": "a"}';
SELECT owned_cached(1), owned_cached(1);
SET request.jwt.claims = '{"sub": "b"}';
SELECT owned_cached(1);
SET request.jwt.claims = '{"sub": "a", "exp": 17}';
SELECT owned_cached(1);
RESET request.jwt.claims;
SET ROLE cfr_bob;
SELECT owned_cached(1);
RESET ROLE;
CREATE FUNCTION as_owner() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT cfr.owned_cached(1)';
ALTER FUNCTION as_owner() OWNER TO cfr_owner;
SET ROLE cfr_bob;
SELECT as_owner(), owned_cached(1);
RESET ROLE;
-- Also one who is above them: what he claims to be counts.
SET request.jwt.claims = '{"sub": "x"}';
SELECT owned_cached(1);
SET request.jwt.claims = '{"sub": "y"}';
SELECT owned_cached(1), owned_cached(1);
SET ROLE cfr_bob;
SELECT owned_cached(2);
RESET ROLE;
SELECT owned_cached(2);
SET request.jwt.claims = '{"sub": "x"}';
SELECT owned_cached(1), owned_cached(2);
RESET request.jwt.claims;

-- Nobody who lost the right to call the function is given what it gave.
REVOKE EXECUTE ON FUNCTION owned(int) FROM PUBLIC;
SET ROLE cfr_bob;
SELECT owned_cached(1);
RESET ROLE;
GRANT EXECUTE ON FUNCTION owned(int) TO cfr_alice;
SET ROLE cfr_alice;
SELECT owned_cached(1);
RESET ROLE;
GRANT cfr_alice TO cfr_bob;
SET ROLE cfr_bob;
SELECT owned_cached(1);
RESET ROLE;
REVOKE cfr_alice FROM cfr_bob;
SET ROLE cfr_bob;
SELECT owned_cached(1);
RESET ROLE;
GRANT EXECUTE ON FUNCTION owned(int) TO PUBLIC;

-- What is shared is computed as its owner, as nobody in particular, and once for all.
CREATE TABLE secret (v int);
ALTER TABLE secret OWNER TO cfr_owner;
INSERT INTO secret VALUES (1);
SET ROLE cfr_owner;
CREATE FUNCTION common(a int) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RAISE NOTICE 'computed for %', current_user; RETURN concat(current_user, ' ', current_setting('request.jwt.claims', true), ' ', (SELECT v FROM cfr.secret), ' ', current_setting('search_path')); END $$;
SELECT create_cached_function('common(int)', p_cache_tags => '{}', p_shared => true);
RESET ROLE;
SET ROLE cfr_alice;
SET request.jwt.claims = '{"sub": "a"}';
\set SHOW_CONTEXT never
SELECT common(1);
\set SHOW_CONTEXT errors
SET search_path = public;
SELECT cfr.common_cached(1);
SELECT current_user, current_setting('request.jwt.claims'), current_setting('search_path');
SET search_path = cfr, public;
SET ROLE cfr_bob;
SELECT common_cached(1);
RESET request.jwt.claims;
RESET ROLE;
SELECT common_cached(1);
SELECT scope FROM query_cache WHERE cache_key LIKE 'function:cfr.common%';
-- An error on the way leaves the caller who he was.
CREATE FUNCTION common_error(a int) RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN 1 / a; END $$;
SELECT create_cached_function('common_error(int)', p_cache_tags => '{}', p_shared => true);
SET ROLE cfr_bob;
DO $$ BEGIN
    PERFORM cfr.common_error_cached(0);
EXCEPTION WHEN division_by_zero THEN
    RAISE NOTICE 'caught as %, %', current_user, current_setting('search_path');
END $$;
SELECT common_error_cached(0);
SELECT current_user;
RESET ROLE;
-- A shared function cannot be made to look where its caller wants, or to leave something behind with its owner's rights.
SET ROLE cfr_owner;
CREATE FUNCTION lookup() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT v FROM secret); END $$;
SELECT create_cached_function('lookup()', p_cache_tags => '{}', p_shared => true);
SET ROLE cfr_bob;
CREATE TEMPORARY TABLE secret AS SELECT 666 AS v;
GRANT SELECT ON secret TO PUBLIC;
SELECT lookup_cached();
RESET ROLE;
SELECT lookup_cached();

-- Dropped with the extension, and not without it.
SET client_min_messages = warning;
DROP SCHEMA cfr CASCADE;
REVOKE ALL ON FUNCTION create_cached_function, drop_cached_function FROM cfr_owner;
REVOKE ALL ON LANGUAGE cached FROM cfr_owner;
DROP OWNED BY cfr_bob, cfr_alice, cfr_owner;
DROP ROLE cfr_alice, cfr_bob, cfr_owner;
