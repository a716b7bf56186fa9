-- What the tests of watched tables look with.

-- Runs a statement; which of the entries with these tags are gone for everybody afterwards.
CREATE PROCEDURE run(p_statement text, INOUT gone text[] DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    tags CONSTANT text[] := ARRAY['all', 'p:1', 'p:2', 'p:3', 'p:4', 'other'];
BEGIN
    PERFORM set_cached_data(t, '1', p_cache_tags => ARRAY[t]) FROM unnest(tags) t;
    COMMIT;
    EXECUTE p_statement;
    COMMIT;
    gone := ARRAY(SELECT t FROM unnest(tags) t WHERE NOT cache_exists(t));
END
$$;

CREATE VIEW watch_triggers AS
SELECT tgrelid::regclass AS table_name, regexp_replace(tgname, '\d+', 'N') AS trigger_name, tgenabled AS enabled
FROM pg_trigger WHERE tgname LIKE 'cache_ext_watch_%' ORDER BY tgrelid::regclass::text, 2;
