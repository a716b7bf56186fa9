-- A table that nobody has depended on yet: watching begins while others write it. (TRUNCATE is left out: old snapshots see it too early.)
\set what random(1, 3)
\if :what = 1
BEGIN;
DROP TABLE watching.fresh;
CREATE TABLE watching.fresh (v int);
INSERT INTO watching.fresh VALUES (1);
COMMIT;
\elif :what = 2
SET track_counts = off;
UPDATE watching.parts SET v = v + 1 WHERE id = 3;
RESET track_counts;
\else
SELECT watching.check_one(6);
\endif
