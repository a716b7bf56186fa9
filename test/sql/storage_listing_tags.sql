-- Which listings go when an object changes: those of the folders above it, where enable_storage_usage_cache counts the table.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS cache_ext CASCADE;
\getenv folder PG_ABS_SRCDIR
\set setup :folder '/supabase/setup.sql'
\set teardown :folder '/supabase/teardown.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE EXTENSION cache_ext;
SELECT enable_storage_usage_cache();
INSERT INTO storage.buckets (id, name) VALUES ('b', 'b'), ('c', 'c');
INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES
    ('b', 'top', 'u1'), ('b', 'a/1', 'u1'), ('b', 'a/x/2', 'u1'), ('b', 'd/3', 'u2'), ('c', 'a/1', 'u1');

-- Lists each of these folders, and says which pages were not there any more.
CREATE FUNCTION gone(OUT gone text) LANGUAGE plpgsql AS $$
DECLARE
    page record;
    before bigint;
    after bigint;
BEGIN
    gone := '';
    FOR page IN SELECT * FROM (VALUES ('b', ''), ('b', 'a'), ('b', 'a/'), ('b', 'a/x/'), ('b', 'd/'), ('c', ''), ('c', 'a/')) v (bucket, prefix) LOOP
        SELECT hits INTO before FROM get_cache_metrics();
        PERFORM FROM list_storage_objects(page.bucket, page.prefix);
        SELECT hits INTO after FROM get_cache_metrics();
        IF before = after THEN
            gone := gone || page.bucket || ':' || page.prefix || ' ';
        END IF;
    END LOOP;
END
$$;
-- A page is kept once nobody is under way who may have written without telling, as the background worker may be.
DO $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        PERFORM FROM list_storage_objects('c');
        EXIT WHEN EXISTS (SELECT FROM query_cache WHERE cache_key LIKE 'storage:list:c:%');
        PERFORM pg_sleep(0.01);
    END LOOP;
    PERFORM invalidate_cache_by_tags('{storage:list:}');
END
$$;
SELECT gone();
SELECT gone();
SELECT DISTINCT t FROM query_cache, unnest(cache_tags) t WHERE cache_key LIKE 'storage:list:%' ORDER BY 1;

INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'a/x/new');
SELECT gone();
UPDATE storage.objects SET metadata = '{"size": 1}' WHERE name = 'd/3';
SELECT gone();
UPDATE storage.objects SET last_accessed_at = now() WHERE name = 'top';
SELECT gone();
-- A move is told where the object was and where it is.
UPDATE storage.objects SET name = 'd/new', bucket_id = 'b' WHERE name = 'a/x/new';
SELECT gone();
UPDATE storage.objects SET bucket_id = 'c' WHERE name = 'd/new';
SELECT gone();
BEGIN;
SET LOCAL storage.allow_delete_query = 'true';
DELETE FROM storage.objects WHERE bucket_id = 'b' AND name LIKE 'a/%';
COMMIT;
SELECT gone();
-- What is rolled back has changed nothing; what is only tried makes nothing go.
BEGIN;
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'a/new');
ROLLBACK;
SELECT gone();
SELECT name FROM list_storage_objects('b', 'a/');
-- TRUNCATE.
TRUNCATE storage.objects;
SELECT gone();
SELECT count(*) FROM list_storage_objects('b');

-- Folders deeper than are told apart, names longer than a tag, and than what is kept in its row.
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', repeat('f/', 30) || 'x'), ('b', repeat('long', 100) || '/x');
SELECT count(*) FROM list_storage_objects('b', repeat('f/', 29));
SELECT count(*) FROM list_storage_objects('b', repeat('f/', 30));
SELECT count(*) FROM list_storage_objects('b', repeat('long', 100) || '/');
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', repeat('f/', 30) || 'y'), ('b', repeat('long', 100) || '/y');
SELECT count(*) FROM list_storage_objects('b', repeat('f/', 29));
SELECT count(*) FROM list_storage_objects('b', repeat('f/', 30));
SELECT count(*) FROM list_storage_objects('b', repeat('long', 100) || '/');
ALTER TABLE storage.objects ALTER COLUMN name SET STORAGE MAIN;
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', repeat('squeezed', 300) || '/x');
SELECT count(*) FROM list_storage_objects('b', 'squeezed');
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', repeat('squeezed', 300) || '/y'), (NULL, 'x'), ('b', NULL);
SELECT count(*) FROM list_storage_objects('b', 'squeezed');

-- A policy in whose functions nobody can look changes nothing of that: of what it reads, only what it reads is watched.
INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES ('b', 'me/1', 'me'), ('b', 'you/1', 'you');
CREATE POLICY own ON storage.objects FOR SELECT TO authenticated USING ((storage.foldername(name))[1] = (auth.jwt() ->> 'sub'));
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"me"}';
SELECT name FROM list_storage_objects('b', 'me/');
SELECT name FROM list_storage_objects('b', 'you/');
RESET ROLE;
RESET request.jwt.claims;
SELECT DISTINCT kind, name FROM cache_dependencies WHERE cache_key LIKE 'storage:list:%' AND scope <> 'shared' ORDER BY 1, 2;
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'other/1');
SET ROLE authenticated;
SET request.jwt.claims = '{"sub":"me"}';
SELECT name FROM list_storage_objects('b', 'me/');
RESET ROLE;
RESET request.jwt.claims;
-- Not counted any more: the table as a whole tells.
SELECT disable_storage_usage_cache();
SELECT name FROM list_storage_objects('b', 'me/');
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'me/2');
SELECT name FROM list_storage_objects('b', 'me/');
SELECT enable_storage_usage_cache();
SELECT name FROM list_storage_objects('b', 'me/');
-- Counted, but not told: the triggers were off for a while.
ALTER TABLE storage.objects DISABLE TRIGGER "0_cache_ext_storage_change";
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'me/3');
SELECT name FROM list_storage_objects('b', 'me/');
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'me/4');
SELECT name FROM list_storage_objects('b', 'me/');
ALTER TABLE storage.objects ENABLE ALWAYS TRIGGER "0_cache_ext_storage_change";
SELECT name FROM list_storage_objects('b', 'me/');
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'me/5');
SELECT name FROM list_storage_objects('b', 'me/');
-- Where no trigger fires but those that always do.
SET session_replication_role = replica;
INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'me/6');
RESET session_replication_role;
SELECT name FROM list_storage_objects('b', 'me/');

SELECT disable_storage_usage_cache();
DROP TABLE storage_usage;
DROP FUNCTION gone;
DROP EXTENSION cache_ext;
\set ECHO none
\i :teardown
\set ECHO all
