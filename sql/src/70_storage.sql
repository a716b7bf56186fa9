-- Storage usage.

-- The application's table of usage; the table of objects is the one with the triggers. Dumped with them; what is computed is not.
CREATE TABLE cache_ext_internal.storage_settings (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    usage_schema text NOT NULL,
    usage_table text NOT NULL
);
COMMENT ON TABLE cache_ext_internal.storage_settings IS 'which table the application reads the usage in, while it is counted';
SELECT pg_catalog.pg_extension_config_dump('cache_ext_internal.storage_settings', '');

-- Kept as heaps whatever the default is: rows are put straight into them. Whoever writes them needs no lock but the usual; to give a file's end back, vacuum would take one that stands in the way.
-- Rows that have no key are their own replica identity: where all tables are published, the server refuses to delete rows that have none.
CREATE TABLE cache_ext_internal.storage_totals (
    owner text COLLATE "C" NOT NULL,
    bucket text COLLATE "C" NOT NULL,
    bytes numeric NOT NULL,
    files bigint NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (owner, bucket)
) USING heap WITH (vacuum_truncate = off);
COMMENT ON TABLE cache_ext_internal.storage_totals IS 'usage by owner and bucket, without what is in storage_deltas';

CREATE TABLE cache_ext_internal.storage_deltas (
    owner text COLLATE "C" NOT NULL,
    bucket text COLLATE "C" NOT NULL,
    bytes bigint NOT NULL,
    files bigint NOT NULL,
    changed_at timestamptz NOT NULL
) USING heap WITH (vacuum_truncate = off);
CREATE INDEX storage_deltas_owner ON cache_ext_internal.storage_deltas (owner);
ALTER TABLE cache_ext_internal.storage_deltas REPLICA IDENTITY FULL;
COMMENT ON TABLE cache_ext_internal.storage_deltas IS 'what transactions have changed since it was last folded into storage_totals';

CREATE TABLE cache_ext_internal.storage_marks (
    owner text COLLATE "C",
    reason text NOT NULL,
    marked_at timestamptz NOT NULL
) USING heap WITH (vacuum_truncate = off);
CREATE INDEX storage_marks_owner ON cache_ext_internal.storage_marks (owner);
ALTER TABLE cache_ext_internal.storage_marks REPLICA IDENTITY FULL;
COMMENT ON TABLE cache_ext_internal.storage_marks IS 'whose usage has to be computed anew';
COMMENT ON COLUMN cache_ext_internal.storage_marks.owner IS 'null: everybody''s';

CREATE TABLE cache_ext_internal.storage_state (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    populated_at timestamptz NOT NULL,
    covers xid8 NOT NULL,
    fingerprint bigint NOT NULL
) USING heap WITH (vacuum_truncate = off);
COMMENT ON TABLE cache_ext_internal.storage_state IS 'when usage was computed for everybody; no row: it has not been';
COMMENT ON COLUMN cache_ext_internal.storage_state.covers IS 'all transactions below this id had ended by then';
COMMENT ON COLUMN cache_ext_internal.storage_state.fingerprint IS 'the definitions of table and triggers under which it was';

CREATE FUNCTION cache_ext_internal.storage_object_size(p_metadata jsonb)
RETURNS bigint LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'storage_object_size';
COMMENT ON FUNCTION cache_ext_internal.storage_object_size(jsonb) IS 'the size that an object''s metadata gives, as usage counts it; 0 if it gives none';

CREATE FUNCTION handle_storage_change()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'handle_storage_change';
COMMENT ON FUNCTION handle_storage_change() IS 'trigger that counts the objects of users, made by enable_storage_usage_cache';

CREATE FUNCTION enable_storage_usage_cache(p_objects regclass DEFAULT pg_catalog.to_regclass('storage.objects'))
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'enable_storage_usage_cache';
COMMENT ON FUNCTION enable_storage_usage_cache(regclass) IS
    'from now on counts what each user stores in this table, and writes it into the application''s table storage_usage, which is made if there is none';

CREATE FUNCTION disable_storage_usage_cache()
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'disable_storage_usage_cache';
COMMENT ON FUNCTION disable_storage_usage_cache() IS 'stops counting what users store; whether it was counted. The table storage_usage stays';

CREATE FUNCTION get_user_storage_usage(
    p_user_id uuid DEFAULT NULL,
    OUT user_id uuid, OUT total_bytes bigint, OUT file_count bigint, OUT buckets jsonb, OUT is_cached boolean,
    OUT last_calculated_at timestamptz)
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'get_user_storage_usage';
COMMENT ON FUNCTION get_user_storage_usage(uuid) IS
    'what a user (the caller, if null) stores: exactly what the sum over the table of objects would say at this moment';

CREATE FUNCTION refresh_storage_usage_cache(p_user_id uuid DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'refresh_storage_usage_cache';
COMMENT ON FUNCTION refresh_storage_usage_cache(uuid) IS
    'computes a user''s usage anew, the caller''s if null, everybody''s for a shared caller who is no user; a difference is logged';

CREATE FUNCTION invalidate_storage_usage_cache(p_user_id uuid DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'invalidate_storage_usage_cache';
COMMENT ON FUNCTION invalidate_storage_usage_cache(uuid) IS
    'forgets a user''s usage, the caller''s if null, everybody''s for a shared caller who is no user: the next read computes it anew';

CREATE FUNCTION get_storage_cache_stats(
    p_user_id uuid DEFAULT NULL,
    OUT user_id uuid, OUT cache_status text, OUT last_calculated_at timestamptz, OUT cache_age_minutes double precision,
    OUT is_stale boolean, OUT total_bytes bigint, OUT file_count bigint, OUT hit_count bigint)
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'get_storage_cache_stats';
COMMENT ON FUNCTION get_storage_cache_stats(uuid) IS
    'how a user''s usage (the caller''s, if null) is kept: cached, stale (the next read computes it) or none';

-- For remote procedure calls of a user about the own storage.
CREATE FUNCTION cache_ext_internal.storage_caller_is_known()
RETURNS boolean LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'storage_caller_is_known';
COMMENT ON FUNCTION cache_ext_internal.storage_caller_is_known() IS 'true, or an error where the caller is no user';

CREATE FUNCTION calculate_storage_usage()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN CASE WHEN cache_ext_internal.storage_caller_is_known()
            THEN (SELECT pg_catalog.to_jsonb(u) FROM get_user_storage_usage() u) END;
COMMENT ON FUNCTION calculate_storage_usage() IS 'what the caller stores, as an object';

CREATE FUNCTION refresh_storage_cache()
RETURNS jsonb LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT CASE WHEN cache_ext_internal.storage_caller_is_known() THEN refresh_storage_usage_cache() END;
    SELECT pg_catalog.to_jsonb(u) FROM get_user_storage_usage() u;
END;
COMMENT ON FUNCTION refresh_storage_cache() IS 'computes anew what the caller stores, and returns it';

CREATE FUNCTION clear_storage_cache()
RETURNS jsonb LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT CASE WHEN cache_ext_internal.storage_caller_is_known() THEN invalidate_storage_usage_cache() END;
    SELECT pg_catalog.jsonb_build_object('success', true);
END;
COMMENT ON FUNCTION clear_storage_cache() IS 'forgets what the caller stores: the next read computes it anew';

CREATE FUNCTION storage_cache_stats()
RETURNS jsonb LANGUAGE sql STABLE PARALLEL RESTRICTED
RETURN CASE WHEN cache_ext_internal.storage_caller_is_known()
            THEN (SELECT pg_catalog.to_jsonb(s) FROM get_storage_cache_stats() s) END;
COMMENT ON FUNCTION storage_cache_stats() IS 'how the caller''s usage is kept, as an object';
