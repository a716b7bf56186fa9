-- Who may do what. Nothing goes to PUBLIC, and what default privileges have just granted is taken back: on Supabase they give
-- everything that is created in public to the API roles.

DO $$
DECLARE
    object record;
    everyday CONSTANT text[] := ARRAY[
        'get_cached_data', 'get_cached_many', 'get_cached_entry', 'cache_exists', 'set_cached_data', 'add_cached_data',
        'update_cache_hit_count', 'make_cache_key', 'invalidate_cache_key', 'invalidate_cache_by_tags',
        'invalidate_cache_by_pattern', 'expire_cache_by_tags'];
    grantee text;
BEGIN
    FOR object IN
        SELECT CASE d.classid WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN 'FUNCTION'
                              WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN 'TABLE' END AS kind,
               i.identity, p.proname AS function, c.relname AS relation,
               coalesce(p.proacl, c.relacl, pg_catalog.acldefault('f', p.proowner)) AS acl, coalesce(p.proowner, c.relowner) AS owner,
               coalesce(p.pronamespace, c.relnamespace) = 'cache_ext_internal'::pg_catalog.regnamespace AS internal
        FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = e.oid
        LEFT JOIN pg_catalog.pg_proc p ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = d.objid
        LEFT JOIN pg_catalog.pg_class c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.objid AND c.relkind IN ('r', 'v', 'S')
        CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) i
        WHERE e.extname = 'cache_ext' AND (p.oid IS NOT NULL OR c.oid IS NOT NULL)
    LOOP
        FOR grantee IN
            SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
            FROM pg_catalog.aclexplode(object.acl) a WHERE a.grantee <> object.owner
        LOOP
            EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', object.kind, object.identity, grantee);
        END LOOP;

        IF object.internal THEN
            CONTINUE;
        END IF;
        FOR grantee IN SELECT r.rolname FROM pg_catalog.pg_roles r WHERE r.rolname IN ('authenticated', 'service_role') LOOP
            IF object.kind = 'FUNCTION' AND (grantee = 'service_role' OR object.function = ANY (everyday)) THEN
                EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I', object.identity, grantee);
            ELSIF object.kind = 'TABLE' AND object.relation = 'query_cache' THEN
                EXECUTE pg_catalog.format('GRANT SELECT, DELETE ON TABLE %s TO %I', object.identity, grantee);
            ELSIF object.kind = 'TABLE' AND grantee = 'service_role' THEN
                EXECUTE pg_catalog.format('GRANT SELECT ON TABLE %s TO %I', object.identity, grantee);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
