-- The application's table of storage usage, whatever it looks like; and owners and buckets whose names are longer than an index has room for.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS cache_ext CASCADE;
CREATE EXTENSION cache_ext;
RESET client_min_messages;
CREATE TABLE objects (bucket_id text, name text, owner_id text, metadata jsonb);
CREATE FUNCTION u(n int) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
INSERT INTO objects VALUES ('b', 'x', u(1), '{"size": 5}'), ('b', 'y', u(2), '{"size": 3000000000}'), ('b', 'z', u(3), '{"size": 7}');

-- What could never be written to is refused.
CREATE TABLE storage_usage (user_id uuid UNIQUE DEFERRABLE);
SELECT enable_storage_usage_cache('objects');
DROP TABLE storage_usage;
CREATE TABLE storage_usage (user_id uuid PRIMARY KEY, buckets text[]);
SELECT enable_storage_usage_cache('objects');
DROP TABLE storage_usage;
CREATE TABLE storage_usage (user_id uuid PRIMARY KEY, used bigint, total_bytes bigint GENERATED ALWAYS AS (used) STORED);
SELECT enable_storage_usage_cache('objects');
DROP TABLE storage_usage;
-- One that goes with the session is no table for the application.
BEGIN;
CREATE TEMP TABLE storage_usage (user_id uuid PRIMARY KEY);
SELECT enable_storage_usage_cache('objects');
SELECT to_regclass('public.storage_usage') IS NOT NULL AS made;
ROLLBACK;

-- Rows that are there are written, whatever else new ones would need; what one of them does not take does not keep the others from being written.
CREATE TABLE storage_usage (n bigint, b text, user_id uuid PRIMARY KEY, plan text NOT NULL, total_bytes int, buckets json);
INSERT INTO storage_usage (user_id, plan) SELECT u(n), 'free' FROM generate_series(1, 2) n;
SELECT enable_storage_usage_cache('objects');
SELECT refresh_storage_usage_cache();
SELECT user_id, plan, total_bytes, file_count, buckets, last_calculated_at IS NOT NULL AS written FROM storage_usage ORDER BY user_id;
SELECT u.* FROM generate_series(1, 3) n, LATERAL (SELECT total_bytes, is_cached FROM get_user_storage_usage(u(n))) u;
ALTER TABLE storage_usage ALTER plan DROP NOT NULL, ALTER total_bytes TYPE numeric;
SELECT refresh_storage_usage_cache();
SELECT user_id, plan, total_bytes, file_count, buckets FROM storage_usage ORDER BY user_id;

-- Whoever has a long name, and what lies in a bucket with one, is counted like others.
CREATE FUNCTION long(p_seed text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg('ü' || md5(p_seed || n), '') FROM generate_series(1, 200) n $$;
INSERT INTO objects VALUES ('b', 'x', long('a'), '{"size": 11}'), (long('c'), 'x', long('a'), '{"size": 12}'),
    (long('c'), 'x', u(1), '{"size": 13}'), (long('c') || 'd', 'x', u(1), '{"size": 14}'), ('b', 'x', long('a') || 'b', '{"size": 15}');
CREATE FUNCTION usage_of(p_user text, OUT bytes bigint, OUT files bigint, OUT buckets text, OUT is_cached boolean) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', json_build_object('sub', p_user)::text, true);
    SELECT g.total_bytes, g.file_count, g.is_cached,
           (SELECT string_agg(left(key, 5) || '…' || octet_length(key) || ' ' || (value ->> 'total_bytes'), ', ' ORDER BY value ->> 'total_bytes') FROM jsonb_each(g.buckets))
    INTO bytes, files, is_cached, buckets FROM get_user_storage_usage() g;
END
$$;
SELECT * FROM usage_of(u(1)::text);
SELECT * FROM usage_of(long('a'));
SELECT * FROM usage_of(long('a') || 'b');
SELECT refresh_storage_usage_cache();
SELECT * FROM usage_of(u(1)::text);
SELECT * FROM usage_of(long('a'));
UPDATE objects SET bucket_id = 'b' WHERE bucket_id = long('c');
SELECT * FROM usage_of(u(1)::text);
SELECT * FROM usage_of(long('a'));
DELETE FROM objects WHERE owner_id = long('a');
SELECT * FROM usage_of(long('a'));
SELECT * FROM usage_of(long('a') || 'b');
SELECT * FROM usage_of(long('b'));

DROP FUNCTION usage_of, long;
DROP TABLE objects, storage_usage;
DROP FUNCTION u(int);
DROP EXTENSION cache_ext;
