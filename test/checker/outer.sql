-- Fills and reads from within queries: a cursor that stays open while others commit, a volatile function under an older snapshot.
\set g random(0, 3)
\set kind random(0, 4)
\set how random(1, 3)
\if :how = 1
SELECT checker.fill_from_outer(:kind, x.g, checker.computed(:kind, x.g)) FROM generate_series(0, 3) AS x(g);
\elif :how = 2
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT checker.check_entry(:kind, x.g, 'cursor') FROM generate_series(0, 3) AS x(g);
FETCH 1 FROM c;
SELECT checker.check_entry(:kind, :g, 'beside a cursor') AS cached \gset
FETCH 1 FROM c;
\if :cached = -1
SELECT checker.computed(:kind, :g) AS value \gset
SELECT checker.fill(:kind, :g, ':value', false);
\endif
FETCH 2 FROM c;
END;
\else
BEGIN;
DECLARE c NO SCROLL CURSOR FOR SELECT checker.fill_from_outer(:kind, x.g, checker.computed(:kind, x.g)) FROM generate_series(0, 3) AS x(g);
FETCH 2 FROM c;
SELECT checker.check_entry(:kind, :g, 'beside a cursor');
FETCH 2 FROM c;
END;
\endif
