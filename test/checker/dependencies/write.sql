\set id random(1, 20)
\set what random(1, 8)
\set end random(1, 4)
\set a random(1, 6)
\set pause random(0, 1000)
BEGIN;
SELECT watching.check_one(:a);
\if :what = 1
INSERT INTO watching.one VALUES (:id, 1) ON CONFLICT (id) DO UPDATE SET v = one.v + 1;
\elif :what = 2
DELETE FROM watching.one WHERE id = :id;
\elif :what = 3
INSERT INTO watching.two SELECT id, 1 FROM watching.one WHERE id = :id FOR KEY SHARE ON CONFLICT (id) DO UPDATE SET v = two.v + 1;
\elif :what = 4
UPDATE watching.parts SET v = v + 1 WHERE id = :id;
\elif :what = 5
UPDATE watching.parts SET id = :id WHERE id = :id - 1;
\elif :what = 6
SAVEPOINT s;
UPDATE watching.fresh SET v = v + 1;
SELECT watching.check_one(6);
ROLLBACK TO s;
SELECT watching.check_one(6);
\elif :what = 7
SAVEPOINT s;
UPDATE watching.one SET v = v + 1 WHERE id = :id;
RELEASE s;
\else
UPDATE watching.fresh SET v = v + 1;
\endif
SELECT watching.check_one(:a);
\sleep :pause us
SELECT watching.check_one(:a);
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
