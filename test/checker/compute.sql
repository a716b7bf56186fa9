-- Values that the extension computes by itself: by tags, and by what the query reads.
\set kind random(0, 6)
\set g random(0, 3)
\set row random(0, 19)
\set by random(1, 1000000000)
\set how random(1, 4)
\if :how = 1
BEGIN ISOLATION LEVEL REPEATABLE READ;
\else
BEGIN;
\endif
SELECT checker.check_computed(:kind, :g, :tracked = 1, 'computed');
\if :how > 2
SELECT checker.write(:kind, :row, :by);
SELECT checker.check_computed(:kind, :g, :tracked = 1, 'computed after own write');
\endif
\if :how = 4
ROLLBACK;
\else
END;
\endif
SELECT checker.check_computed(:kind, :g, :tracked = 1, 'computed, after the end');
