-- Writes, reads what it wrote, fills from it, with savepoints that come and go, and commits, prepares or does neither.
\set kind random(0, 6)
\set kind2 random(0, 6)
\set g random(0, 3)
\set g2 random(0, 3)
\set row random(0, 19)
\set row2 random(0, 19)
\set by random(1, 1000000000)
\set how random(1, 16)
\set isolation random(1, 8)
\set early random(1, 3)
\set end random(1, 3)
\set short random(1, 10)
\if :early = 1
-- A miss before the transaction: its lease may be answered from within it.
SELECT checker.check_entry(:kind, :g, 'before');
\endif
\if :isolation <= 2
BEGIN ISOLATION LEVEL REPEATABLE READ;
\elif :isolation = 3
BEGIN ISOLATION LEVEL SERIALIZABLE;
\elif :isolation = 4
BEGIN ISOLATION LEVEL SERIALIZABLE;
SET LOCAL cache_ext.serializable = allow;
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
SELECT checker.computed(:kind2, :g2) AS value \gset
\if :how = 4
ROLLBACK TO SAVEPOINT a;
SELECT checker.check_own(:kind2, :g2, 'after rollback to a savepoint');
\if :kind2 <> 5 and :early = 1 and :cached = -1
-- A value that was computed from what has just been rolled back answers a miss: refused.
SELECT checker.fill(:kind2, :g2, ':value', false);
\endif
\elif :how = 5
RELEASE SAVEPOINT a;
\if :cached = -1 and :kind2 <> 5
SELECT checker.fill(:kind2, :g2, ':value', :short = 1);
SELECT checker.check_own(:kind2, :g2, 'own set');
\endif
\elif :how = 6
SAVEPOINT b;
\if :cached = -1 and :kind2 <> 5
SELECT checker.fill(:kind2, :g2, ':value', false);
\endif
RELEASE SAVEPOINT b;
ROLLBACK TO SAVEPOINT a;
SELECT checker.check_own(:kind2, :g2, 'after rollback of a set');
\endif
\endif
SELECT checker.check_own(:kind, :g, 'own write, later') AS cached \gset
\if :cached = -1 and :kind <> 5
SELECT checker.computed(:kind, :g) AS value \gset
SELECT checker.fill(:kind, :g, ':value', :short = 1);
SELECT checker.check_own(:kind, :g, 'written through');
\endif
\if :how = 1
ROLLBACK;
\elif :how = 8 and :client_id < :prepared
-- Some are left to another session, which finish.sql is for; where one still is, its name is taken.
SELECT count(*) AS left_over FROM pg_prepared_xacts WHERE gid = 'left-:who-:client_id' \gset
\if :left_over = 0 and (:end = 3 or :killed = 1)
PREPARE TRANSACTION 'left-:who-:client_id';
\elif :killed = 1
END;
\else
PREPARE TRANSACTION 'own-:who-:client_id';
SELECT checker.check_entry(:kind, :g, 'prepared') AS cached \gset
SELECT checker.computed(:kind, :g) AS value \gset
\if :end = 1
COMMIT PREPARED 'own-:who-:client_id';
\else
ROLLBACK PREPARED 'own-:who-:client_id';
\endif
\if :cached = -1
SELECT checker.fill(:kind, :g, ':value', false);
\endif
\endif
\else
END;
\endif
SELECT checker.check_entry(:kind, :g, 'after the end');
SELECT checker.check_entry(:kind2, :g2, 'after the end');
