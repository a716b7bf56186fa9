-- Listings of the objects of a Supabase storage service.

CREATE FUNCTION list_storage_objects(p_bucket text, p_prefix text DEFAULT '', p_limit integer DEFAULT 100, p_offset integer DEFAULT 0)
RETURNS TABLE (name text, id uuid, updated_at timestamptz, created_at timestamptz, last_accessed_at timestamptz, metadata jsonb)
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 100 AS 'MODULE_PATHNAME', 'list_storage_objects';
COMMENT ON FUNCTION list_storage_objects(text, text, integer, integer) IS
    'the objects of a bucket whose names begin with a prefix and that row security shows the caller, by name, a page of them; cached until an object in that folder changes';
