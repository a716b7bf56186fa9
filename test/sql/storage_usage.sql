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
CREATE FUNCTION ask(p_owner text, OUT usage record) LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_owner LIKE '00000000-%' THEN
        usage := get_user_storage_usage(p_owner::uuid);
    ELSE
        PERFORM set_config('request.jwt.claims', jsonb_build_object('sub', p_owner)::text, true);
        usage := get_user_storage_usage();
        PERFORM set_config('request.jwt.claims', '', true);
    END IF;
END $$;
CREATE VIEW held AS
SELECT p.owner, g.total_bytes, g.file_count, g.buckets, g.is_cached, t.bytes, t.files, t.buckets AS true_buckets,
       g.total_bytes = least(coalesce(t.bytes, 0), 9223372036854775807) AND g.file_count = coalesce(t.files, 0)
       AND (g.buckets = coalesce(t.buckets, '{}') OR coalesce(t.bytes, 0) > 9223372036854775807) AS agrees
FROM person p CROSS JOIN LATERAL ask(p.owner) a (usage)
CROSS JOIN LATERAL (SELECT * FROM ask(p.owner) AS r (user_id uuid, total_bytes bigint, file_count bigint, buckets jsonb, is_cached boolean, last_calculated_at timestamptz)) g
LEFT JOIN truth t ON t.owner = p.owner;
