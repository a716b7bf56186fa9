-- How statements are raced against each other: each in turn, round after round, so that whatever the machine does
-- meanwhile slows all of them; and what came out of it.

CREATE SCHEMA bench;

CREATE TABLE bench.timing (
    topic text NOT NULL,
    variant text NOT NULL,
    round integer NOT NULL,
    operations bigint NOT NULL,
    nanoseconds double precision NOT NULL   -- of one operation
);

CREATE VIEW bench.median AS
SELECT topic, variant, percentile_cont(0.5) WITHIN GROUP (ORDER BY nanoseconds) AS nanoseconds
FROM bench.timing
WHERE round > 0   -- the first one only warms up
GROUP BY topic, variant;

-- The line that the report shows for one comparison.
CREATE TABLE bench.figure (
    position integer PRIMARY KEY,
    what text NOT NULL,
    against text NOT NULL,
    here text NOT NULL,   -- measured
    there text NOT NULL,
    reached double precision,   -- null: not measured, for the reason given in "there"
    must double precision,   -- null: for information only
    aim double precision,
    unit text NOT NULL,
    more_is_better boolean NOT NULL
);

-- Times `variants` (their statements, each of which does as many operations as told), commit included.
CREATE PROCEDURE bench.race(
    topic text, variants text[], statements text[], operations bigint[], rounds integer)
LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    taken double precision;
    v integer;
BEGIN
    FOR r IN 0 .. rounds LOOP
        FOR i IN 0 .. cardinality(variants) - 1 LOOP
            v := 1 + (i + r) % cardinality(variants);   -- another one begins each round
            COMMIT;
            began := clock_timestamp();
            EXECUTE statements[v];
            COMMIT;
            taken := extract(epoch FROM clock_timestamp() - began) * 1e9;
            INSERT INTO bench.timing VALUES (topic, variants[v], r, operations[v], taken / operations[v]);
        END LOOP;
    END LOOP;
END
$$;

-- The median of a variant, less that of the loop alone.
CREATE FUNCTION bench.net(topic text, variant text, loop_variant text DEFAULT 'loop') RETURNS double precision
LANGUAGE sql STABLE AS $$
    SELECT m.nanoseconds - coalesce(l.nanoseconds, 0)
    FROM bench.median m LEFT JOIN bench.median l ON l.topic = m.topic AND l.variant = loop_variant
    WHERE m.topic = $1 AND m.variant = $2
$$;

-- How many times longer a variant takes than another, by the median over the rounds of what each round showed: right where
-- both took the same disturbance.
CREATE FUNCTION bench.ratio(topic text, variant text, other text) RETURNS double precision
LANGUAGE sql STABLE AS $$
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a.nanoseconds / b.nanoseconds)
    FROM bench.timing a JOIN bench.timing b USING (topic, round)
    WHERE a.topic = $1 AND a.variant = $2 AND b.variant = $3 AND a.round > 0
$$;

CREATE FUNCTION bench.micros(nanoseconds double precision) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN nanoseconds < 10000 THEN to_char(nanoseconds / 1000, 'FM990.000')
                ELSE to_char(nanoseconds / 1000, 'FM9999990.0') END || ' µs'
$$;

CREATE FUNCTION bench.millis(nanoseconds double precision) RETURNS text
LANGUAGE sql IMMUTABLE AS $$ SELECT to_char(nanoseconds / 1e6, 'FM9999990.0') || ' ms' $$;
