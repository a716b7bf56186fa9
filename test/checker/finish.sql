-- Ends what other sessions have prepared and left.
\set pause random(1, 2000)
\set end random(1, 2)
\set kind random(0, 6)
\set g random(0, 3)
\sleep :pause us
SELECT count(*) AS there, coalesce((array_agg(gid ORDER BY prepared))[1], '') AS gid
FROM pg_prepared_xacts WHERE gid LIKE 'left-%' AND database = current_database() \gset
\if :there > 0
SELECT checker.check_entry(:kind, :g, 'before another''s end') AS cached \gset
SELECT checker.computed(:kind, :g) AS value \gset
\if :end = 1
COMMIT PREPARED ':gid';
\else
ROLLBACK PREPARED ':gid';
\endif
SELECT checker.count('checker.finished');
\if :cached = -1
SELECT checker.fill(:kind, :g, ':value', false);
\endif
SELECT checker.check_entry(:kind, :g, 'after another''s end');
\endif
