-- Reads and fills under a snapshot that another session has exported, older than much of what this one has seen.
\set kind random(0, 6)
\set g random(0, 3)
\set kind2 random(0, 6)
\set g2 random(0, 3)
\set pause random(1, 2000)
SELECT pg_advisory_unlock_all();
SELECT pg_advisory_lock_shared(4242);
SELECT count(*) AS there, coalesce(min(file), '') AS id FROM pg_ls_dir('pg_snapshots') AS file WHERE file !~ 'tmp' \gset
\if :there > 0
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET TRANSACTION SNAPSHOT ':id';
SELECT checker.check_entry(:kind, :g, 'imported snapshot') AS cached \gset
\if :cached = -1
SELECT checker.computed(:kind, :g) AS value \gset
\sleep :pause us
SELECT checker.fill(:kind, :g, ':value', false);
SELECT checker.check_entry(:kind, :g, 'own set under an imported snapshot');
\endif
SELECT checker.check_computed(:kind2, :g2, :tracked = 1, 'computed under an imported snapshot');
END;
\endif
SELECT pg_advisory_unlock_shared(4242);
SELECT checker.check_entry(:kind, :g, 'after an imported snapshot');
