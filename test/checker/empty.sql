-- TRUNCATE. Who looks takes its snapshot when it has the table, since an older one would see it empty too early.
\set g random(0, 3)
\set by random(1, 1000000000)
\set how random(1, 8)
\if :how <= 2
BEGIN;
TRUNCATE checker.emptied;
SELECT checker.check_emptied(:g, 'own truncate');
INSERT INTO checker.emptied SELECT i % 4, :by + i FROM generate_series(0, 7) AS i;
SELECT checker.check_emptied(:g, 'own truncate and insert');
\if :how = 1
ROLLBACK;
\else
END;
\endif
\elif :how = 3
BEGIN;
LOCK TABLE checker.emptied IN ROW EXCLUSIVE MODE;
INSERT INTO checker.emptied VALUES (:g, :by);
END;
\endif
BEGIN;
LOCK TABLE checker.emptied IN ACCESS SHARE MODE;
SELECT checker.check_emptied(:g, 'truncated') AS cached \gset
\if :cached = -1
SELECT checker.described(checker.truth_emptied(:g)) AS value \gset
SELECT checker.fill(7, :g, ':value', false);
\endif
END;
