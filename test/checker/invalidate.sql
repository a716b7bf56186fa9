-- Invalidations by call, alone and in transactions that are rolled back.
\set g random(0, 3)
\set how random(1, 6)
\if :how = 1
SELECT invalidate_cache_by_tags(ARRAY['item:' || :g, 'bulk:' || :g]);
\elif :how = 2
SELECT invalidate_cache_key('item:' || :g);
\elif :how = 3
SELECT invalidate_cache_by_pattern('b*:' || :g);
\elif :how = 4
BEGIN;
SELECT invalidate_cache_by_tags('{kind:0,kind:2,kind:6,items}');
SELECT checker.check_entry(0, :g, 'own invalidation');
ROLLBACK;
\elif :how = 5
BEGIN;
SAVEPOINT a;
SELECT invalidate_cache_by_tags('{kind:5}');
ROLLBACK TO SAVEPOINT a;
SELECT checker.check_entry(5, :g, 'invalidation rolled back');
END;
\else
SELECT expire_cache_by_tags(ARRAY['late:' || :g]);
\endif
