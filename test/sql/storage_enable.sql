-- enable_storage_usage_cache on a Supabase server: by postgres, with the application's table and without, on what is no such table; the functions for each role.
SET client_min_messages = warning;
\getenv folder PG_ABS_SRCDIR
\set setup :folder '/supabase/setup.sql'
\set teardown :folder '/supabase/teardown.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE EXTENSION cache_ext SCHEMA public;
RESET client_min_messages;
CREATE ROLE app LOGIN NOSUPERUSER BYPASSRLS;
GRANT service_role, authenticated TO app;
GRANT ALL ON SCHEMA public TO app;
GRANT USAGE ON SCHEMA storage, auth TO app;
GRANT ALL ON storage.objects TO app;
GRANT ALL ON auth.users TO app;
INSERT INTO storage.buckets (id, name) VALUES ('b', 'b'), ('c', 'c');
INSERT INTO auth.users (id) SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid FROM generate_series(1, 3) n;
INSERT INTO storage.objects (bucket_id, name, owner_id, metadata)
SELECT CASE n % 2 WHEN 0 THEN 'b' ELSE 'c' END, 'f/' || n, '00000000-0000-4000-8000-' || lpad((n % 5)::text, 12, '0'), jsonb_build_object('size', n) FROM generate_series(1, 20) n;
INSERT INTO storage.objects (bucket_id, name, owner_id, metadata) VALUES ('b', 'x', 'no uuid', '{"size": 5}');

-- What it cannot count.
SET ROLE app;
CREATE VIEW a_view AS SELECT 1 AS x;
CREATE TABLE partitioned (id int) PARTITION BY LIST (id);
CREATE TABLE part PARTITION OF partitioned DEFAULT;
CREATE TEMP TABLE temporary (id int);
CREATE UNLOGGED TABLE unlogged (id int);
CREATE TABLE parent (id int);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE no_metadata (bucket_id text, name text, owner uuid);
CREATE TABLE no_owner (bucket_id text, name text, metadata jsonb);
CREATE TABLE odd_type (bucket_id text, name text, metadata json, owner_id text);
SELECT enable_storage_usage_cache(NULL);
SELECT enable_storage_usage_cache('a_view');
SELECT enable_storage_usage_cache('partitioned');
SELECT enable_storage_usage_cache('part');
SELECT enable_storage_usage_cache('temporary');
SELECT enable_storage_usage_cache('unlogged');
SELECT enable_storage_usage_cache('parent');
SELECT enable_storage_usage_cache('child');
SELECT enable_storage_usage_cache('no_metadata');
SELECT enable_storage_usage_cache('no_owner');
SELECT enable_storage_usage_cache('odd_type');
SELECT enable_storage_usage_cache('auth.users');
SELECT enable_storage_usage_cache(0);
BEGIN READ ONLY;
SELECT enable_storage_usage_cache();
ROLLBACK;
RESET ROLE;
CREATE ROLE plain;
GRANT EXECUTE ON FUNCTION enable_storage_usage_cache, disable_storage_usage_cache TO plain;
GRANT USAGE ON SCHEMA storage TO plain;
GRANT SELECT ON storage.objects TO plain;
SET ROLE plain;
SELECT enable_storage_usage_cache();
RESET ROLE;
-- Where there is no such table as the default.
ALTER SCHEMA storage RENAME TO elsewhere;
SELECT enable_storage_usage_cache();
ALTER SCHEMA elsewhere RENAME TO storage;

-- The application's table is something else; or has what is needed and more.
SET ROLE app;
CREATE VIEW storage_usage AS SELECT 1 AS user_id;
SELECT enable_storage_usage_cache();
DROP VIEW storage_usage;
CREATE TABLE storage_usage (user_id uuid, total_bytes numeric);
SELECT enable_storage_usage_cache();
DROP TABLE storage_usage;
CREATE TABLE storage_usage (user_id uuid PRIMARY KEY, total_bytes bigint NOT NULL DEFAULT 0, plan text DEFAULT 'free');
INSERT INTO storage_usage VALUES ('00000000-0000-4000-8000-000000000001', 7, 'paid'), ('00000000-0000-4000-8000-000000000009', 9, 'gone');
SELECT enable_storage_usage_cache();
SELECT attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute WHERE attrelid = 'storage_usage'::regclass AND attnum > 0 ORDER BY attnum;
SELECT refresh_storage_usage_cache();
SELECT user_id, total_bytes, plan, file_count, buckets, last_calculated_at > now() - interval '1 hour' AS now FROM storage_usage ORDER BY 1;
SELECT enable_storage_usage_cache();
SET ROLE plain;
SELECT disable_storage_usage_cache();
SET ROLE app;
SELECT disable_storage_usage_cache();
SELECT count(*) FROM storage_usage;
SELECT tgname FROM pg_trigger WHERE tgrelid = 'storage.objects'::regclass AND tgname LIKE '%cache_ext%';
SELECT * FROM get_user_storage_usage('00000000-0000-4000-8000-000000000001');
RESET ROLE;
TABLE cache_ext_internal.storage_totals;
SET ROLE app;
DROP TABLE storage_usage;

-- And where there is none it is made, closed to all who have no business there.
SELECT enable_storage_usage_cache();
SELECT refresh_storage_usage_cache();
SELECT user_id, total_bytes, file_count, buckets FROM storage_usage ORDER BY 1;
RESET ROLE;
SELECT grantee, string_agg(privilege_type, ', ' ORDER BY privilege_type) FROM information_schema.role_table_grants
WHERE table_schema = 'public' AND table_name = 'storage_usage' AND grantee <> 'app' GROUP BY 1 ORDER BY 1;
SELECT polname, polcmd, pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'storage_usage'::regclass ORDER BY 1;
SELECT relrowsecurity FROM pg_class WHERE oid = 'storage_usage'::regclass;
-- Who is deleted has no row any more, and none comes back.
DELETE FROM auth.users WHERE id = '00000000-0000-4000-8000-000000000002';
SELECT refresh_storage_usage_cache();
SELECT user_id, total_bytes FROM storage_usage ORDER BY 1;

-- A user of the application.
BEGIN;
SET LOCAL ROLE authenticated;
SELECT set_config('request.jwt.claims', '{"sub": "00000000-0000-4000-8000-000000000001", "role": "authenticated"}', true);
SELECT user_id, total_bytes FROM storage_usage;
SELECT user_id, total_bytes, file_count, buckets, is_cached FROM get_user_storage_usage();
SELECT total_bytes FROM get_user_storage_usage('00000000-0000-4000-8000-000000000001');
SELECT calculate_storage_usage() - 'last_calculated_at' AS usage;
SELECT storage_cache_stats() - '{last_calculated_at,cache_age_minutes,hit_count}'::text[] AS stats;
SELECT clear_storage_cache();
SELECT storage_cache_stats() - '{last_calculated_at,cache_age_minutes,hit_count}'::text[] AS stats;
SELECT refresh_storage_cache() - 'last_calculated_at' AS usage;
CREATE TEMP TABLE hits AS SELECT hit_count FROM get_storage_cache_stats();
SELECT count(total_bytes) FROM generate_series(1, 3) n, get_user_storage_usage(CASE WHEN n > 0 THEN '00000000-0000-4000-8000-000000000001'::uuid END);
SELECT s.hit_count - h.hit_count AS hits FROM get_storage_cache_stats() s, hits h;
SAVEPOINT s;
SELECT * FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
ROLLBACK TO s;
SELECT refresh_storage_usage_cache('00000000-0000-4000-8000-000000000003');
ROLLBACK TO s;
SELECT invalidate_storage_usage_cache('00000000-0000-4000-8000-000000000003');
ROLLBACK TO s;
SELECT * FROM get_storage_cache_stats('00000000-0000-4000-8000-000000000003');
ROLLBACK TO s;
SELECT enable_storage_usage_cache();
ROLLBACK TO s;
SELECT disable_storage_usage_cache();
ROLLBACK TO s;
UPDATE storage_usage SET total_bytes = 0;
ROLLBACK TO s;
TABLE cache_ext_internal.storage_totals;
ROLLBACK;
-- One who has no uuid; nobody; a GET.
BEGIN READ ONLY;
SET LOCAL ROLE authenticated;
SELECT set_config('request.jwt.claims', '{"sub": "no uuid", "role": "authenticated"}', true);
SELECT calculate_storage_usage() - 'last_calculated_at' AS usage;
SELECT storage_cache_stats() ->> 'cache_status' AS status;
SAVEPOINT s;
SELECT refresh_storage_cache();
ROLLBACK TO s;
SELECT clear_storage_cache();
ROLLBACK TO s;
SELECT set_config('request.jwt.claims', '{"role": "authenticated"}', true);
SELECT calculate_storage_usage();
ROLLBACK TO s;
SELECT set_config('request.jwt.claims', '', true);
SELECT * FROM get_user_storage_usage();
ROLLBACK TO s;
SELECT set_config('request.jwt.claims', 'no json', true);
SELECT * FROM get_user_storage_usage();
ROLLBACK;
BEGIN;
SET LOCAL ROLE anon;
SELECT calculate_storage_usage();
ROLLBACK;
-- The service: anybody's; everybody's where it names nobody; but nobody's usage is none.
BEGIN;
SET LOCAL ROLE service_role;
SELECT set_config('request.jwt.claims', '{"role": "service_role"}', true);
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT invalidate_storage_usage_cache();
SELECT cache_status, is_stale FROM get_storage_cache_stats('00000000-0000-4000-8000-000000000003');
SELECT total_bytes FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT refresh_storage_usage_cache();
SELECT cache_status, is_stale FROM get_storage_cache_stats('00000000-0000-4000-8000-000000000003');
SAVEPOINT s;
SELECT * FROM get_user_storage_usage();
ROLLBACK TO s;
SELECT refresh_storage_cache();
ROLLBACK;

-- A definition that changes makes nothing of what was counted believed, until it is computed anew.
SELECT is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
BEGIN;
ALTER TABLE storage.objects DISABLE TRIGGER "0_cache_ext_storage_change";
UPDATE storage.objects SET metadata = '{"size": 1000}' WHERE name = 'f/3';
ALTER TABLE storage.objects ENABLE ALWAYS TRIGGER "0_cache_ext_storage_change";
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT refresh_storage_usage_cache();
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
COMMIT;
SELECT total_bytes FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT refresh_storage_usage_cache();
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
DROP TRIGGER "0_cache_ext_storage_change" ON storage.objects;
UPDATE storage.objects SET metadata = '{"size": 2000}' WHERE name = 'f/3';
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT enable_storage_usage_cache();
SELECT refresh_storage_usage_cache();
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
-- Another trigger of this function, such as an application may have made by hand, counts nothing twice.
CREATE TRIGGER by_hand AFTER INSERT OR UPDATE OR DELETE ON storage.objects FOR EACH ROW EXECUTE FUNCTION handle_storage_change();
CREATE TRIGGER by_hand_before BEFORE INSERT OR UPDATE ON storage.objects FOR EACH ROW EXECUTE FUNCTION handle_storage_change();
UPDATE storage.objects SET metadata = '{"size": 3000}' WHERE name = 'f/3';
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT handle_storage_change();
DROP TRIGGER by_hand ON storage.objects;
DROP TRIGGER by_hand_before ON storage.objects;
-- The columns of an older installation; a table that is renamed away.
ALTER TABLE storage.objects DROP COLUMN owner_id;
UPDATE storage.objects SET owner = '00000000-0000-4000-8000-000000000003' WHERE name = 'f/7';
SELECT total_bytes FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT refresh_storage_usage_cache();
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
ALTER TABLE storage.objects RENAME TO things;
UPDATE storage.things SET metadata = '{"size": 5}' WHERE name = 'f/7';
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
-- Another table takes its place: what was counted before is nothing to it.
CREATE TABLE storage.objects (LIKE storage.things INCLUDING ALL);
INSERT INTO storage.objects (bucket_id, name, owner, metadata) VALUES ('b', 'x', '00000000-0000-4000-8000-000000000003', '{"size": 77}');
SELECT enable_storage_usage_cache();
SELECT total_bytes FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT refresh_storage_usage_cache();
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
UPDATE storage.things SET metadata = '{"size": 6}';
UPDATE storage.objects SET metadata = '{"size": 78}';
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE '0_cache_ext%' ORDER BY 2;
DROP TRIGGER "0_cache_ext_storage_change" ON storage.objects;
DROP TRIGGER "0_cache_ext_storage_truncate" ON storage.objects;
SELECT total_bytes FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');
SELECT enable_storage_usage_cache();
SELECT refresh_storage_usage_cache();
SELECT total_bytes, is_cached FROM get_user_storage_usage('00000000-0000-4000-8000-000000000003');

SET client_min_messages = warning;
DROP TABLE storage_usage, partitioned, unlogged, parent, child, no_metadata, no_owner, odd_type;
DROP VIEW a_view;
DROP EXTENSION cache_ext CASCADE;
DROP OWNED BY app, plain;
DROP ROLE app, plain;
\set ECHO none
\i :teardown
