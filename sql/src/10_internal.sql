-- What the extension keeps for itself. The schema is closed to everyone else.

CREATE SCHEMA cache_ext_internal;
REVOKE ALL ON SCHEMA cache_ext_internal FROM PUBLIC;
COMMENT ON SCHEMA cache_ext_internal IS 'internal objects of cache_ext';

-- The random id of this incarnation of the extension. Never dumped: a restored database starts with an empty cache.
CREATE TABLE cache_ext_internal.identity (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    space_id uuid NOT NULL
);
COMMENT ON TABLE cache_ext_internal.identity IS 'the random id to which this installation''s cache entries belong';
INSERT INTO cache_ext_internal.identity (space_id) VALUES (pg_catalog.gen_random_uuid());
