-- Whose entry it is: no caller reads or plants another's.
SET client_min_messages = warning;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE EXTENSION cache_ext;

CREATE FUNCTION cached(p_key text) RETURNS text LANGUAGE sql AS $$ SELECT coalesce(get_cached_data(p_key)::text, '-') $$;
GRANT EXECUTE ON FUNCTION cached TO authenticated, service_role;

-- A shared caller's entry is everybody's; a private caller's own comes before it.
SELECT set_cached_data('k', '"shared"');
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"a","role":"authenticated"}';
SELECT cached('k');
SELECT set_cached_data('k', '"a"');
SELECT cached('k');
SET request.jwt.claims = '{"sub":"b","role":"authenticated"}';
SELECT cached('k');
SELECT set_cached_data('k', '"b"'), set_cached_data('only-b', '"b"');
SELECT cached('k'), cached('only-b');
RESET request.jwt.claims;
SELECT cached('k'), cached('only-b');
RESET ROLE;
SELECT cached('k'), cached('only-b');
SET ROLE service_role;
SELECT cached('k'), cached('only-b');
RESET ROLE;

-- The same claims, however they are written; those that mark only time and token do not count.
SET ROLE authenticated;
SET request.jwt.claims = '{ "role" : "authenticated", "sub" : "\u0061" }';
SELECT cached('k');
SET request.jwt.claims = '{"sub":"a","role":"authenticated","exp":1,"iat":2,"nbf":3,"jti":"x","session_id":"y"}';
SELECT cached('k');
-- Any other claim does, since policies may look at it.
SET request.jwt.claims = '{"sub":"a","role":"authenticated","aal":"aal2"}';
SELECT cached('k');
SET request.jwt.claims = '{"sub":"a","role":"authenticated","app_metadata":{"org":1}}';
SELECT cached('k');
SET request.jwt.claims = '{"sub":"A","role":"authenticated"}';
SELECT cached('k');
SET request.jwt.claims = '{"sub":"a"}';
SELECT cached('k');
-- Unset, empty and {} are the same.
RESET request.jwt.claims;
SELECT set_cached_data('nobody', '1');
SET request.jwt.claims = '';
SELECT cached('nobody');
SET request.jwt.claims = '{}';
SELECT cached('nobody');
SET request.jwt.claims = ' { } ';
SELECT cached('nobody');
-- Claims that are no JSON object bypass the cache.
SET request.jwt.claims = 'sub=a';
SELECT cached('k'), set_cached_data('k', '"planted"'), cache_exists('k'), (SELECT count(*) FROM query_cache);
SELECT invalidate_cache_key('k'), invalidate_cache_by_pattern('*');
SET request.jwt.claims = '["a"]';
SELECT cached('k'), set_cached_data('k', '"planted"');
SET request.jwt.claims = '{"sub":"a","role":"authenticated"';
SELECT cached('k'), set_cached_data('k', '"planted"');
SELECT set_config('request.jwt.claims', repeat('[', 1000000), false) IS NOT NULL;
SELECT cached('k'), set_cached_data('k', '"planted"');
SELECT set_config('request.jwt.claims', '{"a":' || repeat('[', 1000000) || repeat(']', 1000000) || '}', false) IS NOT NULL;
SELECT cached('k'), set_cached_data('k', '"planted"');

-- Claims that change within a transaction, as they do under a pooler.
BEGIN;
SET LOCAL request.jwt.claims = '{"sub":"a","role":"authenticated"}';
SELECT cached('k'), set_cached_data('t', '"a"');
SELECT cached('t');
SELECT cache_key, cache_data, tier FROM query_cache ORDER BY 1;
SET LOCAL request.jwt.claims = '{"sub":"c","role":"authenticated"}';
SELECT cached('k'), cached('t');
SELECT cache_key, cache_data, tier FROM query_cache ORDER BY 1;
SELECT set_cached_data('t', '"c"');
SELECT set_config('request.jwt.claims', '{"sub":"a","role":"authenticated"}', true) IS NOT NULL AS a, cached('t');
COMMIT;
SET request.jwt.claims = '{"sub":"c","role":"authenticated"}';
SELECT cached('t');
SET request.jwt.claims = '{"sub":"d","role":"authenticated"}';
SELECT cached('t');

-- The role counts too, and SET ROLE changes it.
RESET ROLE;
CREATE ROLE regress_other NOLOGIN;
GRANT authenticated TO regress_other;
SET ROLE regress_other;
SET request.jwt.claims = '{"sub":"a","role":"authenticated"}';
SELECT cached('k'), cached('t');
RESET ROLE;

-- What counts inside a SECURITY DEFINER function is still who called it.
CREATE FUNCTION definer_get(p_key text) RETURNS text LANGUAGE sql SECURITY DEFINER AS $$ SELECT cached(p_key) $$;
CREATE FUNCTION definer_set(p_key text, p_data jsonb) RETURNS boolean LANGUAGE sql SECURITY DEFINER AS $$ SELECT set_cached_data(p_key, p_data) $$;
CREATE FUNCTION definer_list() RETURNS TABLE (cache_key text, cache_data jsonb) LANGUAGE sql SECURITY DEFINER AS $$ SELECT cache_key, cache_data FROM query_cache $$;
GRANT EXECUTE ON FUNCTION definer_get, definer_set, definer_list TO authenticated;
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"a","role":"authenticated"}';
SELECT definer_get('k'), definer_get('only-b'), definer_set('d', '"a"');
SELECT cached('d');
SELECT * FROM definer_list() ORDER BY 1;
SET request.jwt.claims = '{"sub":"b","role":"authenticated"}';
SELECT cached('d'), definer_get('d');
RESET ROLE;
SELECT cached('d');

-- Keys and patterns reach one's own entries only; a shared caller's reach all.
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"b","role":"authenticated"}';
SELECT invalidate_cache_key('d'), invalidate_cache_by_pattern('*');
SELECT cached('k'), cached('only-b');
SET request.jwt.claims = '{"sub":"a","role":"authenticated"}';
SELECT cached('k'), cached('d');
RESET ROLE;
SELECT invalidate_cache_key('k'), invalidate_cache_by_pattern('*');
SET ROLE authenticated;
SELECT cached('k'), cached('d');
-- Tags reach every scope, whoever invalidates; the count is of what one may see.
SELECT set_cached_data('g', '"a"', null, '{t}');
SET request.jwt.claims = '{"sub":"b","role":"authenticated"}';
SELECT set_cached_data('g', '"b"', null, '{t}');
SELECT invalidate_cache_by_tags('{t}');
SET request.jwt.claims = '{"sub":"a","role":"authenticated"}';
SELECT cached('g');
RESET ROLE;

-- A shared prefix is filled only by code whose effective role is a shared writer, and then for all.
SELECT set_cache_policy('pub:', p_shared => true);
SET ROLE authenticated;
SELECT set_cached_data('pub:1', '"planted"'), add_cached_data('pub:1', '"planted"'), cached('pub:1');
SELECT cache_data IS NULL AS miss, lease IS NULL AS no_lease FROM get_cached_entry('pub:1');
SELECT definer_set('pub:1', '"good"');
SELECT cached('pub:1');
SET request.jwt.claims = '{"sub":"b","role":"authenticated"}';
SELECT cached('pub:1'), set_cached_data('pub:1', '"planted"'), cached('pub:1');
SELECT cache_key, cache_data, scope FROM query_cache;
SET ROLE service_role;
SELECT cached('pub:1'), set_cached_data('pub:1', '"better"'), cached('pub:1');
RESET ROLE;
SELECT cached('pub:1');
SELECT drop_cache_policy('pub:');

-- PostgREST's GET is a READ ONLY transaction: it may read and store.
SET ROLE authenticated;
BEGIN READ ONLY;
SELECT cached('ro'), set_cached_data('ro', '"stored"'), cached('ro');
SELECT cached('ro');
COMMIT;
SELECT cached('ro');
BEGIN READ ONLY;
SELECT cached('ro'), add_cached_data('ro', '"again"'), add_cached_data('ro2', '2');
COMMIT;
SELECT cached('ro'), cached('ro2');
RESET ROLE;
RESET request.jwt.claims;

DROP FUNCTION definer_get, definer_set, definer_list, cached;
DROP EXTENSION cache_ext;
DROP ROLE regress_other, authenticated, service_role;
