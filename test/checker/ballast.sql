-- Fills the memory, so that entries are evicted where there is little of it.
\set n random(1, 500)
SELECT set_cached_data('ballast:' || :n, (SELECT jsonb_agg(md5(:n || ':' || i)) FROM generate_series(1, 200) AS i), p_cache_tags => ARRAY['ballast:' || :n % 50, 'ballast']);
