-- Without waiting for an answer, and in one transaction up to the end of the pipeline.
\set kind random(3, 5)
\set g random(0, 3)
\set row random(0, 19)
\set by random(1, 1000000000)
\startpipeline
SELECT checker.check_entry(:kind, :g, 'pipeline');
SELECT checker.write(:kind, :row, :by);
SELECT checker.check_own(:kind, :g, 'own write in a pipeline');
SELECT checker.fill(:kind, :g, checker.computed(:kind, :g), false) WHERE :kind <> 5;
SELECT checker.check_own(:kind, :g, 'written through in a pipeline');
\endpipeline
SELECT checker.check_entry(:kind, :g, 'after a pipeline');
\startpipeline
SELECT checker.check_entry(:kind, :g, 'pipeline without a write');
SELECT checker.fill(:kind, :g, checker.computed(:kind, :g), false);
SELECT checker.check_entry(:kind, :g, 'pipeline without a write, after a set');
\endpipeline
