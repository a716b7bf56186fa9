-- Last, so that they do not fire for what this script itself creates.

CREATE EVENT TRIGGER cache_ext_watch_start ON ddl_command_start WHEN TAG IN ('ALTER TABLE')
EXECUTE FUNCTION cache_ext_internal.watch_ddl();
ALTER EVENT TRIGGER cache_ext_watch_start ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER cache_ext_watch_start IS 'sees partitions of watched tables that are detached concurrently';

CREATE EVENT TRIGGER cache_ext_watch_end ON ddl_command_end
WHEN TAG IN ('ALTER TABLE', 'ALTER FOREIGN TABLE', 'CREATE TABLE', 'CREATE FOREIGN TABLE', 'CREATE SCHEMA', 'CREATE TRIGGER', 'ALTER TRIGGER', 'ALTER TYPE',
             'ALTER DOMAIN', 'ALTER VIEW', 'ALTER MATERIALIZED VIEW', 'CREATE SUBSCRIPTION', 'DROP SUBSCRIPTION', 'CREATE EXTENSION', 'DROP EXTENSION')
EXECUTE FUNCTION cache_ext_internal.watch_ddl();
ALTER EVENT TRIGGER cache_ext_watch_end ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER cache_ext_watch_end IS 'sees changed definitions of watched tables, and whether rows are applied';

CREATE EVENT TRIGGER cache_ext_watch_drop ON sql_drop EXECUTE FUNCTION cache_ext_internal.watch_ddl();
ALTER EVENT TRIGGER cache_ext_watch_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER cache_ext_watch_drop IS 'sees dropped tables and columns';

CREATE EVENT TRIGGER cache_ext_renamed ON ddl_command_end
WHEN TAG IN ('ALTER FUNCTION', 'ALTER ROUTINE', 'ALTER SCHEMA', 'ALTER TYPE', 'ALTER DOMAIN', 'ALTER TABLE', 'ALTER VIEW',
             'ALTER MATERIALIZED VIEW', 'ALTER FOREIGN TABLE')
EXECUTE FUNCTION cache_ext_internal.follow_renamed_functions();
ALTER EVENT TRIGGER cache_ext_renamed ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER cache_ext_renamed IS 'sees functions that are renamed, and the types of their arguments';

CREATE EVENT TRIGGER cache_ext_replaced ON ddl_command_end WHEN TAG IN ('CREATE FUNCTION')
EXECUTE FUNCTION cache_ext_internal.follow_replaced_functions();
ALTER EVENT TRIGGER cache_ext_replaced ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER cache_ext_replaced IS 'sees functions that are replaced, with other defaults perhaps';
