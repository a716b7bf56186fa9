-- Exports a snapshot, of a transaction that has written or not. It ends when nobody is importing: whoever is holds the lock. So it must not fail before.
\set kind random(0, 6)
\set g random(0, 3)
\set row random(0, 19)
\set by random(1, 1000000000)
\set how random(1, 3)
\set pause random(100, 20000)
SELECT pg_advisory_unlock_all();
BEGIN ISOLATION LEVEL REPEATABLE READ;
\if :how = 1
SELECT checker.write(:kind, :row, :by);
\endif
SELECT pg_export_snapshot();
\if :how = 2
SELECT checker.write_if_free(:kind, :row, :by);
\endif
\sleep :pause us
SELECT checker.check_own(:kind, :g, 'exported snapshot');
SELECT pg_advisory_lock(4242);
END;
SELECT pg_advisory_unlock(4242);
SELECT checker.count('checker.exported');
