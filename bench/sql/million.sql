-- Hits among a million entries, over random keys, against hits of a thousand of them; and stamping the tag that all of them
-- carry against stamping one that a single entry carries.

CREATE PROCEDURE bench.fill(entries bigint) LANGUAGE plpgsql AS $$
BEGIN
    FOR lowest IN 1 .. entries BY 10000 LOOP
        PERFORM set_cached_data(bench.key(n), bench.value(n), '1 day', CASE WHEN n = 1 THEN ARRAY['all', 'one'] ELSE ARRAY['all'] END)
        FROM generate_series(lowest, least(lowest + 9999, entries)) n;
        COMMIT;
    END LOOP;
END
$$;
CALL bench.fill(:million);

CREATE TABLE bench.few AS SELECT key FROM bench.probe WHERE n <= 1000 ORDER BY random();
INSERT INTO bench.few SELECT key FROM bench.few CROSS JOIN generate_series(1, 9);
CREATE TABLE bench.many AS
SELECT bench.key(1 + floor(random() * :million)::bigint) AS key FROM generate_series(1, 100000);
VACUUM (FREEZE, ANALYZE) bench.few, bench.many;
SELECT count(get_cached_data(bench.key(n))) = :million AS complete FROM generate_series(1, :million) n \gset
\if :complete
\else
\warn 'not all entries fit: the figures for a million are of fewer'
\endif

CALL bench.race('million',
    ARRAY['loop', 'thousand', 'million'],
    ARRAY['SELECT count(key) FROM bench.many',
          'SELECT count(get_cached_data(key)) FROM bench.few',
          'SELECT count(get_cached_data(key)) FROM bench.many'],
    ARRAY[100000, 100000, 100000], :rounds);

-- Tables without rows, so that a transaction is little but its invalidation.
CREATE TABLE bench.stamp_all (n integer);
CREATE TABLE bench.stamp_one (n integer);
CREATE TRIGGER invalidate AFTER UPDATE ON bench.stamp_all
FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('all');
CREATE TRIGGER invalidate AFTER UPDATE ON bench.stamp_one
FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('one');

CREATE PROCEDURE bench.stamp(rounds integer, repetitions integer) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
BEGIN
    FOR r IN 0 .. rounds LOOP
        began := clock_timestamp();
        FOR i IN 1 .. repetitions LOOP
            UPDATE bench.stamp_one SET n = n;
            COMMIT;
        END LOOP;
        INSERT INTO bench.timing
        VALUES ('stamp', 'one', r, repetitions, extract(epoch FROM clock_timestamp() - began) * 1e9 / repetitions);
        COMMIT;
        began := clock_timestamp();
        FOR i IN 1 .. repetitions LOOP
            UPDATE bench.stamp_all SET n = n;
            COMMIT;
        END LOOP;
        INSERT INTO bench.timing
        VALUES ('stamp', 'all', r, repetitions, extract(epoch FROM clock_timestamp() - began) * 1e9 / repetitions);
        COMMIT;
    END LOOP;
END
$$;
CALL bench.stamp(:rounds, 2000);

INSERT INTO bench.figure
SELECT 110, 'a transaction that stamps a tag of a million entries', 'a tag of one entry', bench.micros(ours), bench.micros(theirs),
       bench.ratio('stamp', 'all', 'one'), 1.2, 1.1, '× the time', false
FROM bench.net('stamp', 'all') ours, bench.net('stamp', 'one') theirs
UNION ALL
SELECT 130, 'a hit with a million entries, random keys', 'with a thousand', bench.micros(ours), bench.micros(theirs),
       ours / theirs, 2.5, 2, '× the time', false
FROM bench.net('million', 'million') ours, bench.net('million', 'thousand') theirs;
