-- An old snapshot.
\set a random(1, 6)
\set b random(1, 6)
\set pause random(0, 3000)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM watching.one;
SELECT watching.check_one(:b);
\sleep :pause us
SELECT watching.check_one(:a);
SELECT watching.check_one(:b);
COMMIT;
