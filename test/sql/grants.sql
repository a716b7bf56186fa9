-- Who may do what, where default privileges give everything in public to the API roles, as on Supabase.
SET client_min_messages = warning;
CREATE ROLE anon NOLOGIN;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE ROLE authenticator NOINHERIT;
GRANT anon, authenticated, service_role TO authenticator;
CREATE ROLE regress_bystander NOLOGIN;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated, service_role, regress_bystander;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON FUNCTIONS TO anon, authenticated, service_role, regress_bystander;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON SEQUENCES TO anon, authenticated, service_role, regress_bystander;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon, regress_bystander;
CREATE EXTENSION cache_ext SCHEMA public;

CREATE TEMP VIEW members AS
SELECT d.classid, d.objid, p.proname::text AS name, p.pronamespace AS schema, 'function' AS kind
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
WHERE e.extname = 'cache_ext'
UNION ALL
SELECT d.classid, d.objid, c.relname::text, c.relnamespace, CASE c.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END
FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
JOIN pg_class c ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
WHERE e.extname = 'cache_ext';
CREATE TEMP VIEW internal AS SELECT * FROM members WHERE schema = 'cache_ext_internal'::regnamespace;
CREATE TEMP VIEW offered AS SELECT * FROM members WHERE schema <> 'cache_ext_internal'::regnamespace;

-- Nobody who is not named has anything: none of these returns a row.
SELECT r.rolname, m.kind, m.name
FROM members m, pg_roles r
WHERE r.rolname IN ('anon', 'authenticator', 'regress_bystander')
  AND CASE m.kind WHEN 'function' THEN has_function_privilege(r.oid, m.objid, 'EXECUTE')
                  WHEN 'table' THEN has_table_privilege(r.oid, m.objid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                  ELSE has_sequence_privilege(r.oid, m.objid, 'USAGE, SELECT, UPDATE') END;
SELECT p.proname FROM pg_proc p JOIN members m ON m.kind = 'function' AND m.objid = p.oid, aclexplode(p.proacl) a WHERE a.grantee = 0;
SELECT r.rolname FROM pg_roles r
WHERE r.rolname IN ('anon', 'authenticated', 'service_role', 'authenticator', 'regress_bystander')
  AND has_schema_privilege(r.oid, 'cache_ext_internal', 'USAGE, CREATE');

-- What authenticated may execute and read.
SELECT name FROM offered WHERE kind = 'function' AND has_function_privilege('authenticated', objid, 'EXECUTE') ORDER BY 1;
SELECT name, p.privilege FROM offered, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p (privilege)
WHERE kind = 'table' AND has_table_privilege('authenticated', objid, p.privilege) ORDER BY 1, 2;

-- service_role may execute all that is offered, and read all views; beyond reading it only deletes from query_cache.
SELECT name FROM offered WHERE kind = 'function' AND NOT has_function_privilege('service_role', objid, 'EXECUTE');
SELECT name FROM offered WHERE kind = 'table' AND NOT has_table_privilege('service_role', objid, 'SELECT');
SELECT name, p.privilege FROM offered, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'TRIGGER']) AS p (privilege)
WHERE kind = 'table' AND has_table_privilege('service_role', objid, p.privilege) ORDER BY 1, 2;

-- Of what is internal both have only the function under the view.
SELECT r.rolname, i.name FROM internal i, pg_roles r
WHERE r.rolname IN ('authenticated', 'service_role') AND i.kind = 'function' AND has_function_privilege(r.oid, i.objid, 'EXECUTE') ORDER BY 1, 2;
SELECT r.rolname, i.name FROM internal i, pg_roles r
WHERE r.rolname IN ('authenticated', 'service_role') AND i.kind = 'table'
  AND has_table_privilege(r.oid, i.objid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER');

-- And so it is when they try.
SET ROLE anon;
SELECT get_cached_data('k');
SELECT set_cached_data('k', '1');
SELECT * FROM query_cache;
SELECT * FROM cache_policies;
SET ROLE authenticated;
SELECT get_cached_data('k');
SELECT set_cached_data('k', '1');
SELECT cache_key, cache_data FROM query_cache;
DELETE FROM query_cache;
SELECT * FROM cache_policies;
SELECT set_cache_policy('p:');
SELECT drop_cache_policy('p:');
SELECT total_entries FROM get_cache_metrics();
SELECT get_cache_stats();
SELECT * FROM get_top_cache_entries();
SELECT reset_cache_stats();
SELECT emergency_clear_cache(current_database());
SELECT * FROM cache_ext_internal.entries(true);
SELECT * FROM cache_ext_internal.policies;
INSERT INTO cache_ext_internal.policies (prefix) VALUES ('p:');
SELECT * FROM cache_ext_internal.identity;
-- A view of one's own does not get at the trigger under query_cache.
SET ROLE authenticated;
CREATE TEMP VIEW mine AS SELECT 'k'::text AS cache_key;
CREATE TRIGGER t INSTEAD OF DELETE ON mine FOR EACH ROW EXECUTE FUNCTION cache_ext_internal.delete_entry();
SET ROLE service_role;
SELECT cache_key, cache_data, left(scope, 8) AS scope FROM query_cache;
DELETE FROM query_cache;
SELECT set_cache_policy('p:');
SELECT prefix FROM cache_policies;
SELECT total_entries FROM get_cache_metrics();
SELECT get_cache_stats() ? 'total_entries';
SELECT * FROM get_top_cache_entries();
SELECT reset_cache_stats();
SELECT emergency_clear_cache(current_database());
RESET ROLE;

-- Every object says what it is, and every function whether it may run in parallel and on null.
SELECT m.kind, m.name FROM members m WHERE obj_description(m.objid, m.classid::regclass::name) IS NULL AND m.kind <> 'sequence';
SELECT p.proname FROM pg_proc p JOIN members m ON m.kind = 'function' AND m.objid = p.oid WHERE p.proisstrict;
-- A body in SQL or PL/pgSQL is parsed at once or has a search_path of its own.
SELECT p.proname FROM pg_proc p JOIN members m ON m.kind = 'function' AND m.objid = p.oid JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname <> 'c' AND p.prosqlbody IS NULL AND NOT coalesce(p.proconfig::text LIKE '%search_path=%', false);
-- What is SECURITY DEFINER is only for those who administer.
SELECT p.proname FROM pg_proc p JOIN members m ON m.kind = 'function' AND m.objid = p.oid
WHERE p.prosecdef AND (has_function_privilege('authenticated', p.oid, 'EXECUTE') OR p.proconfig IS NULL);

DROP VIEW members CASCADE;
DROP EXTENSION cache_ext;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM anon, authenticated, service_role, regress_bystander;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON FUNCTIONS FROM anon, authenticated, service_role, regress_bystander;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON SEQUENCES FROM anon, authenticated, service_role, regress_bystander;
ALTER DEFAULT PRIVILEGES REVOKE ALL ON SCHEMAS FROM anon, regress_bystander;

-- Where the roles do not exist nobody but the owner has anything, wherever it is installed.
DROP OWNED BY anon, authenticated, service_role, authenticator, regress_bystander;
DROP ROLE authenticator, anon, authenticated, service_role;
CREATE SCHEMA cache;
CREATE EXTENSION cache_ext SCHEMA cache;
SELECT p.proname, a.grantee = 0 AS public FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
WHERE p.pronamespace IN ('cache'::regnamespace, 'cache_ext_internal'::regnamespace) AND a.grantee <> p.proowner;
SELECT cache.set_cached_data('k', '1');
SELECT cache_key FROM cache.query_cache;
DROP EXTENSION cache_ext;
DROP SCHEMA cache;
DROP ROLE regress_bystander;
