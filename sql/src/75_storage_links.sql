-- Links to the objects of a Supabase storage service, to be appended to its URL (…/storage/v1).

CREATE FUNCTION create_signed_storage_url(p_bucket text, p_path text, p_expires_in integer)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'create_signed_storage_url';
COMMENT ON FUNCTION create_signed_storage_url(text, text, integer) IS
    'a link with which anybody can download an object until it expires, so many seconds from now; only of an object that row security shows the caller';

CREATE FUNCTION create_signed_upload_url(p_bucket text, p_path text, p_upsert boolean DEFAULT false)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'create_signed_upload_url';
COMMENT ON FUNCTION create_signed_upload_url(text, text, boolean) IS
    'a link with which anybody can upload an object within two hours; only where row security would let the caller insert it, or with p_upsert replace it';

CREATE FUNCTION get_public_storage_url(p_bucket text, p_path text)
RETURNS text LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'get_public_storage_url';
COMMENT ON FUNCTION get_public_storage_url(text, text) IS 'the link of an object in a public bucket; whether there is such an object is not looked at';
