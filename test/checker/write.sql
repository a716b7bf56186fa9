-- Writes, reads what it wrote, fills from it, with savepoints that come and go, and commits or does not.
\set kind random(0, 5)
\set kind2 random(0, 5)
\set g random(0, 3)
\set g2 random(0, 3)
\set row random(0, 19)
\set row2 random(0, 19)
\set by random(1, 1000000000)
\set how random(1, 8)
\set isolation random(1, 3)
\set early random(1, 3)
\if :early = 1
-- A miss before the transaction: its lease may be answered from within it.
SELECT checker.check_entry(:kind, :g, 'before');
\endif
\if :isolation = 1
BEGIN ISOLATION LEVEL REPEATABLE READ;
\else
BEGIN ISOLATION LEVEL READ COMMITTED;
\endif
\if :early = 2
SELECT checker.check_entry(:kind, :g, 'first');
\endif
SELECT checker.write(:kind, :row, :by);
SELECT checker.check_own(:kind, :g, 'own write');
\if :how > 3
SAVEPOINT a;
SELECT checker.write(:kind2, :row2, :by);
SELECT checker.check_own(:kind2, :g2, 'own write in a savepoint') AS cached \gset
SELECT checker.truth(:kind2, :g2) AS value \gset
\if :how = 4
ROLLBACK TO SAVEPOINT a;
SELECT checker.check_own(:kind2, :g2, 'after rollback to a savepoint');
\if :kind2 < 5 and :early = 1
-- A value that was computed from what has just been rolled back answers a miss: refused.
SELECT CASE WHEN :cached = -1 THEN checker.fill(:kind2, :g2, :value) END;
\endif
\elif :how = 5
RELEASE SAVEPOINT a;
\if :cached = -1 and :kind2 < 5
SELECT checker.fill(:kind2, :g2, :value);
SELECT checker.check_own(:kind2, :g2, 'own set');
\endif
\elif :how = 6
SELECT CASE WHEN :cached = -1 AND :kind2 < 5 THEN checker.fill(:kind2, :g2, :value) END;
ROLLBACK TO SAVEPOINT a;
SELECT checker.check_own(:kind2, :g2, 'after rollback of a set');
\endif
\endif
SELECT checker.check_own(:kind, :g, 'own write, later') AS cached \gset
\if :cached = -1 and :kind < 5
SELECT checker.truth(:kind, :g) AS value \gset
SELECT checker.fill(:kind, :g, :value);
SELECT checker.check_own(:kind, :g, 'written through');
\endif
\if :how = 1
ROLLBACK;
\elif :how = 8 and :client_id < :prepared
PREPARE TRANSACTION ':client_id';
SELECT checker.check_entry(:kind, :g, 'prepared') AS cached \gset
SELECT checker.truth(:kind, :g) AS value \gset
\set end random(1, 2)
\if :end = 1
COMMIT PREPARED ':client_id';
\else
ROLLBACK PREPARED ':client_id';
\endif
\if :cached = -1
SELECT checker.fill(:kind, :g, :value);
\endif
\else
END;
\endif
SELECT checker.check_entry(:kind, :g, 'after the end');
SELECT checker.check_entry(:kind2, :g2, 'after the end');
