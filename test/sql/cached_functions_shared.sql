-- Shared cached functions: what everybody is given is not for any one of its callers to decide.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
CREATE ROLE cfs_owner;
CREATE ROLE cfs_eve;
CREATE ROLE cfs_victim;
CREATE ROLE cfs_login_1 IN ROLE cfs_victim;
CREATE ROLE cfs_login_2 IN ROLE cfs_victim;
GRANT USAGE ON LANGUAGE cached TO cfs_owner;
GRANT EXECUTE ON FUNCTION get_cached_data, set_cached_data TO cfs_owner, cfs_eve;
RESET client_min_messages;
CREATE SCHEMA cfs;
GRANT USAGE ON SCHEMA cfs TO PUBLIC;
GRANT CREATE ON SCHEMA cfs TO cfs_owner;
SET search_path = cfs, public;

-- Not by what one has put into the cache for himself, committed or not; whatever tags the function has.
CREATE FUNCTION from_cache(n int) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN coalesce(get_cached_data('cfs:' || n), '"nothing"'); END $$;
ALTER FUNCTION from_cache OWNER TO cfs_owner;
SELECT create_cached_function('from_cache(int)', p_cache_tags => '{}', p_shared => true);
SET ROLE cfs_eve;
SELECT set_cached_data('cfs:1', '"planted"');
SELECT from_cache_cached(1);
BEGIN;
SELECT set_cached_data('cfs:2', '"planted"');
SELECT from_cache_cached(2);
COMMIT;
SET ROLE cfs_victim;
SELECT from_cache_cached(1), from_cache_cached(2);
RESET ROLE;

-- Not by how long one would like it to be kept.
CREATE FUNCTION kept(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT n';
SELECT create_cached_function('kept(int)', '1 minute', '{}', p_shared => true);
SELECT create_cached_function('kept(int)', p_cache_tags => '{}', p_name => 'kept_by_default', p_shared => true);
SET ROLE cfs_eve;
SET cache_ext.default_duration = '1000d';
SELECT kept_cached(1, '90 years'), kept_by_default(1, '90 years'), kept_by_default(2);
RESET cache_ext.default_duration;
RESET ROLE;
SELECT DISTINCT split_part(cache_key, ':', 2) AS function, expires_at - created_at AS duration FROM query_cache
WHERE cache_key LIKE 'function:cfs.kept%' ORDER BY 1;

-- Not by what one says of himself, in whatever setting.
CREATE FUNCTION claims(n int) RETURNS text LANGUAGE sql STABLE AS
    $$ SELECT concat_ws(',', nullif(current_setting('request.jwt.claim.sub', true), ''), nullif(current_setting('request.headers', true), ''), nullif(current_setting('request.jwt.claims', true), '')) $$;
SELECT create_cached_function('claims(int)', p_cache_tags => '{}', p_shared => true);
SET ROLE cfs_eve;
SET request.jwt.claim.sub = 'eve';
SET request.jwt.claims = '{"sub": "eve"}';
SET request.headers = '{"x-tenant": "eve"}';
SELECT claims(1), claims_cached(1);
SELECT current_setting('request.jwt.claim.sub'), current_setting('request.headers');
RESET ROLE;
RESET request.jwt.claim.sub;
RESET request.jwt.claims;
RESET request.headers;
SELECT claims_cached(1);

-- Not by settings that change what a query means.
CREATE FUNCTION means() RETURNS bigint LANGUAGE plpgsql STABLE AS $$ DECLARE r bigint; BEGIN EXECUTE 'SELECT count(*) FROM (VALUES (1), (NULL)) v(n) WHERE n = NULL' INTO r; RETURN r; END $$;
SELECT create_cached_function('means()', p_cache_tags => '{}', p_shared => true);
SET ROLE cfs_eve;
SET transform_null_equals = on;
SELECT means_cached();
RESET transform_null_equals;
RESET ROLE;
SELECT means_cached();

-- Not by tables that one has created for himself: they come last. A function that says otherwise is told of.
CREATE SCHEMA not_pg_temp_first;
GRANT USAGE ON SCHEMA not_pg_temp_first TO PUBLIC;
CREATE TABLE not_pg_temp_first.prices AS SELECT 1 AS price;
ALTER TABLE not_pg_temp_first.prices OWNER TO cfs_owner;
CREATE FUNCTION price() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT price FROM prices); END $$;
ALTER FUNCTION price OWNER TO cfs_owner;
SET search_path = not_pg_temp_first, cfs, public;
SELECT create_cached_function('price()', p_cache_tags => '{}', p_shared => true);
SET ROLE cfs_eve;
CREATE TEMPORARY TABLE prices AS SELECT 666 AS price;
GRANT SELECT ON prices TO PUBLIC;
SELECT price(), price_cached();
DROP TABLE prices;
RESET ROLE;
SET search_path = cfs, public;
CREATE FUNCTION fixed(n int) RETURNS int LANGUAGE sql STABLE SET search_path = cfs AS 'SELECT n';
SELECT create_cached_function('fixed(int)', p_cache_tags => '{}', p_shared => true);
ALTER FUNCTION fixed SET search_path = '';
SELECT create_cached_function('fixed(int)', p_cache_tags => '{}', p_shared => true);
ALTER FUNCTION fixed SET search_path = cfs, pg_temp;
SELECT create_cached_function('fixed(int)', p_cache_tags => '{}', p_shared => true);

-- Of what is not shared, each session's user has his own, also after SET ROLE.
CREATE FUNCTION session() RETURNS name LANGUAGE sql STABLE AS 'SELECT session_user';
SELECT create_cached_function('session()', p_cache_tags => '{}');
SET SESSION AUTHORIZATION cfs_login_1;
SET ROLE cfs_victim;
SELECT session_cached(), current_user;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION cfs_login_2;
SET ROLE cfs_victim;
SELECT session_cached(), current_user;
RESET SESSION AUTHORIZATION;

SET client_min_messages = warning;
DROP SCHEMA cfs, not_pg_temp_first CASCADE;
DROP OWNED BY cfs_owner, cfs_eve, cfs_victim, cfs_login_1, cfs_login_2;
DROP ROLE cfs_owner, cfs_eve, cfs_login_1, cfs_login_2, cfs_victim;
