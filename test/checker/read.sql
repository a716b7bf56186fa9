-- Reads under one snapshot or several, and fills after a miss: get, compute, set, each a statement of its own.
\set kind random(0, 6)
\set g random(0, 3)
\set kind2 random(0, 6)
\set g2 random(0, 3)
\set isolation random(1, 6)
\set short random(1, 10)
\if :isolation = 1
BEGIN ISOLATION LEVEL READ COMMITTED;
\elif :isolation = 2
BEGIN ISOLATION LEVEL REPEATABLE READ;
\elif :isolation = 3
BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
\elif :isolation = 4
BEGIN ISOLATION LEVEL SERIALIZABLE;
\elif :isolation = 5
BEGIN ISOLATION LEVEL SERIALIZABLE;
SET LOCAL cache_ext.serializable = allow;
\endif
SELECT checker.check_entry(:kind, :g, 'read') AS cached \gset
\if :cached = -1
SELECT checker.computed(:kind, :g) AS value \gset
SELECT checker.fill(:kind, :g, ':value', :short = 1) AS accepted \gset
\else
SELECT checker.count('checker.hits');
\endif
SELECT checker.check_entry(:kind2, :g2, 'read again');
SELECT checker.check_time(:kind2, :g2);
\if :isolation < 6
END;
\endif
