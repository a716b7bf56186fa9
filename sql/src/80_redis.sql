-- Redis: the outbox of what it is to be told, and the settings that a database has of its own.

CREATE SEQUENCE cache_ext_internal.redis_outbox_id;
COMMENT ON SEQUENCE cache_ext_internal.redis_outbox_id IS 'numbers the rows of redis_outbox about in the order of their commits';

-- Kept as a heap whatever the default is: rows are put straight into it.
CREATE TABLE cache_ext_internal.redis_outbox (
    id bigint NOT NULL DEFAULT pg_catalog.nextval('cache_ext_internal.redis_outbox_id'),
    added_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    keys text[] NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    patterns text[] NOT NULL DEFAULT '{}',
    everything boolean NOT NULL DEFAULT false
) USING heap WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
COMMENT ON TABLE cache_ext_internal.redis_outbox IS 'what Redis is still to be told: a row for each transaction that invalidated something';
CREATE INDEX redis_outbox_by_id ON cache_ext_internal.redis_outbox (id);

-- What the sender remembers from one start to the next.
CREATE TABLE cache_ext_internal.redis_state (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- No message has a number above it.
    reserved bigint NOT NULL DEFAULT 0,
    -- Every invalidation since has gone into the outbox.
    complete boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE cache_ext_internal.redis_state IS 'what is remembered of the messages to Redis';
INSERT INTO cache_ext_internal.redis_state DEFAULT VALUES;

CREATE TABLE cache_ext_internal.redis_settings (name text PRIMARY KEY, value text NOT NULL);
COMMENT ON TABLE cache_ext_internal.redis_settings IS 'what update_redis_settings was told, but for secrets';
SELECT pg_catalog.pg_extension_config_dump('cache_ext_internal.redis_settings', '');

-- Never dumped.
CREATE TABLE cache_ext_internal.redis_secrets (name text PRIMARY KEY, value text NOT NULL);
COMMENT ON TABLE cache_ext_internal.redis_secrets IS 'password and token that update_redis_settings was told';

CREATE TRIGGER redis_settings_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cache_ext_internal.redis_settings
FOR EACH STATEMENT EXECUTE FUNCTION cache_ext_internal.settings_changed();
CREATE TRIGGER redis_secrets_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cache_ext_internal.redis_secrets
FOR EACH STATEMENT EXECUTE FUNCTION cache_ext_internal.settings_changed();

-- Makes a long outbox shorter: its oldest rows become one, with each name once. More names than p_most_names, or more rows than p_most_rows
-- after that, become "everything". Rows that are being sent are left out.
CREATE FUNCTION cache_ext_internal.compact_redis_outbox(p_being_sent bigint[], p_most_rows bigint, p_most_names bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    waiting bigint;
    gone bigint;
BEGIN
    SELECT count(*) INTO waiting FROM cache_ext_internal.redis_outbox o WHERE o.id <> ALL (p_being_sent);
    IF waiting > p_most_rows THEN
        WITH old AS (
            DELETE FROM cache_ext_internal.redis_outbox o WHERE o.id <> ALL (p_being_sent) RETURNING o.id, o.added_at
        ), new AS (
            INSERT INTO cache_ext_internal.redis_outbox (id, added_at, everything)
            SELECT min(old.id), min(old.added_at), true FROM old HAVING count(*) > 0
        )
        SELECT count(*) INTO gone FROM old;
        RETURN gone;
    END IF;

    WITH old AS (
        DELETE FROM cache_ext_internal.redis_outbox o
        WHERE o.id IN (SELECT i.id FROM cache_ext_internal.redis_outbox i WHERE i.id <> ALL (p_being_sent) ORDER BY i.id LIMIT 10000)
        RETURNING o.*
    ), names AS (
        SELECT ARRAY(SELECT DISTINCT unnest(old.keys) FROM old) AS keys, ARRAY(SELECT DISTINCT unnest(old.tags) FROM old) AS tags,
               ARRAY(SELECT DISTINCT unnest(old.patterns) FROM old) AS patterns
    ), total AS (
        SELECT min(old.id) AS id, min(old.added_at) AS added_at, count(*) AS rows,
               bool_or(old.everything) OR (SELECT cardinality(n.keys) + cardinality(n.tags) + cardinality(n.patterns) FROM names n) > p_most_names
                   AS everything
        FROM old
    ), new AS (
        INSERT INTO cache_ext_internal.redis_outbox (id, added_at, keys, tags, patterns, everything)
        SELECT t.id, t.added_at, CASE WHEN t.everything THEN '{}' ELSE n.keys END, CASE WHEN t.everything THEN '{}' ELSE n.tags END,
               CASE WHEN t.everything THEN '{}' ELSE n.patterns END, t.everything
        FROM total t CROSS JOIN names n WHERE t.rows > 0
    )
    SELECT t.rows INTO gone FROM total t;
    RETURN gone;
END
$$;
COMMENT ON FUNCTION cache_ext_internal.compact_redis_outbox(bigint[], bigint, bigint) IS
    'makes the outbox of Redis shorter; how many rows became one';
