-- Reads under one snapshot or several, and fills after a miss: get, compute, set, each a statement of its own.
\set kind random(0, 5)
\set g random(0, 3)
\set isolation random(1, 4)
\if :isolation = 1
BEGIN ISOLATION LEVEL READ COMMITTED;
\elif :isolation = 2
BEGIN ISOLATION LEVEL REPEATABLE READ;
\elif :isolation = 3
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
\endif
SELECT checker.check_entry(:kind, :g, 'read') AS cached \gset
\if :cached = -1
SELECT checker.truth(:kind, :g) AS value \gset
SELECT checker.fill(:kind, :g, :value) AS accepted \gset
\else
SELECT checker.count('checker.hits');
\endif
\set g random(0, 3)
\set kind random(0, 5)
SELECT checker.check_entry(:kind, :g, 'read again');
SELECT checker.check_time(:kind, :g);
\if :isolation < 4
END;
\endif
