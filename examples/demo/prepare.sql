-- After loading: indexes, and the triggers that keep the cache coherent.

ALTER TABLE packages ADD PRIMARY KEY (name);
CREATE INDEX ON dependencies (package);
CREATE UNIQUE INDEX ON storage.objects (bucket_id, name);
INSERT INTO storage.buckets SELECT DISTINCT bucket_id, bucket_id FROM storage.objects;
ALTER TABLE storage.objects ADD FOREIGN KEY (bucket_id) REFERENCES storage.buckets;
VACUUM ANALYZE packages, dependencies, storage.objects;

-- A statement that writes a table invalidates what carries the table's tag, once, however many rows it writes.
CREATE TRIGGER cache_packages AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON packages
FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('packages');

CREATE TRIGGER cache_dependencies AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dependencies
FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('dependencies');

CREATE TRIGGER cache_objects AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON storage.objects
FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('objects');

-- And each row that is written invalidates what concerns its owner, and nobody else.
CREATE TRIGGER cache_owner AFTER INSERT OR UPDATE OR DELETE ON storage.objects
FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('owner:{owner_id}');
