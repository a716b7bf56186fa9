-- Takes away what setup.sql has made. The superuser stays, whatever it is called, and so does the role that runs this.
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS storage, auth, extensions CASCADE;
DO $$
DECLARE
    name text;
    kind text;
BEGIN
    FOREACH name IN ARRAY ARRAY['supabase_storage_admin', 'supabase_auth_admin', 'authenticator', 'service_role', 'authenticated', 'anon',
                                'postgres', 'supabase_admin'] LOOP
        IF name = session_user THEN
            FOREACH kind IN ARRAY ARRAY['TABLES', 'FUNCTIONS', 'SEQUENCES'] LOOP
                EXECUTE format('ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA public REVOKE ALL ON %s FROM %I', name, kind, name);
            END LOOP;
            CONTINUE;
        END IF;
        EXECUTE format('REASSIGN OWNED BY %I TO CURRENT_USER', name);
        EXECUTE format('DROP OWNED BY %I', name);
        EXECUTE format('DROP ROLE %I', name);
    END LOOP;
END
$$;
