-- Storage usage: whatever is done to the table of objects, what is counted is what the sum over the table says in the same snapshot, for everybody.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS cache_ext CASCADE;
CREATE EXTENSION cache_ext;
RESET client_min_messages;
CREATE SCHEMA files;
SET search_path = files, public;

CREATE TABLE bucket (id text PRIMARY KEY);
INSERT INTO bucket VALUES ('a'), ('b'), ('say "hi", ü'), ('gone');
CREATE TABLE objects (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    bucket_id text REFERENCES bucket ON DELETE CASCADE,
    name text,
    owner uuid,
    metadata jsonb,
    path_tokens text[] GENERATED ALWAYS AS (string_to_array(name, '/')) STORED,
    owner_id text,
    last_accessed_at timestamptz,
    UNIQUE (bucket_id, name)
);
CREATE FUNCTION u(n int) RETURNS uuid IMMUTABLE LANGUAGE sql RETURN ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid;
CREATE FUNCTION size(n numeric) RETURNS jsonb IMMUTABLE LANGUAGE sql RETURN jsonb_build_object('size', n, 'mimetype', 'text/plain');
-- What is there before anything is counted.
INSERT INTO objects (bucket_id, name, owner, owner_id, metadata)
SELECT CASE n % 2 WHEN 0 THEN 'a' ELSE 'b' END, 'old/' || n, CASE n % 3 WHEN 0 THEN u(n % 4) END, CASE n % 3 WHEN 1 THEN u(n % 4)::text END, size(n)
FROM generate_series(1, 50) n;

-- The truth, written down independently of what is tested.
CREATE VIEW truth AS
SELECT owner, sum(bytes) AS bytes, sum(files) AS files,
       jsonb_object_agg(bucket, jsonb_build_object('total_bytes', bytes, 'file_count', files)) AS buckets
FROM (
    SELECT coalesce(owner_id, owner::text) AS owner, coalesce(bucket_id, '') AS bucket, count(*) AS files,
           sum(CASE WHEN jsonb_typeof(metadata -> 'size') IN ('number', 'string') AND metadata ->> 'size' ~ '^[0-9]+(\.0+)?$'
                    THEN CASE WHEN (metadata ->> 'size')::numeric <= 9223372036854775807 THEN (metadata ->> 'size')::numeric ELSE 0 END
                    ELSE 0 END) AS bytes
    FROM objects WHERE coalesce(owner_id, owner::text) IS NOT NULL GROUP BY 1, 2
) s GROUP BY owner;
-- Everybody who is asked about, whether or not they have anything.
CREATE TABLE person (owner text PRIMARY KEY);
INSERT INTO person SELECT u(n)::text FROM generate_series(0, 6) n;
INSERT INTO person VALUES ('auth0|ü "x"'), ('no uuid');
-- Who has no uuid can only be the caller.
CREATE FUNCTION ask(p_owner text)
RETURNS TABLE (user_id uuid, total_bytes bigint, file_count bigint, buckets jsonb, is_cached boolean, last_calculated_at timestamptz)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', p_owner)::text, true);
    RETURN QUERY SELECT * FROM get_user_storage_usage();
    PERFORM set_config('request.jwt.claims', '', true);
END $$;
CREATE VIEW held AS
SELECT p.owner, g.total_bytes, g.file_count, g.is_cached, t.bytes, t.files,
       g.total_bytes = least(coalesce(t.bytes, 0), 9223372036854775807) AND g.file_count = coalesce(t.files, 0)
       AND (g.buckets = coalesce(t.buckets, '{}') OR coalesce(t.bytes, 0) > 9223372036854775807) AS agrees
FROM person p CROSS JOIN LATERAL ask(p.owner) g LEFT JOIN truth t ON t.owner = p.owner;
-- In one statement, so under one snapshot: who disagrees with the truth (nobody), and whose usage was not read but added up.
CREATE VIEW verdict AS
SELECT count(*) AS people, sum(files)::bigint AS files, string_agg(owner, ', ') FILTER (WHERE NOT agrees) AS wrong,
       count(*) FILTER (WHERE NOT is_cached) AS added_up
FROM held;
-- The same of one user, as the only thing that a trigger may ask for.
CREATE FUNCTION agrees(p_owner text) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT CASE WHEN agrees THEN 'right' ELSE 'wrong' END || CASE WHEN is_cached THEN ', read' ELSE ', added up' END FROM held WHERE owner = p_owner $$;

-- Nothing is counted yet.
SELECT * FROM get_user_storage_usage(u(1));
SELECT disable_storage_usage_cache();
SELECT enable_storage_usage_cache('objects');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'objects'::regclass AND NOT tgisinternal ORDER BY 1;
-- Again: nothing changes.
SELECT enable_storage_usage_cache('objects');
-- Until it is computed for everybody, each is added up.
BEGIN READ ONLY;
SELECT people, files, wrong FROM verdict;
COMMIT;
SELECT refresh_storage_usage_cache();
TABLE verdict;
SELECT total_bytes, file_count, buckets FROM get_user_storage_usage(u(1));

-- Inserts: of one, of many, by one statement for several people and buckets, without owner, without a size, with sizes that are none.
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'one', u(1)::text, size(1000));
TABLE verdict;
INSERT INTO objects (bucket_id, name, owner, owner_id, metadata) SELECT 'b', 'many/' || n, u(n % 5), u(n % 3)::text, size(n) FROM generate_series(1, 1000) n;
TABLE verdict;
INSERT INTO objects (bucket_id, name, metadata) VALUES ('a', 'nobody''s', size(5));
INSERT INTO objects (bucket_id, name, owner, metadata) VALUES ('a', 'no metadata', u(1), NULL);
INSERT INTO objects (bucket_id, name, owner_id, metadata)
SELECT 'say "hi", ü', 'odd/' || n, CASE n % 2 WHEN 0 THEN 'auth0|ü "x"' ELSE 'no uuid' END, m
FROM unnest(ARRAY['{}', '[]', '["size"]', '[{"size": 7}]', '7', '"size"', 'null', 'true', '{"size": null}', '{"size": true}', '{"size": {}}',
    '{"size": [1]}', '{"size": "17"}', '{"size": "017"}', '{"size": " 17"}', '{"size": "17 "}', '{"size": "+17"}', '{"size": "-17"}', '{"size": -17}',
    '{"size": 1.5}', '{"size": 1.0}', '{"size": "1.00"}', '{"size": "1."}', '{"size": ".5"}', '{"size": 1e3}', '{"size": "1e3"}', '{"size": ""}',
    '{"size": "x"}', '{"size": 1e400}', '{"size": 9223372036854775808}', '{"size": "99999999999999999999999"}', '{"contentLength": 9}',
    '{"size": 3, "size": 4}', '{"Size": 9}', '{"a": {"size": 9}}']::jsonb[]) WITH ORDINALITY x (m, n);
TABLE verdict;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES (NULL, 'in no bucket', u(2)::text, size(3));
-- Larger together than a bigint.
INSERT INTO objects (bucket_id, name, owner_id, metadata) SELECT 'a', 'huge/' || n, u(6)::text, size(9223372036854775807) FROM generate_series(1, 3) n;
SELECT total_bytes, file_count FROM get_user_storage_usage(u(6));
TABLE verdict;
DELETE FROM objects WHERE name IN ('huge/1', 'huge/2');
SELECT total_bytes, file_count FROM get_user_storage_usage(u(6));
-- Metadata that is stored elsewhere, compressed and not.
ALTER TABLE objects ALTER metadata SET STORAGE EXTERNAL;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'large', u(2)::text, size(77) || jsonb_build_object('x', repeat('0123456789', 5000)));
ALTER TABLE objects ALTER metadata SET STORAGE EXTENDED;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'compressed', u(2)::text, size(78) || jsonb_build_object('x', repeat('x', 5000)));
UPDATE objects SET bucket_id = 'b' WHERE name IN ('large', 'compressed');
SELECT refresh_storage_usage_cache();
TABLE verdict;

-- As the service uploads: an upsert that inserts, one that replaces, with a larger, a smaller, the same size.
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'up', u(1)::text, size(10)) ON CONFLICT (bucket_id, name) DO UPDATE SET metadata = excluded.metadata, owner_id = excluded.owner_id;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'up', u(1)::text, size(500)) ON CONFLICT (bucket_id, name) DO UPDATE SET metadata = excluded.metadata, owner_id = excluded.owner_id;
TABLE verdict;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'up', u(2)::text, size(5)) ON CONFLICT (bucket_id, name) DO UPDATE SET metadata = excluded.metadata, owner_id = excluded.owner_id RETURNING name;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'up', u(2)::text, size(5)) ON CONFLICT DO NOTHING;
TABLE verdict;
-- A move within a bucket, to another, of another's; an update of nothing that counts; a change of owner, to nobody and back; a copy.
UPDATE objects SET name = 'moved' WHERE name = 'up';
UPDATE objects SET bucket_id = 'b', name = 'moved/again' WHERE name = 'moved';
UPDATE objects SET last_accessed_at = now();
TABLE verdict;
UPDATE objects SET owner_id = u(3)::text WHERE owner_id = u(2)::text;
TABLE verdict;
UPDATE objects SET owner_id = NULL, owner = NULL WHERE owner_id = u(3)::text AND name LIKE 'many/%';
TABLE verdict;
INSERT INTO objects (bucket_id, name, owner_id, metadata) SELECT 'a', 'copy/' || name, u(4)::text, metadata FROM objects WHERE name LIKE 'many/1%';
TABLE verdict;
-- Deletes: one, many, by a cascade.
DELETE FROM objects WHERE name = 'moved/again';
DELETE FROM objects WHERE name LIKE 'copy/%1';
DELETE FROM bucket WHERE id = 'say "hi", ü';
TABLE verdict;
-- COPY, MERGE, statements with several writes.
COPY objects (bucket_id, name, owner_id, metadata) FROM stdin;
a	c/1	no uuid	{"size": 11}
b	c/2	00000000-0000-4000-8000-000000000005	{"size": "12"}
\N	c/3	00000000-0000-4000-8000-000000000005	\N
\.
MERGE INTO objects o USING (VALUES ('c/1', 100), ('c/2', 0), ('c/4', 4)) v (name, bytes) ON o.name = v.name
WHEN MATCHED AND v.bytes = 0 THEN DELETE
WHEN MATCHED THEN UPDATE SET metadata = size(v.bytes)
WHEN NOT MATCHED THEN INSERT (bucket_id, name, owner_id, metadata) VALUES ('a', v.name, u(5)::text, size(v.bytes));
WITH gone AS (DELETE FROM objects WHERE name = 'c/1' RETURNING *), bigger AS (UPDATE objects SET metadata = size(9) WHERE name = 'c/4')
INSERT INTO objects (bucket_id, name, owner_id, metadata) SELECT 'b', 'w/' || name, owner_id, metadata FROM gone;
TABLE verdict;

-- Within a transaction: right at once, whatever is rolled back.
BEGIN;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 't/1', u(1)::text, size(1));
TABLE verdict;
SAVEPOINT probe;
-- A permission probe: its triggers fire, and it is rolled back.
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'probe', u(1)::text, '{}');
TABLE verdict;
ROLLBACK TO probe;
TABLE verdict;
UPDATE objects SET metadata = size(2) WHERE name = 't/1';
SAVEPOINT inner_one;
DELETE FROM objects WHERE name = 't/1';
SAVEPOINT inner_two;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('b', 't/2', u(2)::text, size(100));
RELEASE inner_two;
TABLE verdict;
ROLLBACK TO inner_one;
TABLE verdict;
RELEASE inner_one;
TABLE verdict;
COMMIT;
TABLE verdict;
BEGIN;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 't/3', u(1)::text, size(1));
ROLLBACK;
TABLE verdict;
DO $$ BEGIN
    FOR n IN 1 .. 300 LOOP
        BEGIN
            INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'loop/' || n, u(n % 7)::text, size(n));
            IF n % 3 = 0 THEN RAISE division_by_zero; END IF;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END;
    END LOOP;
END $$;
TABLE verdict;
-- However many statements: what they changed is written down once for each owner and bucket, at the end.
SELECT count(*) < 20 AS few FROM cache_ext_internal.storage_deltas WHERE xmin = (SELECT xmin FROM cache_ext_internal.storage_deltas ORDER BY changed_at DESC LIMIT 1);

-- A cursor sees the usage of its own time.
BEGIN;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'cur/1', u(1)::text, size(1));
DECLARE early CURSOR FOR TABLE verdict;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'cur/2', u(1)::text, size(1));
DECLARE late CURSOR FOR SELECT files, wrong FROM verdict;
DELETE FROM objects WHERE name LIKE 'cur/%';
FETCH late;
SELECT files, wrong FROM verdict;
ROLLBACK;
BEGIN;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'cur/1', u(1)::text, size(1));
DECLARE early CURSOR FOR SELECT files, wrong FROM verdict;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'cur/2', u(1)::text, size(1));
FETCH early;
CLOSE early;
COMMIT;

-- TRUNCATE, rolled back, in a savepoint, among other writes, and for good.
BEGIN;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'tr/1', u(1)::text, size(1));
SAVEPOINT s;
TRUNCATE objects;
TABLE verdict;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'tr/2', u(1)::text, size(2));
TABLE verdict;
ROLLBACK TO s;
TABLE verdict;
SAVEPOINT s;
TRUNCATE objects;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'tr/3', u(1)::text, size(3));
RELEASE s;
TABLE verdict;
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'tr/4', u(2)::text, size(4));
TABLE verdict;
COMMIT;
TABLE verdict;
TRUNCATE objects;
TABLE verdict;
INSERT INTO objects (bucket_id, name, owner_id, metadata) SELECT 'a', 'again/' || n, u(n % 4)::text, size(n) FROM generate_series(1, 100) n;
TABLE verdict;

-- Triggers of others ask in the midst of a statement.
CREATE FUNCTION quota() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE NOTICE '% % %: %', TG_WHEN, TG_LEVEL, TG_OP, agrees(u(1)::text);
    RETURN coalesce(NEW, OLD);
END $$;
CREATE TRIGGER before_statement BEFORE INSERT OR UPDATE OR DELETE ON objects FOR EACH STATEMENT EXECUTE FUNCTION quota();
CREATE TRIGGER before_row BEFORE INSERT OR UPDATE OR DELETE ON objects FOR EACH ROW EXECUTE FUNCTION quota();
CREATE TRIGGER after_row AFTER INSERT OR UPDATE OR DELETE ON objects FOR EACH ROW EXECUTE FUNCTION quota();
CREATE TRIGGER after_statement AFTER INSERT OR UPDATE OR DELETE ON objects FOR EACH STATEMENT EXECUTE FUNCTION quota();
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'q/1', u(1)::text, size(1));
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('a', 'q/2', u(1)::text, size(2)), ('b', 'q/3', u(1)::text, size(3));
UPDATE objects SET metadata = size(10) WHERE name LIKE 'q/%';
DELETE FROM objects WHERE name IN ('q/1', 'q/2');
INSERT INTO objects (bucket_id, name, owner_id, metadata) VALUES ('b', 'q/3', u(1)::text, size(4)) ON CONFLICT (bucket_id, name) DO UPDATE SET metadata = excluded.metadata
RETURNING (SELECT (total_bytes, file_count) = (SELECT bytes, files FROM truth WHERE owner = u(1)::text) FROM get_user_storage_usage(u(1))) AS agrees;
DROP TRIGGER before_statement ON objects;
DROP TRIGGER before_row ON objects;
DROP TRIGGER after_row ON objects;
DROP TRIGGER after_statement ON objects;
TABLE verdict;

-- What is computed anew is what was counted: nothing is logged as wrong.
CREATE TEMP TABLE counted AS SELECT owner, bucket, sum(bytes) AS bytes, sum(files) AS files
FROM (SELECT owner, bucket, bytes, files FROM cache_ext_internal.storage_totals UNION ALL SELECT owner, bucket, bytes, files FROM cache_ext_internal.storage_deltas) s
GROUP BY 1, 2;
SELECT refresh_storage_usage_cache();
SELECT c.* FROM counted c FULL JOIN (SELECT owner, bucket, sum(bytes) AS bytes, sum(files) AS files
FROM (SELECT owner, bucket, bytes, files FROM cache_ext_internal.storage_totals UNION ALL SELECT owner, bucket, bytes, files FROM cache_ext_internal.storage_deltas) s
GROUP BY 1, 2) n USING (owner, bucket) WHERE (c.bytes, c.files) IS DISTINCT FROM (n.bytes, n.files);
TABLE verdict;

DROP SCHEMA files CASCADE;
DROP TABLE storage_usage;
DROP EXTENSION cache_ext;
