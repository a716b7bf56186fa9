-- A set with two tags against the upsert into a table, over keys that are there: many in a transaction, and each in its own.

TRUNCATE seeds.query_cache;
SELECT count(seeds.set_cached_data(key, value, '1 day', tags)), count(set_cached_data(key, value, '1 day', tags)) FROM bench.item;
VACUUM (FREEZE, ANALYZE) seeds.query_cache;

-- What a transaction of its own costs is measured by one that does next to nothing.
CREATE FUNCTION bench.nothing(p_key text, p_value jsonb, p_duration interval, p_tags text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$ BEGIN END $$;

CREATE PROCEDURE bench.one_by_one(variant text, setter text, round integer) LANGUAGE plpgsql AS $outer$
DECLARE
    item bench.item[] := ARRAY(SELECT i FROM bench.item i WHERE i.n <= 2000 ORDER BY random());
    began timestamptz;
BEGIN
    EXECUTE format($inner$
        CREATE OR REPLACE PROCEDURE bench.body(item bench.item[]) LANGUAGE plpgsql AS $body$
        DECLARE
            i bench.item;
        BEGIN
            FOREACH i IN ARRAY item LOOP
                PERFORM %s(i.key, i.value, '1 day', i.tags);
                COMMIT;
            END LOOP;
        END
        $body$
    $inner$, setter);
    COMMIT;
    began := clock_timestamp();
    CALL bench.body(item);
    INSERT INTO bench.timing
    VALUES ('set one by one', variant, round, cardinality(item), extract(epoch FROM clock_timestamp() - began) * 1e9 / cardinality(item));
    COMMIT;
END
$outer$;

CALL bench.race('set',
    ARRAY['loop', 'ours', 'theirs'],
    ARRAY['SELECT count(value), count(tags) FROM bench.item',
          'SELECT count(set_cached_data(key, value, ''1 day'', tags)) FROM bench.item',
          'SELECT count(seeds.set_cached_data(key, value, ''1 day'', tags)) FROM bench.item'],
    ARRAY[10000, 10000, 10000], :rounds);

SELECT format('CALL bench.one_by_one(%L, %L, %s)', variant, setter, round)
FROM generate_series(0, :rounds) round,
     (VALUES ('loop', 'bench.nothing'), ('ours', 'set_cached_data'), ('theirs', 'seeds.set_cached_data')) v (variant, setter)
ORDER BY round, variant \gexec

INSERT INTO bench.figure
SELECT 70, 'a set with two tags, 10,000 a transaction', 'upsert into a table', bench.micros(ours), bench.micros(theirs),
       theirs / ours, 6, 10, '× faster', true
FROM bench.net('set', 'ours') ours, bench.net('set', 'theirs') theirs
UNION ALL
SELECT 80, 'the same, a transaction each, net of it', 'upsert into a table', bench.micros(ours), bench.micros(theirs),
       theirs / ours, 6, 10, '× faster', true
FROM bench.net('set one by one', 'ours') ours, bench.net('set one by one', 'theirs') theirs;
