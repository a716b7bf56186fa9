-- What is past its end, but within its grace: who is served it, and what ends that.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
CREATE SCHEMA grace;
SET search_path = grace, public;
CREATE VIEW entry AS
    SELECT cache_data, cache_tags, is_stale, expires_at > statement_timestamp() AS to_come, lease IS NOT NULL AS lease FROM get_cached_entry('g:1');
CREATE FUNCTION refresh(p_query text DEFAULT 'SELECT to_jsonb(''computed''::text)') RETURNS jsonb LANGUAGE sql
    AS $$ SELECT get_or_set_cached_data('g:1', p_query, NULL, '{g}') $$;
-- The first set answers the misses before it, and may be too late for that.
CREATE FUNCTION put(p_key text, p_data jsonb) RETURNS boolean LANGUAGE sql
    AS $$ SELECT set_cached_data(p_key, p_data, p_cache_tags => '{g}'); SELECT set_cached_data(p_key, p_data, p_cache_tags => '{g}') $$;

SELECT set_cache_policy('g:', '1 hour', '1 hour');
SELECT put('g:1', '1');
TABLE entry;
SELECT expire_cache_by_tags('{g}');
-- Only where it can be marked.
TABLE entry;
SELECT get_cached_data('g:1'), cache_exists('g:1');
SELECT * FROM get_cached_many('{g:1}');
SELECT count(*) FROM query_cache WHERE cache_key = 'g:1';
SELECT stale_hits AS before FROM get_cache_metrics() \gset
TABLE entry;
SELECT stale_hits - :before AS stale_hits, expired_entries FROM get_cache_metrics();
-- It is there until its grace is over.
SELECT cleanup_expired_cache();
TABLE entry;
-- Nothing is left to expire.
SELECT expire_cache_by_tags('{g}');
-- Refreshed by hand, with the lease that comes with it or without; adding does too.
SELECT lease FROM get_cached_entry('g:1') \gset
SELECT set_cached_data('g:1', '2', p_cache_tags => '{g}', p_lease => :'lease');
TABLE entry;
SELECT expire_cache_by_tags('{g}');
SELECT set_cached_data('g:1', '3', p_cache_tags => '{g}', p_lease => :'lease') AS late;
TABLE entry;
SELECT add_cached_data('g:1', '4', p_cache_tags => '{g}');
TABLE entry;
SELECT add_cached_data('g:1', '5', p_cache_tags => '{g}');

-- Get or set refreshes it.
SELECT refresh();
SELECT expire_cache_by_tags('{g}');
SELECT refresh();
TABLE entry;
CREATE TABLE divided (n int);
-- Where that fails the value is served nevertheless, and whatever had been done is undone.
SELECT expire_cache_by_tags('{g}');
SELECT refresh('SELECT to_jsonb(1 / 0)');
TABLE entry;
-- Nobody tries again for a while, each by what it says itself.
SET cache_ext.refresh_pause = '1h';
SELECT refresh('SELECT to_jsonb(1 / 0)');
BEGIN;
INSERT INTO divided VALUES (1);
SELECT refresh('SELECT to_jsonb(1 / 0)');
COMMIT;
SET cache_ext.refresh_pause = 0;
SELECT refresh('SELECT to_jsonb(1 / 0)');
CREATE TABLE log (n int);
CREATE FUNCTION writes_and_fails() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO log VALUES (1);
    RAISE 'no' USING ERRCODE = '22012', DETAIL = 'It has 100% failed.';
END $$;
SELECT refresh('SELECT writes_and_fails()');
BEGIN;
SAVEPOINT one;
SELECT refresh('SELECT writes_and_fails()');
ROLLBACK TO one;
INSERT INTO log VALUES (2);
-- Who has written too, and goes on.
SELECT refresh('SELECT writes_and_fails()');
COMMIT;
TABLE log;
TABLE entry;
-- And with what a cached function returns, the rows that there were.
CREATE TABLE divisor (n int);
INSERT INTO divisor VALUES (1);
CREATE FUNCTION rows(p_from int, OUT a int, OUT b int) RETURNS SETOF record STABLE LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN p_from .. 3 LOOP
        a := i;
        b := 12 / (SELECT n + 3 - i FROM divisor);
        RETURN NEXT;
    END LOOP;
END $$;
SELECT create_cached_function('rows(int)', '1 hour', ARRAY['g'], p_grace => '1 hour');
SELECT * FROM rows_cached(1);
SELECT expire_cache_by_tags('{g}');
UPDATE divisor SET n = 0;
SELECT * FROM rows_cached(1);
SELECT * FROM rows(1);
UPDATE divisor SET n = 1;
-- Rows that are computed take the room of one result, and what has none is not returned in part.
CREATE TABLE size (n int);
INSERT INTO size VALUES (40);
CREATE FUNCTION many(p_from int) RETURNS SETOF text STABLE LANGUAGE sql
    AS $$ SELECT repeat('x', 1000) || i FROM generate_series(p_from, (SELECT n FROM size)) i $$;
SELECT create_cached_function('many(int)', '1 hour', ARRAY['g'], p_grace => '1 hour');
SELECT count(*), sum(right(many_cached, -1000)::int) FROM many_cached(1);
SELECT expire_cache_by_tags('{g}') > 0 AS expired;
UPDATE size SET n = 100;
SET work_mem = '64kB';
SET temp_file_limit = '120kB';
SELECT count(*), sum(right(many_cached, -1000)::int) FROM many_cached(1);
-- One that is too large to be kept.
SELECT expire_cache_by_tags('{g}') > 0 AS expired;
UPDATE size SET n = 1500;
SET temp_file_limit = '2MB';
SET client_min_messages = error;
SELECT count(*), sum(right(many_cached, -1000)::int) FROM many_cached(1);
RESET client_min_messages;
RESET temp_file_limit;
SELECT count(*), sum(right(many_cached, -1000)::int) FROM many_cached(1);
RESET work_mem;
-- Who is told to stop does.
CREATE FUNCTION is_cancelled() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE query_canceled; END $$;
SELECT refresh('SELECT is_cancelled()');
-- Who is within a computation of the same key is given it.
SELECT refresh($$SELECT jsonb_build_object('within', refresh())$$);
TABLE entry;
-- Nor does one refresh it whose statement would not live to see the end of that.
SELECT expire_cache_by_tags('{g}');
SELECT refresh($$SELECT to_jsonb('slow'::text) FROM pg_sleep(3)$$);
SELECT expire_cache_by_tags('{g}');
SET statement_timeout = '5s';
SELECT refresh('SELECT to_jsonb(1 / 0)');
RESET statement_timeout;
TABLE entry;
SELECT refresh($$SELECT jsonb_build_object('within', 'slow')$$);
-- Without the cache it is computed.
SELECT expire_cache_by_tags('{g}');
SET cache_ext.enabled = off;
SELECT refresh();
TABLE entry;
RESET cache_ext.enabled;
-- Who has written computes it, and others get that from the commit on.
BEGIN;
CREATE TABLE written ();
SELECT refresh('SELECT to_jsonb(''written''::text)');
TABLE entry;
COMMIT;
TABLE entry;

-- What is invalidated is gone, within its grace too.
SELECT expire_cache_by_tags('{g}');
SELECT invalidate_cache_by_tags('{g}');
TABLE entry;
SELECT put('g:1', '6');
SELECT expire_cache_by_tags('{g}');
SELECT invalidate_cache_key('g:1');
TABLE entry;
SELECT put('g:1', '7');
BEGIN;
SELECT expire_cache_by_tags('{g}');
SELECT invalidate_cache_by_pattern('g:*');
COMMIT;
TABLE entry;

-- Expiring is a transaction's: its own reads miss at once, those of others see it from the commit on, and a rollback leaves nothing.
SELECT put('g:1', '8');
BEGIN;
SELECT expire_cache_by_tags('{g}');
SELECT get_cached_data('g:1');
TABLE entry;
ROLLBACK;
TABLE entry;
BEGIN;
SAVEPOINT s;
SELECT expire_cache_by_tags('{g}');
ROLLBACK TO s;
TABLE entry;
COMMIT;
TABLE entry;
BEGIN READ ONLY;
SELECT get_cached_data('g:1');
COMMIT;
-- What was computed before it is not stored.
SELECT lease FROM get_cached_entry('g:none') \gset
SELECT expire_cache_by_tags('{g,none}');
SELECT set_cached_data('g:none', '1', p_cache_tags => '{none}', p_lease => :'lease'), cache_exists('g:none');
SELECT set_cached_data('g:none', '1', p_cache_tags => '{none}'), cache_exists('g:none');

-- The grace is the entry's own: that of the policy when it was set.
SELECT put('g:1', '9'), put('h:1', '9');
SELECT drop_cache_policy('g:');
SELECT set_cache_policy('h:', '1 hour', '1 hour');
SELECT expire_cache_by_tags('{g}');
SELECT cache_data, is_stale FROM unnest('{g:1,h:1}'::text[]) k, get_cached_entry(k) ORDER BY k;
-- Where the transaction itself has set it, too.
SELECT set_cache_policy('g:', '1 hour', '1 hour');
BEGIN;
SELECT put('g:1', '10');
COMMIT;
SELECT expire_cache_by_tags('{g}');
TABLE entry;

-- And it ends.
SELECT set_cache_policy('g:', '1 hour', '1 ms');
SELECT put('g:1', '11');
SELECT expire_cache_by_tags('{g}');
DO $$ BEGIN WHILE (SELECT cache_data IS NOT NULL FROM get_cached_entry('g:1')) LOOP END LOOP; END $$;
TABLE entry;
SELECT cleanup_expired_cache() > 0 AS cleaned;
SELECT expired_entries FROM get_cache_metrics();

-- Jitter shortens a policy's duration where a value is computed, too.
SELECT set_cache_policy('g:', '1 hour', p_jitter => 0.5);
SELECT count(get_or_set_cached_data('g:j' || i, 'SELECT 1 AS a', NULL, '{g}')) FROM generate_series(1, 20) i;
SELECT min(expires_at - created_at) >= '30 minutes' AS at_least_half, max(expires_at - created_at) < '1 hour' AS less, count(DISTINCT expires_at - created_at) > 1 AS differ
FROM query_cache WHERE cache_key LIKE 'g:j%';

SELECT drop_cache_policy('g:'), drop_cache_policy('h:'), invalidate_cache_by_pattern('[gh]:*') > 0 AS removed;
SET client_min_messages = warning;
DROP SCHEMA grace CASCADE;
