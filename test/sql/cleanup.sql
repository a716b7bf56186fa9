-- cleanup_expired_cache, its log and the statistics of it.
SET client_min_messages = warning;
DROP EXTENSION IF EXISTS cache_ext CASCADE;
CREATE EXTENSION cache_ext;
CREATE FUNCTION log_rows() RETURNS TABLE (id bigint, source text, expired_entries integer, dead_entries integer, remaining_entries bigint)
LANGUAGE sql AS 'SELECT id, source, expired_entries, dead_entries, remaining_entries FROM cache_cleanup_log ORDER BY id';

-- nothing to do is logged too
SELECT cleanup_expired_cache();
SELECT * FROM log_rows();

-- expired and invalidated entries go, others stay
SELECT set_cached_data('cleanup:expires', '1', '100 ms'), set_cached_data('cleanup:dead', '1', NULL, '{cleanup_tag}'),
       set_cached_data('cleanup:alive', '1');
DO $$ BEGIN WHILE get_cached_data('cleanup:expires') IS NOT NULL LOOP NULL; END LOOP; END $$;
SELECT invalidate_cache_by_tags('{cleanup_tag}');
SELECT cleanup_expired_cache();
SELECT cleanup_expired_cache();
SELECT get_cached_data('cleanup:alive');
SELECT id, source, expired_entries, dead_entries, duration_ms >= 0 AS timed, cleaned_at <= clock_timestamp() AS dated
FROM cache_cleanup_log ORDER BY id;

-- in a READ ONLY transaction it cleans without a row in the log
SELECT set_cached_data('cleanup:dead', '1', NULL, '{cleanup_tag}');
SELECT invalidate_cache_by_tags('{cleanup_tag}');
BEGIN READ ONLY;
SELECT cleanup_expired_cache();
COMMIT;
SELECT count(*) FROM log_rows();

-- rolled back, the row is gone and so are the entries, which were of no use to anybody
SELECT set_cached_data('cleanup:dead', '1', NULL, '{cleanup_tag}');
SELECT invalidate_cache_by_tags('{cleanup_tag}');
BEGIN;
SELECT cleanup_expired_cache();
ROLLBACK;
SELECT cleanup_expired_cache();

-- what is older than 30 days is pruned
UPDATE cache_cleanup_log SET cleaned_at = cleaned_at - interval '31 days' WHERE id <= 2;
SELECT cleanup_expired_cache();
SELECT min(id) > 2 AS pruned FROM log_rows();

-- statistics by day
SELECT day = CURRENT_DATE AS today, runs = (SELECT count(*) FROM log_rows()) AS runs, expired_entries, dead_entries, total_removed,
       avg_duration_ms >= 0 AS timed
FROM get_cache_cleanup_stats();
UPDATE cache_cleanup_log SET cleaned_at = cleaned_at - interval '3 days' WHERE id % 2 = 0;
SELECT count(*) FROM get_cache_cleanup_stats(2);
SELECT count(*) FROM get_cache_cleanup_stats(p_days => 7);
SELECT get_cache_cleanup_stats(0);
SELECT get_cache_cleanup_stats(NULL);
SELECT get_cache_cleanup_stats(-1);

-- who may write the log is the extension alone; a row that it cannot write is a warning
ALTER TABLE cache_cleanup_log ADD CONSTRAINT full_house CHECK (remaining_entries < 0) NOT VALID;
SELECT cleanup_expired_cache();
ALTER TABLE cache_cleanup_log DROP CONSTRAINT full_house;
CREATE ROLE cleanup_nobody;
SET ROLE cleanup_nobody;
SELECT cleanup_expired_cache();
SELECT * FROM cache_cleanup_log;
SELECT nextval('cache_cleanup_log_id_seq');
RESET ROLE;
DROP ROLE cleanup_nobody;

DROP FUNCTION log_rows();
DROP EXTENSION cache_ext;
