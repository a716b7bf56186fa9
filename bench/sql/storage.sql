-- Storage usage. A table as the storage service has it, of one user's objects: what is read right after an upload against the sum over the table, and what the
-- triggers add to an upload and to a bulk insert, against the same table without them.

CREATE TABLE bench.storage_bucket (id text PRIMARY KEY);
INSERT INTO bench.storage_bucket VALUES ('photos');
CREATE TABLE bench.objects_plain (
    id uuid DEFAULT gen_random_uuid(), bucket_id text, name text, owner uuid, created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now(),
    last_accessed_at timestamptz DEFAULT now(), metadata jsonb, path_tokens text[] GENERATED ALWAYS AS (string_to_array(name, '/')) STORED, version text,
    owner_id text, user_metadata jsonb, archived_at timestamptz, is_delete_marker boolean NOT NULL DEFAULT false, is_versioned boolean NOT NULL DEFAULT false);
CREATE TABLE bench.objects_counted (LIKE bench.objects_plain INCLUDING ALL);
CREATE FUNCTION bench.object_metadata(n bigint) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN jsonb_build_object('eTag', md5(n::text), 'size', n, 'mimetype', 'image/jpeg', 'cacheControl', 'max-age=3600',
                          'lastModified', '2025-01-03T10:00:00.000Z', 'contentLength', n, 'httpStatusCode', 200);
INSERT INTO bench.objects_counted (bucket_id, name, metadata, version, owner_id)
SELECT 'photos', 'user/' || n || '.jpg', bench.object_metadata(n), gen_random_uuid()::text, '00000000-0000-4000-8000-000000000001'
FROM generate_series(1, :objects) n;
INSERT INTO bench.objects_plain (id, bucket_id, name, metadata, version, owner_id)
SELECT id, bucket_id, name, metadata, version, owner_id FROM bench.objects_counted LIMIT 1000000;
CREATE PROCEDURE bench.finish_objects(p_table regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ADD PRIMARY KEY (id), ADD FOREIGN KEY (bucket_id) REFERENCES bench.storage_bucket', p_table);
    EXECUTE format('CREATE UNIQUE INDEX ON %s (bucket_id, name)', p_table);
    EXECUTE format('CREATE INDEX ON %s (name text_pattern_ops)', p_table);
    EXECUTE format('CREATE INDEX ON %s (bucket_id, name COLLATE "C")', p_table);
    EXECUTE format('CREATE INDEX ON %s (bucket_id, (lower(name) COLLATE "C"))', p_table);
END $$;
CALL bench.finish_objects('bench.objects_plain');
CALL bench.finish_objects('bench.objects_counted');
VACUUM (FREEZE, ANALYZE) bench.objects_plain, bench.objects_counted;
SELECT enable_storage_usage_cache('bench.objects_counted');
SELECT refresh_storage_usage_cache();

-- Reads, each right after an upload that is committed.
CREATE PROCEDURE bench.read_usage(rounds integer, reads integer) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    taken double precision;
    counted record;
    truth numeric;
BEGIN
    FOR r IN 0 .. rounds LOOP
        taken := 0;
        FOR i IN 1 .. reads LOOP
            INSERT INTO bench.objects_counted (bucket_id, name, metadata, owner_id)
            VALUES ('photos', format('read/%s/%s', r, i), '{"size": 1000}', '00000000-0000-4000-8000-000000000001');
            COMMIT;
            began := clock_timestamp();
            counted := get_user_storage_usage('00000000-0000-4000-8000-000000000001');
            taken := taken + extract(epoch FROM clock_timestamp() - began) * 1e9;
        END LOOP;
        INSERT INTO bench.timing VALUES ('usage', 'read', r, reads, taken / reads);
        began := clock_timestamp();
        truth := (SELECT sum((metadata ->> 'size')::bigint) FROM bench.objects_counted
                  WHERE coalesce(owner_id, owner::text) = '00000000-0000-4000-8000-000000000001');
        INSERT INTO bench.timing VALUES ('usage', 'sum', r, 1, extract(epoch FROM clock_timestamp() - began) * 1e9);
        IF truth <> counted.total_bytes OR NOT counted.is_cached THEN
            RAISE EXCEPTION 'usage is %, and should be %', counted, truth;
        END IF;
        COMMIT;
    END LOOP;
END $$;
CALL bench.read_usage(least(:rounds, 5), 200);
INSERT INTO bench.figure
SELECT 140, 'usage right after an upload, one user, ' || :objects || ' objects', 'the sum over the table', bench.micros(ours), bench.millis(theirs),
       ours / 1000, 1000, 200, 'µs', false
FROM bench.net('usage', 'read') ours, bench.net('usage', 'sum') theirs;

-- A bulk insert, of other names in each round.
CREATE SEQUENCE bench.bulk;
CREATE PROCEDURE bench.bulk_insert(p_table regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format($q$INSERT INTO %s (bucket_id, name, metadata, version, owner_id)
        SELECT 'photos', 'bulk/%s/' || n || '.jpg', bench.object_metadata(n), 'v', '00000000-0000-4000-8000-000000000001' FROM generate_series(1, 100000) n$q$,
        p_table, nextval('bench.bulk'));
END $$;
CALL bench.race('bulk', ARRAY['plain', 'counted'], ARRAY['CALL bench.bulk_insert(''bench.objects_plain'')', 'CALL bench.bulk_insert(''bench.objects_counted'')'],
    ARRAY[1, 1], :rounds);
INSERT INTO bench.figure
SELECT 142, 'a bulk insert of 100,000 objects that are counted', 'the same without triggers', bench.millis(ours), bench.millis(theirs),
       bench.ratio('bulk', 'counted', 'plain'), 1.1, 1.05, '× the time', false
FROM bench.net('bulk', 'counted') ours, bench.net('bulk', 'plain') theirs;
