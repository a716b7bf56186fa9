-- Listings of storage objects: what is in a page, who is shown it, and what makes it go.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS cache_ext CASCADE;
\getenv folder PG_ABS_SRCDIR
\set setup :folder '/supabase/setup.sql'
\set teardown :folder '/supabase/teardown.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE EXTENSION cache_ext;
INSERT INTO storage.buckets (id, name) VALUES ('b', 'b'), ('empty', 'empty'), ('per%cent', 'per%cent');
INSERT INTO storage.objects (bucket_id, name, owner_id, metadata) VALUES
    ('b', 'a/1.txt', 'u1', '{"size": 1}'), ('b', 'a/2.txt', 'u2', '{"size": 2}'), ('b', 'a/b/3.txt', 'u1', NULL), ('b', 'Z.txt', 'u1', NULL),
    ('b', 'a%/4.txt', 'u1', NULL), ('b', 'a_/5.txt', 'u2', NULL), ('b', 'ü.txt', 'u1', NULL), ('per%cent', 'x', 'u1', NULL);

-- How many pages there are and how often they were used, and with which tags.
CREATE VIEW pages AS SELECT regexp_replace(cache_key, '[0-9a-f]{32}$', '…') AS key, cache_tags, hit_count, left(scope, 7) AS scope
FROM query_cache WHERE cache_key LIKE 'storage:list:%';

-- A page is kept once nobody is under way who may have written without telling.
DO $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        PERFORM FROM list_storage_objects('empty');
        EXIT WHEN EXISTS (SELECT FROM pages);
        PERFORM pg_sleep(0.01);
    END LOOP;
    PERFORM emergency_clear_cache(current_database());
END
$$;

-- What is in a page: all objects under the prefix, in the order of bytes; nothing in a prefix is special.
SELECT name, metadata, id IS NOT NULL AND updated_at = created_at AND last_accessed_at IS NOT NULL AS more FROM list_storage_objects('b');
SELECT name FROM list_storage_objects('b');
SELECT name FROM list_storage_objects('b', 'a/');
SELECT name FROM list_storage_objects('b', 'a/b');
SELECT name FROM list_storage_objects('b', 'a%');
SELECT name FROM list_storage_objects('b', 'a_');
SELECT name FROM list_storage_objects('b', '%');
SELECT name FROM list_storage_objects('b', 'ü');
SELECT name FROM list_storage_objects('per%cent');
SELECT name FROM list_storage_objects('b', 'none');
SELECT name FROM list_storage_objects('empty');
SELECT name FROM list_storage_objects('b', p_limit => 2);
SELECT name FROM list_storage_objects('b', p_limit => 2, p_offset => 2);
SELECT name FROM list_storage_objects('b', p_offset => 100);
SELECT key, hit_count FROM pages ORDER BY 1, 2;
SELECT (list_storage_objects('b', 'Z')).name;

-- How long a page is kept is for a policy to say; its tags reach it too.
SELECT set_cache_policy('storage:list:', '3 minutes', p_tags => '{pictures}');
SELECT count(*) FROM list_storage_objects('b', 'a/', 50);
SELECT extract(epoch FROM expires_at - created_at)::int AS seconds, 'pictures' = ANY (cache_tags) AS tagged, cache_data IS NULL AS hidden
FROM query_cache WHERE cache_key LIKE 'storage:list:%' AND expires_at - created_at < '5 minutes';
SELECT invalidate_cache_by_tags('{pictures}');
SELECT drop_cache_policy('storage:list:');

-- What is wrong.
SELECT * FROM list_storage_objects('none');
SELECT * FROM list_storage_objects('');
SELECT * FROM list_storage_objects(NULL);
SELECT * FROM list_storage_objects('b', NULL);
SELECT * FROM list_storage_objects('b', '', 0);
SELECT * FROM list_storage_objects('b', '', 1001);
SELECT * FROM list_storage_objects('b', '', NULL);
SELECT * FROM list_storage_objects('b', '', 1, -1);
SELECT * FROM list_storage_objects('b', '', 1, NULL);

-- Changes show at once, in the transaction that makes them too.
BEGIN;
INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES ('b', 'a/new.txt', 'u1');
SELECT name FROM list_storage_objects('b', 'a/');
SAVEPOINT s;
UPDATE storage.objects SET name = 'moved.txt' WHERE name = 'a/new.txt';
SELECT name FROM list_storage_objects('b', 'a/');
SELECT name FROM list_storage_objects('b', 'm');
ROLLBACK TO s;
SELECT name FROM list_storage_objects('b', 'a/');
COMMIT;
SELECT name FROM list_storage_objects('b', 'a/');
BEGIN;
SET LOCAL storage.allow_delete_query = 'true';
DELETE FROM storage.objects WHERE name = 'a/new.txt';
COMMIT;
SELECT name FROM list_storage_objects('b', 'a/');
SELECT name FROM list_storage_objects('b', 'a/');

-- Row security: nobody is shown another's page, and a changed policy counts at once.
CREATE FUNCTION listed(p_user text, p_prefix text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    result text;
BEGIN
    PERFORM set_config('request.jwt.claims', json_build_object('sub', p_user)::text, true);
    SET LOCAL ROLE authenticated;
    SELECT string_agg(name, ' ') INTO result FROM list_storage_objects('b', p_prefix);
    RESET ROLE;
    RETURN result;
END
$$;
SELECT emergency_clear_cache(current_database()) >= 0 AS cleared;
SELECT listed('u1'), listed('u2');
CREATE POLICY own ON storage.objects FOR SELECT TO authenticated USING (owner_id = (auth.jwt() ->> 'sub'));
SELECT listed('u1'), listed('u2'), listed('u3');
SELECT listed('u1'), listed('u2'), listed('u3');
SELECT key, hit_count, scope FROM pages ORDER BY 3, 2, 1;
ALTER POLICY own ON storage.objects USING (owner_id = (auth.jwt() ->> 'sub') AND name LIKE 'a%');
SELECT listed('u1'), listed('u2');
-- A table that a policy asks.
CREATE TABLE shares (folder text, reader text);
GRANT SELECT ON shares TO authenticated;
CREATE POLICY shared ON storage.objects FOR SELECT TO authenticated
    USING (EXISTS (SELECT FROM public.shares s WHERE s.folder = (storage.foldername(objects.name))[1] AND s.reader = auth.jwt() ->> 'sub'));
SELECT listed('u2', 'a/');
SELECT listed('u2', 'a/');
INSERT INTO shares VALUES ('a', 'u2');
SELECT listed('u2', 'a/');
DELETE FROM shares;
SELECT listed('u2', 'a/');
-- And one that a function asks which nobody can look into.
CREATE FUNCTION may_read(p_folder text) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
BEGIN
    RETURN EXISTS (SELECT FROM public.shares WHERE folder = p_folder AND reader = auth.jwt() ->> 'sub');
END
$$;
ALTER POLICY shared ON storage.objects USING (public.may_read((storage.foldername(name))[1]));
SELECT listed('u2', 'a/');
INSERT INTO shares VALUES ('a', 'u2');
SELECT listed('u2', 'a/');
-- A privilege that is taken away.
REVOKE SELECT ON storage.objects FROM authenticated;
SELECT listed('u2', 'a/');
GRANT SELECT ON storage.objects TO authenticated;
SELECT listed('u2', 'a/');
ALTER TABLE storage.objects DISABLE ROW LEVEL SECURITY;
SELECT listed('u2', 'a/');
ALTER TABLE storage.objects ENABLE ROW LEVEL SECURITY;
-- What may change although nothing is written is not kept.
DROP POLICY shared ON storage.objects;
DROP POLICY own ON storage.objects;
CREATE POLICY later ON storage.objects FOR SELECT TO authenticated USING (created_at < now() + interval '1 hour');
SELECT emergency_clear_cache(current_database()) >= 0 AS cleared;
SELECT listed('u1', 'a/');
SELECT count(*) FROM pages;
ALTER POLICY later ON storage.objects USING (owner_id = current_setting('app.tenant', true));
SELECT listed('u1', 'a/');
SET app.tenant = 'u1';
SELECT listed('u1', 'a/');
RESET app.tenant;
-- Nor is what a function asks for that cannot be analyzed: itself, or by another that it calls or a view that it reads.
CREATE FUNCTION tenant() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('app.tenant', true) $$;
CREATE VIEW tenants AS SELECT current_setting('app.tenant', true) AS id;
CREATE FUNCTION seen(p_owner text) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS 'BEGIN END';
CREATE PROCEDURE make_seen(p_body text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE OR REPLACE FUNCTION seen(p_owner text) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS %L',
                   'BEGIN RETURN ' || p_body || '; END');
END
$$;
CREATE FUNCTION listed_in(p_tenant text) RETURNS text LANGUAGE plpgsql SET app.tenant = 'none' AS $$
BEGIN
    PERFORM set_config('app.tenant', p_tenant, false);
    RETURN listed('u1', 'a/');
END
$$;
ALTER POLICY later ON storage.objects USING (public.seen(owner_id));
CALL make_seen($$p_owner = current_setting('app.tenant', true)$$);
SELECT listed_in('u1'), listed_in('u2');
CALL make_seen($$p_owner = pg_catalog."current_setting" /* of (whom) -- */ ('app.tenant')$$);
SELECT listed_in('u1'), listed_in('u2');
CALL make_seen($$p_owner = current_setting('app.' || 'tenant')$$);
SELECT listed_in('u1'), listed_in('u2');
CALL make_seen($$'it''s "' <> '' AND p_owner = public . TENANT -- whose
    ()$$);
SELECT listed_in('u1'), listed_in('u2');
CALL make_seen($$p_owner = (SELECT id FROM public.tenants)$$);
SELECT listed_in('u1'), listed_in('u2');
SELECT count(*) FROM pages;
-- Its claims are the caller's own.
CALL make_seen($$p_owner = current_setting('request.jwt.claims', true)::jsonb ->> 'sub' OR 'current_setting(''app.tenant'')' = '' /* now() */$$);
SELECT listed('u1', 'a/'), listed('u2', 'a/');
SELECT listed('u1', 'a/'), listed('u2', 'a/');
SELECT hit_count, scope FROM pages;
-- A policy for this operation only.
ALTER POLICY later ON storage.objects USING (storage.operation() = 'storage.object.list');
SELECT listed('u1', 'a/');
SET ROLE authenticated;
SELECT count(*) FROM storage.objects;
SET ROLE anon;
SELECT * FROM list_storage_objects('b');
RESET ROLE;
-- In a read-only transaction, as a GET is, and where the cache is bypassed.
BEGIN READ ONLY;
SELECT name FROM list_storage_objects('b', 'a/');
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT name FROM list_storage_objects('b', 'a/');
COMMIT;
SET cache_ext.enabled = off;
SELECT name FROM list_storage_objects('b', 'a/');
RESET cache_ext.enabled;

-- Into a cached function a listing goes with what it depends on.
CREATE FUNCTION count_listed(p_prefix text) RETURNS bigint LANGUAGE sql STABLE AS $$ SELECT count(*) FROM list_storage_objects('b', p_prefix) $$;
SELECT create_cached_function('count_listed(text)');
SELECT count_listed_cached('a/'), count_listed_cached('a/');
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'a/more.txt');
SELECT count_listed_cached('a/');

DROP VIEW pages;
DROP FUNCTION count_listed_cached, count_listed, listed, listed_in;
DROP PROCEDURE make_seen;
DROP EXTENSION cache_ext;
DROP TABLE shares CASCADE;
\set ECHO none
\i :teardown
\set ECHO all
DROP FUNCTION may_read, seen, tenant;
DROP VIEW tenants;
