-- What runs, measures and compares the queries.

-- The one place where the cache is filled.
CREATE FUNCTION demo.cached(p_key text, p_query text, p_tags text[])
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    answer jsonb := get_cached_data(p_key);
BEGIN
    IF answer IS NULL THEN
        EXECUTE p_query INTO answer;
        PERFORM set_cached_data(p_key, answer, NULL, p_tags);
    END IF;
    RETURN answer;
END
$$;

CREATE FUNCTION demo.key(demo.queries)
RETURNS text STABLE LANGUAGE sql AS $$ SELECT make_cache_key('demo', $1.number::text) $$;

CREATE TABLE demo.results (
    phase text,
    number int,
    uncached_ms double precision,
    first_read_ms double precision,
    cached_us double precision,
    recomputed boolean,
    equal boolean,
    answer jsonb,
    brief text
);

CREATE FUNCTION demo.ms_since(timestamptz)
RETURNS double precision LANGUAGE sql AS $$ SELECT extract(epoch FROM clock_timestamp() - $1) * 1000 $$;

CREATE FUNCTION demo.median(double precision[])
RETURNS double precision LANGUAGE sql AS $$ SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY x) FROM unnest($1) x $$;

-- Runs each query without the cache, then through it, and compares what the cache returns with what the query returns in
-- the same statement.
CREATE PROCEDURE demo.measure(p_phase text)
LANGUAGE plpgsql AS $$
DECLARE
    runs CONSTANT int := 3;
    batches CONSTANT int := 51;
    hits_in_batch CONSTANT int := 1000;
    q demo.queries;
    r demo.results;
    times double precision[];
    key text;
    cached jsonb;
    truth jsonb;
    hits bigint;
    started timestamptz;
BEGIN
    FOREACH q IN ARRAY ARRAY(SELECT d FROM demo.queries d ORDER BY number) LOOP
        r.phase := p_phase;
        r.number := q.number;
        key := demo.key(q);

        times := '{}';
        FOR i IN 1 .. runs LOOP
            started := clock_timestamp();
            EXECUTE q.query INTO truth;
            times := times || demo.ms_since(started);
        END LOOP;
        r.uncached_ms := demo.median(times);
        COMMIT;

        r.recomputed := NOT cache_exists(key);
        started := clock_timestamp();
        cached := demo.cached(key, q.query, q.tags);
        r.first_read_ms := demo.ms_since(started);
        COMMIT;    -- from now on all sessions have it

        times := '{}';
        r.equal := true;
        FOR i IN 1 .. batches LOOP
            started := clock_timestamp();
            SELECT count(get_cached_data(key)) INTO hits FROM generate_series(1, hits_in_batch);
            times := times || demo.ms_since(started) * 1000 / hits_in_batch;
            r.equal := r.equal AND hits = hits_in_batch;
        END LOOP;
        r.cached_us := demo.median(times);

        EXECUTE format('SELECT get_cached_data($1), (%s)', q.query) INTO r.answer, truth USING key;
        r.equal := r.equal AND r.answer IS NOT DISTINCT FROM truth AND r.answer = cached;
        EXECUTE format('SELECT %s FROM (SELECT $1) AS t (a)', q.brief) INTO r.brief USING r.answer;
        INSERT INTO demo.results SELECT r.*;
        COMMIT;
    END LOOP;
END
$$;

-- How many of the queries the cache answers now, and whether with the answers of that phase. It asks whether there is an
-- entry before it reads: a read that misses announces that the value is about to be computed.
CREATE FUNCTION demo.served(p_phase text)
RETURNS text LANGUAGE sql AS $$
    SELECT format('%s of %s%s', count(cached), count(*),
                  CASE WHEN count(*) FILTER (WHERE cached <> answer) > 0 THEN ', and some differ' END)
    FROM (SELECT CASE WHEN cache_exists(demo.key(q)) THEN get_cached_data(demo.key(q)) END AS cached, r.answer
          FROM demo.queries q JOIN demo.results r ON r.number = q.number AND r.phase = p_phase) t
$$;

-- How many answers that come through the cache equal the query in the same statement. Fills what is missing.
CREATE FUNCTION demo.compare()
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    q demo.queries;
    cached jsonb;
    truth jsonb;
    equal int := 0;
    number int := 0;
BEGIN
    FOR q IN SELECT * FROM demo.queries LOOP
        PERFORM demo.cached(demo.key(q), q.query, q.tags);
        EXECUTE format('SELECT get_cached_data($1), (%s)', q.query) INTO cached, truth USING demo.key(q);
        equal := equal + (cached IS NOT DISTINCT FROM truth)::int;
        number := number + 1;
    END LOOP;
    RETURN format('%s of %s', equal, number);
END
$$;

-- What has been looked at beside the tables, by part of the demo.
CREATE TABLE demo.checks (part int, name text, seen text, expected text);

CREATE FUNCTION demo.lines(p_part int)
RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('   %s %s%s', rpad(name, 70), seen,
                  CASE WHEN seen IS DISTINCT FROM expected THEN '   NO: it must be ' || expected END)
    FROM demo.checks WHERE part = p_part
$$;

CREATE FUNCTION demo.report(p_phase text)
RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('   %s %s %s %s %s %s', rpad('query', 42), lpad('uncached ms', 11), lpad('1st read ms', 11), lpad('cached µs', 9),
                  lpad('times faster', 12), lpad('equal', 5))
    UNION ALL
    (SELECT format('%s  %s %s %s %s %s %s', q.number, rpad(q.name, 42), lpad(to_char(uncached_ms, 'FM999,990.0'), 11),
                   lpad(to_char(first_read_ms, 'FM999,990.0'), 11),
                   lpad(to_char(cached_us, 'FM999,990.00'), 9), lpad(to_char(uncached_ms * 1000 / cached_us, 'FM999,999,990'), 12),
                   lpad(CASE WHEN equal THEN 'yes' ELSE 'NO' END, 5))
     FROM demo.results r JOIN demo.queries q USING (number) WHERE r.phase = p_phase ORDER BY number)
$$;

CREATE FUNCTION demo.answers(p_before text, p_after text)
RETURNS SETOF text LANGUAGE sql AS $$
    SELECT format('%s  %s -> %s', number, rpad(b.brief, 46),
                  CASE WHEN a.answer = b.answer THEN CASE WHEN a.recomputed THEN 'the same' ELSE 'not concerned: the same entry' END
                       WHEN a.brief = b.brief THEN 'other rows of the answer'
                       ELSE a.brief END)
    FROM demo.results b JOIN demo.results a USING (number) WHERE b.phase = p_before AND a.phase = p_after ORDER BY number
$$;

-- Raises an error unless all was as it must be.
CREATE FUNCTION demo.verdict()
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    unequal CONSTANT bigint := (SELECT count(*) FROM demo.results WHERE equal IS NOT TRUE);
    unseen CONSTANT bigint := (SELECT count(*) FROM demo.results b JOIN demo.results a USING (number)
                               WHERE b.phase = 'before' AND a.phase = 'after' AND (a.answer <> b.answer) IS DISTINCT FROM (number < 9));
    failed CONSTANT bigint := (SELECT count(*) FROM demo.checks WHERE seen IS DISTINCT FROM expected);
BEGIN
    IF unequal + unseen + failed > 0 THEN
        RAISE 'the cache did not do what it promises'
            USING DETAIL = format('Answers that differ from the truth: %s; changes that did not show: %s; other checks that failed: %s.',
                                  unequal, unseen, failed);
    END IF;
    RETURN 'Every answer from the cache was equal to the truth.';
END
$$;
