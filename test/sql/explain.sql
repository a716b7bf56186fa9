-- What depends on what, and why an entry went.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
CREATE SCHEMA why;
SET search_path = why, public;
CREATE ROLE regress_why_reader;
GRANT USAGE ON SCHEMA why TO regress_why_reader;

-- The last transaction that changed something; what is said of the key.
CREATE TABLE last_change (xid xid8, at timestamptz);
INSERT INTO last_change VALUES (NULL, now());
CREATE PROCEDURE change(statement text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE statement;
    UPDATE why.last_change SET xid = pg_current_xact_id(), at = now();
END $$;
CREATE FUNCTION told(p_key text) RETURNS TABLE (scope text, reason text, name text, by_it boolean, in_time boolean, status text) LANGUAGE sql AS $$
    SELECT left(e.scope, 7), e.reason, e.name, e.transaction = l.xid, e.at BETWEEN l.at - interval '1 second' AND clock_timestamp() + interval '1 second', e.status
    FROM explain_invalidation(p_key) e, why.last_change l $$;

SELECT set_cached_data('why:1', '1', p_cache_tags => '{red,green}');
SELECT set_cached_data('why:2', '2');
-- Nothing has happened yet; nothing is known of what never was.
SELECT * FROM explain_invalidation('why:1');
SELECT * FROM explain_invalidation('why:none');
SELECT cache_key, scope, kind, name, relation FROM cache_dependencies WHERE cache_key LIKE 'why:%' ORDER BY name;

-- By a tag: as long as it is in its place, when it is filled again, and after that.
CALL change($$SELECT invalidate_cache_by_tags('{green}')$$);
SELECT * FROM told('why:1');
SELECT set_cached_data('why:1', '1', p_cache_tags => '{red,green}');
SELECT * FROM told('why:1');
-- The first of several; the next one, once it has been filled again.
CALL change($$SELECT invalidate_cache_by_tags('{red}')$$);
SELECT invalidate_cache_by_tags('{green}');
SELECT * FROM told('why:1');
-- Replaced while it was valid: nothing has gone.
SELECT set_cached_data('why:2', '2');
SELECT * FROM explain_invalidation('why:2');
-- By key, by pattern, with all others.
CALL change($$SELECT invalidate_cache_key('why:2')$$);
SELECT * FROM told('why:2');
SELECT set_cached_data('why:2', '2');
CALL change($$SELECT invalidate_cache_by_pattern('why:[2-3]')$$);
SELECT * FROM told('why:2');
SELECT set_cached_data('why:2', '2');
CALL change($$SELECT emergency_clear_cache(current_database()::text)$$);
SELECT * FROM told('why:2');
-- By time.
SELECT set_cached_data('why:2', '2', '1 millisecond');
SELECT pg_sleep(0.02);
SELECT * FROM told('why:2');
SELECT cleanup_expired_cache() > 0 AS cleaned;
SELECT * FROM told('why:2');

-- Of this very transaction, before it is known to others; and it has not gone after all.
SELECT set_cached_data('why:2', '2', p_cache_tags => '{blue}');
BEGIN;
SELECT invalidate_cache_by_tags('{blue}');
SELECT reason, name, status FROM explain_invalidation('why:2');
ROLLBACK;
SELECT reason FROM explain_invalidation('why:2');
BEGIN;
SELECT invalidate_cache_key('why:2');
SELECT reason, name, status FROM explain_invalidation('why:2');
ROLLBACK;
BEGIN;
SELECT invalidate_cache_by_pattern('why*');
SELECT reason, name, status FROM explain_invalidation('why:2');
ROLLBACK;

-- Long texts are cut in what is noted, at a character's edge.
SELECT set_cached_data('why:long', '1', p_cache_tags => ARRAY[repeat('ä', 100)]);
SELECT invalidate_cache_by_tags(ARRAY[repeat('ä', 100)]);
SELECT name = repeat('ä', 100) AS whole FROM explain_invalidation('why:long');
SELECT set_cached_data('why:long', '1');
SELECT name, char_length(name) FROM explain_invalidation('why:long');

-- Each sees what it could read; shared callers all.
DO $$
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION %s, %s, %s TO regress_why_reader',
        'set_cached_data(text, jsonb, interval, text[], text)'::regprocedure, 'explain_invalidation(text)'::regprocedure, 'invalidate_cache_key(text)'::regprocedure);
    EXECUTE format('GRANT SELECT ON %s TO regress_why_reader', 'cache_dependencies'::regclass);
    GRANT SELECT ON why.last_change TO regress_why_reader;
    -- Whoever reads the view executes its function.
    GRANT EXECUTE ON FUNCTION cache_ext_internal.dependencies() TO regress_why_reader;
END $$;
SELECT set_cached_data('why:ours', '1', p_cache_tags => '{ours}'), set_cached_data('why:both', '1', p_cache_tags => '{both}');
SET ROLE regress_why_reader;
SELECT set_cached_data('why:both', '2', p_cache_tags => '{both}'), set_cached_data('why:mine', '2', p_cache_tags => '{mine}');
SELECT cache_key, left(scope, 7) AS scope, kind, name FROM cache_dependencies WHERE name IN ('ours', 'both', 'mine') ORDER BY cache_key;
RESET ROLE;
SELECT cache_key, left(scope, 7) AS scope, kind, name FROM cache_dependencies WHERE name IN ('ours', 'both', 'mine') ORDER BY cache_key, scope;
CALL change($$SELECT invalidate_cache_by_tags('{ours,both,mine}')$$);
SELECT * FROM told('why:both') ORDER BY scope;
SELECT * FROM told('why:mine');
SET ROLE regress_why_reader;
SELECT * FROM told('why:both');
SELECT * FROM told('why:ours');
SELECT set_cached_data('why:mine', '2'), invalidate_cache_key('why:mine');
SELECT left(scope, 7) AS scope, reason FROM explain_invalidation('why:mine');
RESET ROLE;
CREATE ROLE regress_why_other;
GRANT regress_why_reader TO regress_why_other;
SET ROLE regress_why_other;
SELECT * FROM explain_invalidation('why:mine');
RESET ROLE;

-- What is wrong.
SELECT explain_invalidation(NULL);
SELECT explain_invalidation('');
SELECT explain_invalidation(repeat('x', 1025));
SET cache_ext.enabled = off;
SELECT * FROM explain_invalidation('why:1');
SELECT count(*) FROM cache_dependencies;
RESET cache_ext.enabled;

SET client_min_messages = warning;
DROP SCHEMA why CASCADE;
DROP OWNED BY regress_why_reader, regress_why_other;
DROP ROLE regress_why_reader, regress_why_other;
