-- Policies by key prefix.
SET client_min_messages = warning;
CREATE ROLE authenticated NOLOGIN;
CREATE EXTENSION cache_ext;
CREATE FUNCTION life(p_key text) RETURNS interval LANGUAGE sql AS $$ SELECT expires_at - created_at FROM query_cache WHERE cache_key = p_key $$;

SELECT set_cache_policy('a:', '1 hour');
SELECT set_cache_policy('a:b:', '2 hours', p_tags => '{pt,t}');
SELECT * FROM cache_policies ORDER BY prefix;
-- The longest prefix wins; without one it is the default.
SELECT set_cached_data(k, '1') FROM unnest(ARRAY['a:1', 'a:b:1', 'a:b', 'b:1']) AS k;
SELECT k, life(k) FROM unnest(ARRAY['a:1', 'a:b:1', 'a:b', 'b:1']) AS k;
SET cache_ext.default_duration = '5s';
SELECT set_cached_data('b:1', '1');
SELECT life('b:1');
RESET cache_ext.default_duration;
-- What the caller says wins over the policy; tags add up.
SELECT set_cached_data('a:b:2', '1', '7 minutes', '{t,own}');
SELECT life('a:b:2'), cache_tags FROM query_cache WHERE cache_key = 'a:b:2';
SELECT invalidate_cache_by_tags('{pt}');
SELECT cache_exists('a:b:1'), cache_exists('a:b:2'), cache_exists('a:1');
-- With the policy's tags there may be too many.
SELECT set_cached_data('a:b:3', '1', null, ARRAY(SELECT 'x' || i FROM generate_series(1, 64) i));
SELECT set_cached_data('a:3', '1', null, ARRAY(SELECT 'x' || i FROM generate_series(1, 64) i));

-- Setting again replaces.
SELECT set_cache_policy('a:', '3 hours', '10 minutes', 0.5, '{q}', true, true);
SELECT * FROM cache_policies ORDER BY prefix;
-- Jitter shortens, and only the policy's own duration.
SELECT set_cached_data('a:' || i, '1') FROM generate_series(1, 20) i \g /dev/null
SELECT min(life('a:' || i)) >= '90 minutes' AS at_least_half, max(life('a:' || i)) <= '3 hours' AS at_most_all, count(DISTINCT life('a:' || i)) > 1 AS differ
FROM generate_series(1, 20) i;
SELECT set_cached_data('a:1', '1', '1 hour');
SELECT life('a:1');

-- A change is transactional.
BEGIN;
SELECT set_cache_policy('c:', '1 minute');
SELECT set_cached_data('c:1', '1');
SELECT life('c:1');
ROLLBACK;
SELECT set_cached_data('c:1', '1');
SELECT life('c:1');
SELECT drop_cache_policy('a:b:'), drop_cache_policy('a:b:'), drop_cache_policy(NULL);
SELECT set_cached_data('a:b:1', '1', '1 hour');
SELECT cache_tags FROM query_cache WHERE cache_key = 'a:b:1';

-- Expiring by tag: without a grace period it is removal.
SELECT set_cached_data('e:1', '1', null, '{e}');
SELECT expire_cache_by_tags('{e}');
SELECT cache_exists('e:1');
SELECT set_cache_policy('e:', '1 hour', '1 hour');
SELECT set_cached_data('e:1', '1', null, '{e}');
SELECT expire_cache_by_tags('{e}');
SELECT cache_exists('e:1');
-- A value that answers a miss from before an invalidation is late: refused, once.
SELECT set_cached_data('l', '"old"', null, '{l}');
SELECT invalidate_cache_by_tags('{l}'), get_cached_data('l');
SELECT set_cached_data('l', '"late"', null, '{l}'), cache_exists('l');
SELECT set_cached_data('l', '"new"', null, '{l}'), get_cached_data('l');

-- Mistakes.
SELECT set_cache_policy(NULL);
SELECT set_cache_policy('');
SELECT set_cache_policy(repeat('x', 2000));
SELECT set_cache_policy('p:', '0');
SELECT set_cache_policy('p:', '-1 second');
SELECT set_cache_policy('p:', p_grace => '-1 second');
SELECT set_cache_policy('p:', p_jitter => 1.5);
SELECT set_cache_policy('p:', p_jitter => -0.1);
SELECT set_cache_policy('p:', p_jitter => 'NaN');
SELECT set_cache_policy('p:', p_tags => '{""}');
SELECT set_cache_policy('p:', p_tags => '{NULL}');
SELECT set_cache_policy('p:', p_tags => ARRAY(SELECT 'x' || i FROM generate_series(1, 65) i));
SELECT set_cache_policy('p:', '1 hour', NULL, NULL, NULL, NULL, NULL);
SELECT * FROM cache_policies WHERE prefix = 'p:';

DROP FUNCTION life;
DROP EXTENSION cache_ext;
DROP ROLE authenticated;
