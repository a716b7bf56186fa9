-- Whatever is wrong with the tables that storage usage is kept in, uploads succeed and the usage is right; a warning tells.
SET client_min_messages = error;
DROP EXTENSION IF EXISTS cache_ext CASCADE;
CREATE EXTENSION cache_ext;
CREATE TABLE objects (id int GENERATED ALWAYS AS IDENTITY, bucket_id text, name text, owner_id text, metadata jsonb);
CREATE FUNCTION u(n int) RETURNS uuid IMMUTABLE LANGUAGE sql RETURN ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid;
CREATE TABLE person AS SELECT u(n) AS id FROM generate_series(1, 20) n;
INSERT INTO objects (bucket_id, name, owner_id, metadata) SELECT 'b', n, u(n % 20 + 1), jsonb_build_object('size', n) FROM generate_series(1, 100) n;
SELECT enable_storage_usage_cache('objects');
SELECT refresh_storage_usage_cache();
CREATE VIEW verdict AS
SELECT count(*) FILTER (WHERE (g.total_bytes, g.file_count) IS DISTINCT FROM (coalesce(t.bytes, 0), coalesce(t.files, 0))) AS wrong, count(*) FILTER (WHERE NOT is_cached) > 0 AS added_up
FROM person p CROSS JOIN LATERAL get_user_storage_usage(p.id) g
LEFT JOIN (SELECT owner_id, sum((metadata ->> 'size')::bigint) AS bytes, count(*) AS files FROM objects GROUP BY 1) t ON t.owner_id = p.id::text;
-- An upload of one, of everybody, and a delete; then who is asked gets what.
CREATE PROCEDURE upload() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('b', 'one', u(1), '{"size": 1000}');
    COMMIT;
    INSERT INTO objects (bucket_id, name, owner_id, metadata) SELECT 'c', 'all', id, '{"size": 10}' FROM person;
    COMMIT;
    DELETE FROM objects WHERE id IN (SELECT id FROM objects ORDER BY id LIMIT 3);
    COMMIT;
END $$;
RESET client_min_messages;
TABLE verdict;
CALL upload();
TABLE verdict;

-- A table is called something else, and is itself again: while it is not there nothing can be written down, not even that.
ALTER TABLE cache_ext_internal.storage_deltas RENAME TO gone;
CALL upload();
TABLE verdict;
ALTER TABLE cache_ext_internal.gone RENAME TO storage_deltas;
SELECT wrong FROM verdict;
SELECT refresh_storage_usage_cache();
TABLE verdict;
ALTER TABLE cache_ext_internal.storage_marks RENAME TO gone;
CALL upload();
TABLE verdict;
ALTER TABLE cache_ext_internal.storage_deltas RENAME TO gone_too;
CALL upload();
TABLE verdict;
ALTER TABLE cache_ext_internal.gone RENAME TO storage_marks;
ALTER TABLE cache_ext_internal.gone_too RENAME TO storage_deltas;
SELECT refresh_storage_usage_cache();
TABLE verdict;
ALTER TABLE cache_ext_internal.storage_totals RENAME TO gone;
CALL upload();
TABLE verdict;
TRUNCATE objects;
TABLE verdict;
ALTER TABLE cache_ext_internal.gone RENAME TO storage_totals;
CALL upload();
SELECT refresh_storage_usage_cache();
TABLE verdict;

-- A column is another; an index is not there, or is one of something else.
ALTER TABLE cache_ext_internal.storage_deltas RENAME COLUMN files TO x;
CALL upload();
TABLE verdict;
ALTER TABLE cache_ext_internal.storage_deltas RENAME COLUMN x TO files;
SELECT refresh_storage_usage_cache();
TABLE verdict;
ALTER INDEX cache_ext_internal.storage_deltas_owner RENAME TO gone;
ALTER INDEX cache_ext_internal.storage_marks_owner RENAME TO gone_too;
CREATE INDEX storage_deltas_owner ON cache_ext_internal.storage_deltas (bytes);
CALL upload();
SELECT invalidate_storage_usage_cache(u(1));
SELECT wrong FROM verdict;
SELECT refresh_storage_usage_cache();
TABLE verdict;
DROP INDEX cache_ext_internal.storage_deltas_owner;
ALTER INDEX cache_ext_internal.gone RENAME TO storage_deltas_owner;
ALTER INDEX cache_ext_internal.gone_too RENAME TO storage_marks_owner;

-- Constraints, triggers, policies, rules, defaults and columns that somebody adds are in nobody's way; a unique index that cannot be kept is.
ALTER TABLE cache_ext_internal.storage_deltas ADD CHECK (bytes < 0) NOT VALID, ADD COLUMN note text DEFAULT 'x', ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
CREATE TRIGGER fail BEFORE INSERT ON cache_ext_internal.storage_deltas FOR EACH ROW EXECUTE FUNCTION fail();
CREATE RULE nothing AS ON INSERT TO cache_ext_internal.storage_deltas DO INSTEAD NOTHING;
CALL upload();
TABLE verdict;
SELECT refresh_storage_usage_cache();
DELETE FROM cache_ext_internal.storage_deltas;
CREATE UNIQUE INDEX only_one ON cache_ext_internal.storage_deltas ((1));
SELECT refresh_storage_usage_cache();
TABLE verdict;
CALL upload();
SELECT wrong FROM verdict;
DROP INDEX cache_ext_internal.only_one;
SELECT refresh_storage_usage_cache();
TABLE verdict;

-- The application's table takes nothing, or runs into an error; a trigger of it does not get more rights than the table's owner has.
CREATE ROLE mallory;
GRANT ALL ON SCHEMA public TO mallory;
ALTER TABLE storage_usage OWNER TO mallory;
SET ROLE mallory;
CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'written by %', current_user; RETURN NEW; END $$;
CREATE TRIGGER spy BEFORE INSERT OR UPDATE ON storage_usage FOR EACH ROW WHEN (NEW.user_id = '00000000-0000-4000-8000-000000000001') EXECUTE FUNCTION spy();
RESET ROLE;
SELECT refresh_storage_usage_cache();
SET ROLE mallory;
CREATE OR REPLACE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE pg_authid SET rolsuper = true WHERE rolname = 'mallory'; RETURN NEW; END $$;
RESET ROLE;
SELECT refresh_storage_usage_cache();
TABLE verdict;
DROP TRIGGER spy ON storage_usage;
ALTER TABLE storage_usage ADD CHECK (user_id <> '00000000-0000-4000-8000-000000000003') NOT VALID;
DELETE FROM storage_usage;
SELECT refresh_storage_usage_cache();
SELECT count(*) FROM storage_usage;
ALTER TABLE storage_usage RENAME TO usage_of_old;
CALL upload();
SELECT refresh_storage_usage_cache();
TABLE verdict;

-- All of them are gone.
DROP TABLE usage_of_old;
ALTER EXTENSION cache_ext DROP TABLE cache_ext_internal.storage_state;
DROP TABLE cache_ext_internal.storage_state;
CALL upload();
TABLE verdict;
SELECT refresh_storage_usage_cache();
SELECT cache_status FROM get_storage_cache_stats(u(1));
ALTER EXTENSION cache_ext DROP TABLE cache_ext_internal.storage_settings;
DROP TABLE cache_ext_internal.storage_settings;
CALL upload();
SELECT * FROM get_user_storage_usage(u(1));
SELECT enable_storage_usage_cache('objects');

SET client_min_messages = warning;
DROP EXTENSION cache_ext CASCADE;
DROP TABLE objects, person CASCADE;
DROP FUNCTION fail, spy;
DROP OWNED BY mallory;
DROP ROLE mallory;
