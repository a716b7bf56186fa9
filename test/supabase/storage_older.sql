-- An installation from before owner_id: the columns, indexes and triggers that came with it and later are not there.
ALTER TABLE storage.objects
    DROP COLUMN owner_id, DROP COLUMN user_metadata, DROP COLUMN archived_at, DROP COLUMN is_delete_marker, DROP COLUMN is_versioned;
ALTER TABLE storage.buckets DROP COLUMN owner_id, DROP COLUMN type, DROP COLUMN versioning_status;
DROP TYPE storage.buckettype;
DROP INDEX storage.idx_objects_bucket_id_name, storage.idx_objects_bucket_id_name_lower;
DROP TRIGGER protect_objects_delete ON storage.objects;
DROP TRIGGER protect_buckets_delete ON storage.buckets;
DROP FUNCTION storage.protect_delete(), storage.operation();
