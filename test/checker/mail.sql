-- Fills across sessions: one computes, another stores with the first one's lease.
\set kind random(0, 5)
\set g random(0, 3)
SELECT coalesce((get_cached_entry(checker.key_of(:kind, :g))).lease, 'none') = 'none' AS hit,
       coalesce((get_cached_entry(checker.key_of(:kind, :g))).lease, 'none') AS lease \gset
SELECT checker.truth(:kind, :g) AS value \gset
INSERT INTO checker.mail (kind, grp, value, lease) SELECT :kind, :g, :value, ':lease' WHERE ':lease' <> 'none';
WITH taken AS (
    DELETE FROM checker.mail WHERE id = (SELECT id FROM checker.mail ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING kind, grp, value, lease)
SELECT checker.fill(kind, grp, value, lease) FROM taken;
