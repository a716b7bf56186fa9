-- Reads only.
\set kind random(0, 6)
\set g random(0, 3)
SELECT checker.check_entry(:kind, :g, 'look') AS cached \gset
\if :cached <> -1
SELECT checker.count('checker.hits');
\endif
