-- A cached function in a backend, net of the loop: what a hit costs beside what get_cached_data takes for the same value, and beside the function underneath, which looks a
-- row up by its primary key; and a hit by a client, whose statement calls it once.

CREATE TABLE bench.of_function (key text PRIMARY KEY, value jsonb NOT NULL);
INSERT INTO bench.of_function SELECT key, value FROM bench.item;
VACUUM (FREEZE, ANALYZE) bench.of_function;
CREATE FUNCTION bench.value_of(p_key text) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN (SELECT value FROM bench.of_function WHERE key = p_key); END $$;
SELECT create_cached_function('bench.value_of(text)', '1 day'), create_cached_function('bench.value_of(text)', '1 day', ARRAY['value:{p_key}'], 'value_by_tag');
SELECT count(set_cached_data(key, value, '1 day')) FROM bench.item;
-- Results are kept once no transaction is left from before anything was depended on.
DO $$ BEGIN
    LOOP
        PERFORM bench.value_of_cached(key) FROM bench.item;
        COMMIT;
        EXIT WHEN (SELECT hits FROM cached_functions WHERE cached_function = 'bench.value_of_cached(text,interval)'::regprocedure) > 0;
    END LOOP;
END $$;
SELECT count(bench.value_by_tag(key)) FROM bench.item;

CALL bench.race('function',
    ARRAY['loop', 'tracked', 'tagged', 'underneath', 'get'],
    ARRAY['SELECT count(key) FROM bench.probe',
          'SELECT count(bench.value_of_cached(key)) FROM bench.probe',
          'SELECT count(bench.value_by_tag(key)) FROM bench.probe',
          'SELECT count(bench.value_of(key)) FROM bench.probe',
          'SELECT count(get_cached_data(key)) FROM bench.probe'],
    ARRAY[100000, 100000, 100000, 100000, 100000], :rounds);

INSERT INTO bench.figure
SELECT 50, 'a hit of a cached function, what it reads tracked', '', bench.micros(ours), 'loop ' || bench.micros(alone), ours / 1000, NULL::float8, NULL::float8, 'µs', false
FROM bench.net('function', 'tracked') ours, bench.net('function', 'loop', '') alone
UNION ALL
SELECT 51, 'the same, with a tag of its argument', '', bench.micros(ours), '', ours / 1000, NULL::float8, NULL::float8, 'µs', false
FROM bench.net('function', 'tagged') ours
UNION ALL
SELECT 52, '', 'get_cached_data of the same value', bench.micros(ours), bench.micros(theirs), ours / theirs, NULL, NULL, '× the time', false
FROM bench.net('function', 'tracked') ours, bench.net('function', 'get') theirs
UNION ALL
SELECT 53, '', 'the function underneath: a primary-key look-up', bench.micros(ours), bench.micros(theirs), theirs / ours, NULL, NULL, '× faster', true
FROM bench.net('function', 'tracked') ours, bench.net('function', 'underneath') theirs;
