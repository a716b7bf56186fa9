-- The roles.
DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('supabase_admin', 'SUPERUSER LOGIN'),
            ('postgres', 'LOGIN CREATEDB CREATEROLE REPLICATION BYPASSRLS'),
            ('anon', 'NOLOGIN NOINHERIT'),
            ('authenticated', 'NOLOGIN NOINHERIT'),
            ('service_role', 'NOLOGIN NOINHERIT BYPASSRLS'),
            ('authenticator', 'LOGIN NOINHERIT'),
            ('supabase_auth_admin', 'LOGIN NOINHERIT CREATEROLE'),
            ('supabase_storage_admin', 'LOGIN NOINHERIT CREATEROLE')) AS r (name, options)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE format('CREATE ROLE %I %s', wanted.name, wanted.options);
        END IF;
    END LOOP;
END
$$;
-- What a role sets for itself counts at login; PostgREST makes it count when it takes the role on.
ALTER ROLE anon SET statement_timeout = '3s';
ALTER ROLE authenticated SET statement_timeout = '8s';
ALTER ROLE authenticator SET statement_timeout = '8s';
ALTER ROLE authenticator SET lock_timeout = '8s';
ALTER ROLE supabase_storage_admin SET search_path = storage;
ALTER ROLE supabase_auth_admin SET search_path = auth;
GRANT anon, authenticated, service_role TO authenticator;
-- The storage service takes on the caller's role, as PostgREST does.
GRANT authenticator TO supabase_storage_admin;
DO $$
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = 'postgres') THEN
        ALTER ROLE postgres SET search_path = "$user", public, extensions;
        GRANT anon, authenticated, service_role TO postgres WITH ADMIN OPTION;
        EXECUTE format('ALTER DATABASE %I OWNER TO postgres', current_database());
    END IF;
END
$$;
