-- What an entry takes beyond the bytes of its key, its value and its tags' texts: two tags, one that all carry and one
-- that a hundred do.

SELECT to_regprocedure('get_cache_metrics()') IS NOT NULL AS there \gset
\if :there

CREATE TEMP TABLE used (entries bigint, bytes bigint);
INSERT INTO used SELECT total_entries, memory_used_bytes FROM get_cache_metrics();
SELECT count(set_cached_data('memory:' || key, value, '1 day', tags)) FROM bench.item;
INSERT INTO used SELECT total_entries, memory_used_bytes FROM get_cache_metrics();

INSERT INTO bench.figure
SELECT 120, 'memory an entry takes beyond key, value and tags', '', to_char(taken, 'FM9990') || ' B', to_char(own, 'FM9990') || ' B of its own',
       taken - own, 96, 64, 'B', false
FROM (SELECT (max(bytes) - min(bytes))::float8 / (max(entries) - min(entries)) FROM used) u (taken),
     (SELECT avg(octet_length('memory:' || key) + pg_column_size(value) - 4 + octet_length(tags[1]) + octet_length(tags[2]))::float8
      FROM (SELECT key, value || '{}' AS value, tags FROM bench.item) i) o (own);

\else
INSERT INTO bench.figure
VALUES (120, 'memory an entry takes beyond key, value and tags', '', '', 'no get_cache_metrics()', NULL, 96, 64, 'B', false);
\endif
