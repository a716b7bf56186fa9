-- What is read and written everywhere: 10,000 keys with a value of 1 kB each, and a loop over them in random order.

CREATE FUNCTION bench.key(n bigint) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT 'db_query:products:' || lpad(n::text, 8, '0') $$;

-- About 1 kB as stored: some members, as a row of a result has, and a text.
CREATE FUNCTION bench.value(n bigint) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_build_object('id', n, 'name', 'Product ' || n, 'price', (n % 1000) / 100.0, 'available', n % 3 = 0,
                              'description', repeat(md5(n::text), 28))
$$;

CREATE TABLE bench.item AS
SELECT n, bench.key(n) AS key, bench.value(n) AS value, ARRAY['products', 'product:' || n % 100] AS tags
FROM generate_series(1, 10000) n;

-- Every key ten times.
SELECT setseed(0.5);
CREATE TABLE bench.probe AS
SELECT i.n, i.key FROM bench.item i CROSS JOIN generate_series(1, 10) ORDER BY random();

VACUUM (FREEZE, ANALYZE) bench.item, bench.probe;
