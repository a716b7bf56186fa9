-- The demo itself. Other sessions are looked at by a second psql, which finds the same server.

\set ON_ERROR_STOP on
\echo
\echo '1. Each query computed by the server, and read from the cache (medians, measured in the server: a'
\echo '   client\'s round trip comes on top of either). 1st read: by the cache, computing what it has not.'
\echo '   Equal: the cached answer and the query, both in one statement.'
\echo
CALL demo.measure('before');
SELECT demo.report('before');

\echo
\echo '2. A transaction changes all three tables: a package grows, a new one comes that needs what most'
\echo '   others need, and two files of the largest owner go.'
\echo
BEGIN;
UPDATE packages SET installed_kb = installed_kb + 1024 * 1024 FROM demo.subject s WHERE name = s.package;
INSERT INTO packages
SELECT 'cache-ext-demo', '1', section, maintainer, 100 * 1024 * 1024, 'a library or a tool or data'
FROM packages JOIN demo.subject s ON name = s.package;
INSERT INTO dependencies
SELECT 'cache-ext-demo', 'depends', top.package FROM (
    SELECT jsonb_path_query(answer, '$[*].package') #>> '{}' FROM demo.results WHERE phase = 'before' AND number = 1) AS top (package)
UNION SELECT 'cache-ext-demo', 'depends', min(name) FROM packages
WHERE maintainer = (SELECT answer->0->>'maintainer' FROM demo.results WHERE phase = 'before' AND number = 4);
DELETE FROM storage.objects WHERE id IN (
    SELECT id FROM storage.objects JOIN demo.subject s ON owner_id = s.owner ORDER BY (metadata->>'size')::bigint DESC LIMIT 2);

SELECT demo.served('before') AS own \gset
\set other `psql -XAtq -c "SELECT demo.served('before')"`
COMMIT;
\set after `psql -XAtq -c "SELECT demo.served('before')"`
INSERT INTO demo.checks VALUES
    (2, 'before the commit, the transaction itself reads from the cache', :'own', '1 of 9'),
    (2, 'before the commit, another session reads from the cache, as it was', :'other', '9 of 9'),
    (2, 'right after the commit, another session reads from the cache', :'after', '1 of 9');
SELECT demo.lines(2);
\echo
CALL demo.measure('after');
SELECT demo.report('after');
\echo
SELECT demo.answers('before', 'after');

\echo
\echo '3. Another transaction deletes half of everything, and rolls back.'
\echo
CREATE TEMP TABLE kept AS
SELECT q.number, e.created_at, e.cache_data FROM demo.queries q, get_cached_entry(demo.key(q)) e;
BEGIN;
DELETE FROM dependencies WHERE dependency >= 'lib';
UPDATE packages SET installed_kb = 0 WHERE name >= 'lib';
DELETE FROM storage.objects WHERE owner_id IN (SELECT unnest(ARRAY[owner, other_owner]) FROM demo.subject);
SELECT demo.served('after') AS own \gset
SELECT demo.compare() AS equal \gset
\set other `psql -XAtq -c "SELECT demo.served('after')"`
ROLLBACK;
SELECT demo.served('after') AS after \gset
\set others `psql -XAtq -c "SELECT demo.served('after')"`
SELECT count(*) FILTER (WHERE e.created_at = k.created_at AND e.cache_data = k.cache_data) || ' of ' || count(*) AS same
FROM kept k JOIN demo.queries q USING (number), get_cached_entry(demo.key(q)) e \gset
INSERT INTO demo.checks VALUES
    (3, 'inside, the transaction itself reads old answers from the cache', :'own', '0 of 9'),
    (3, 'inside, its own answers through the cache equal its own truth', :'equal', '9 of 9'),
    (3, 'inside, another session reads from the cache, as it was', :'other', '9 of 9'),
    (3, 'after the rollback, both read from the cache, as it was', :'after' || ', ' || :'others', '9 of 9, 9 of 9'),
    (3, 'after the rollback, entries that are the very same as before', :'same', '9 of 9');
SELECT demo.compare() AS equal \gset
INSERT INTO demo.checks VALUES (3, 'after the rollback, answers that equal the truth', :'equal', '9 of 9');
SELECT demo.lines(3);

\echo
SELECT demo.verdict();
