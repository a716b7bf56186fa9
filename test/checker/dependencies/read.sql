\set a random(1, 6)
\set b random(1, 6)
SELECT watching.check_one(:a);
SELECT watching.check_one(:b);
