-- Who may do what. Nothing goes to PUBLIC, and what default privileges have just granted is taken back: on Supabase they give
-- everything that is created in public to the API roles. May be run again at any time.

DO $$
DECLARE
    -- What authenticated may execute beside service_role.
    everyday CONSTANT text[] := ARRAY[
        'get_cached_data', 'get_cached_many', 'get_cached_entry', 'cache_exists', 'set_cached_data', 'add_cached_data',
        'update_cache_hit_count', 'make_cache_key', 'invalidate_cache_key', 'invalidate_cache_by_tags',
        'invalidate_cache_by_pattern', 'expire_cache_by_tags', 'explain_invalidation',
        'get_user_storage_usage', 'refresh_storage_usage_cache', 'invalidate_storage_usage_cache', 'get_storage_cache_stats',
        'calculate_storage_usage', 'refresh_storage_cache', 'clear_storage_cache', 'storage_cache_stats',
        'list_storage_objects', 'create_signed_storage_url', 'create_signed_upload_url', 'get_public_storage_url'];
    -- Internal functions under what authenticated may read: the reader of a view executes its functions, but cannot name them.
    under_views CONSTANT text[] := ARRAY['entries', 'dependencies', 'storage_caller_is_known'];
    -- Likewise under what only service_role may read.
    under_administration CONSTANT text[] := ARRAY['underneath', 'function_counts', 'trigger_arguments', 'redis_status'];
    -- Triggers that are made in the caller's place, and believed.
    made_for_others CONSTANT text[] := ARRAY['handle_storage_change'];
    object record;
    grantee text;
    privilege text;
BEGIN
    FOR object IN
        WITH members AS (
            SELECT d.classid, d.objid
            FROM pg_catalog.pg_depend d
            JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
            WHERE e.extname = 'cache_ext' AND d.deptype = 'e'
        ), things AS (
            SELECT m.classid, m.objid, 'ROUTINE' AS kind, p.proname AS name, p.pronamespace AS schema, p.proowner AS owner,
                   coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner)) AS acl
            FROM members m JOIN pg_catalog.pg_proc p ON m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND m.objid = p.oid
            UNION ALL
            SELECT m.classid, m.objid, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.relname, c.relnamespace, c.relowner, c.relacl
            FROM members m JOIN pg_catalog.pg_class c ON m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND m.objid = c.oid
            WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S')
            UNION ALL
            SELECT m.classid, m.objid, 'LANGUAGE', l.lanname, NULL, l.lanowner, coalesce(l.lanacl, pg_catalog.acldefault('l', l.lanowner))
            FROM members m JOIN pg_catalog.pg_language l ON m.classid = 'pg_catalog.pg_language'::pg_catalog.regclass AND m.objid = l.oid
            UNION ALL
            SELECT m.classid, m.objid, 'SCHEMA', n.nspname, n.oid, n.nspowner, n.nspacl
            FROM members m JOIN pg_catalog.pg_namespace n ON m.classid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND m.objid = n.oid
        )
        SELECT t.*, i.identity, t.schema IS NOT DISTINCT FROM 'cache_ext_internal'::pg_catalog.regnamespace AS internal
        FROM things t CROSS JOIN LATERAL pg_catalog.pg_identify_object(t.classid, t.objid, 0) i
        ORDER BY i.identity
    LOOP
        FOR grantee IN
            SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
            FROM pg_catalog.aclexplode(object.acl) a WHERE a.grantee <> object.owner
        LOOP
            EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', object.kind, object.identity, grantee);
        END LOOP;

        FOR grantee IN SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname IN ('authenticated', 'service_role') LOOP
            privilege := CASE
                WHEN object.kind = 'LANGUAGE' THEN CASE grantee WHEN 'service_role' THEN 'USAGE' END
                WHEN object.internal THEN
                    CASE WHEN object.kind = 'ROUTINE' AND (object.name = ANY (under_views)
                        OR grantee = 'service_role' AND object.name = ANY (under_administration)) THEN 'EXECUTE' END
                WHEN object.kind = 'ROUTINE' THEN
                    CASE WHEN object.name <> ALL (made_for_others) AND (grantee = 'service_role' OR object.name = ANY (everyday)) THEN 'EXECUTE' END
                WHEN object.kind = 'TABLE' AND object.name = 'query_cache' THEN
                    CASE grantee WHEN 'service_role' THEN 'SELECT, DELETE' ELSE 'SELECT' END
                WHEN object.kind = 'TABLE' AND object.name = 'cache_dependencies' THEN 'SELECT'
                WHEN object.kind = 'TABLE' THEN
                    CASE grantee WHEN 'service_role' THEN 'SELECT' END
            END;
            IF privilege IS NOT NULL THEN
                EXECUTE pg_catalog.format('GRANT %s ON %s %s TO %I', privilege, object.kind, object.identity, grantee);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
