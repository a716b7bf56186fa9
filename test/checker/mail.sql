-- Fills across sessions: one computes, another stores with the first one's lease.
\set kind random(0, 6)
\set g random(0, 3)
\set which random(0, 6)
\set short random(1, 10)
SELECT coalesce(lease, 'none') AS lease FROM get_cached_entry(checker.key_of(:kind, :g)) \gset
SELECT checker.computed(:kind, :g) AS value \gset
INSERT INTO checker.mail (kind, grp, value, lease) SELECT :kind, :g, ':value', ':lease' WHERE ':lease' <> 'none';
WITH taken AS (
    DELETE FROM checker.mail WHERE id = (SELECT id FROM checker.mail ORDER BY (id + :which) % 7, id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING kind, grp, value, lease)
SELECT checker.fill(kind, grp, value, :short = 1, lease) FROM taken;
