-- Queues within one session: order, transactions and savepoints, what is refused, who may.
SET client_min_messages = warning;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE EXTENSION cache_ext;
-- Where an item lies is not this test's.
CREATE FUNCTION tables() RETURNS bigint LANGUAGE sql AS $$ SELECT (SELECT count(*) FROM cache_ext_internal.queue_items_0) + (SELECT count(*) FROM cache_ext_internal.queue_items_1)
    + (SELECT count(*) FROM cache_ext_internal.queue_items_2) $$;

SELECT queue_length('q'), dequeue('q');
SELECT enqueue('q', '{"n": 1}') < enqueue('q', '{"n": 2}') AS rising;
SELECT enqueue('other', '"o"') > 0 AS added;
SELECT queue_length('q'), queue_length('other'), queue_length('Q');
SELECT dequeue('q'), dequeue('q'), dequeue('q'), dequeue('other');
SELECT tables();

-- Any JSON, null too, is an item; the order is that of adding.
SELECT count(enqueue('j', v::jsonb)) FROM unnest(ARRAY['null', '0', '"x"', '[]', '{}']) AS v;
SELECT queue_length('j') AS length;
SELECT dequeue('j'), dequeue('j'), dequeue('j'), dequeue('j'), dequeue('j'), dequeue('j') IS NULL AS nothing;

-- One statement takes several, each once.
SELECT count(enqueue('s', to_jsonb(i))) FROM generate_series(1, 100) i;
SELECT array_agg(d ORDER BY n) = ARRAY(SELECT to_jsonb(i) FROM generate_series(1, 60) i) AS in_order FROM (SELECT n, dequeue('s') AS d FROM generate_series(1, 60) n) t;
SELECT queue_length('s');

-- A rollback leaves what was there, in its place.
BEGIN;
SELECT enqueue('s', '"never"') > 0 AS added;
SELECT count(dequeue('s')) FROM generate_series(1, 41);
SELECT queue_length('s');
ROLLBACK;
SELECT queue_length('s'), dequeue('s');
BEGIN;
SELECT dequeue('s');
SAVEPOINT a;
SELECT dequeue('s'), enqueue('s', '"late"') > 0 AS added;
ROLLBACK TO a;
SELECT dequeue('s');
COMMIT;
SELECT queue_length('s'), dequeue('s');
-- A long transaction that takes and gives back, more than once.
BEGIN;
SELECT count(enqueue('r', to_jsonb(i))) FROM generate_series(1, 1000) i;
SAVEPOINT a;
SELECT count(dequeue('r')) FROM generate_series(1, 900);
ROLLBACK TO a;
SELECT queue_length('r'), dequeue('r');
COMMIT;
BEGIN;
SELECT count(dequeue('r')) FROM generate_series(1, 900);
ROLLBACK;
SELECT queue_length('r'), dequeue('r');
DO $$ BEGIN FOR i IN 1..500 LOOP PERFORM dequeue('r'); COMMIT; END LOOP; END $$;
SELECT queue_length('r'), dequeue('r');

-- Mistakes.
SELECT enqueue(NULL, '1');
SELECT enqueue('', '1');
SELECT enqueue('q', NULL);
SELECT enqueue(repeat('q', 1025), '1');
SELECT enqueue('q', to_jsonb(repeat('x', 17 * 1024 * 1024)));
SELECT dequeue(NULL);
SELECT dequeue('');
SELECT queue_length(NULL);
BEGIN READ ONLY;
SELECT queue_length('r') > 0 AS any;
SELECT enqueue('q', '1');
ROLLBACK;
BEGIN READ ONLY;
SELECT dequeue('r');
ROLLBACK;
-- The longest name, and a large item.
SELECT enqueue(repeat('q', 1024), to_jsonb(repeat('x', 1024 * 1024))) > 0 AS added;
SELECT length(dequeue(repeat('q', 1024)) #>> '{}');

-- Who may.
SET ROLE authenticated;
SELECT enqueue('q', '1');
SELECT dequeue('q');
SELECT queue_length('q');
SET ROLE service_role;
SELECT enqueue('q', '{"by": "service_role"}') > 0 AS added;
SELECT queue_length('q'), dequeue('q');
SELECT * FROM cache_ext_internal.queue_items_0;
RESET ROLE;

DROP FUNCTION tables;
DROP EXTENSION cache_ext;
DROP ROLE authenticated, service_role;
