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
) USING heap WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, vacuum_truncate = off);
COMMENT ON TABLE cache_ext_internal.redis_outbox IS 'what Redis is still to be told: a row for each transaction that invalidated something';
CREATE INDEX redis_outbox_by_id ON cache_ext_internal.redis_outbox (id);
-- So that rows can be deleted where all tables are published.
ALTER TABLE cache_ext_internal.redis_outbox REPLICA IDENTITY FULL;

-- The number of the last message whose row has left the outbox. A sequence, since it is written each time.
CREATE SEQUENCE cache_ext_internal.redis_sent;
COMMENT ON SEQUENCE cache_ext_internal.redis_sent IS 'number of the last message that Redis acknowledged and that is no longer in redis_outbox';

-- What the sender remembers from one start to the next.
CREATE TABLE cache_ext_internal.redis_state (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    -- No message has a number above it.
    reserved bigint NOT NULL DEFAULT 0,
    -- Every invalidation since has gone into the outbox.
    complete boolean NOT NULL DEFAULT false,
    -- Of the values that are put into Redis: the last generation.
    generation bigint NOT NULL DEFAULT 0,
    -- Whether any has been put there.
    has_put boolean NOT NULL DEFAULT false,
    -- Of the server's log, when this was written.
    timeline integer NOT NULL DEFAULT 0,
    -- Of a Redis Cluster: the servers that have been told all that was acknowledged, by their run ids.
    runs text NOT NULL DEFAULT ''
);
COMMENT ON TABLE cache_ext_internal.redis_state IS 'what is remembered of the messages to Redis';
INSERT INTO cache_ext_internal.redis_state DEFAULT VALUES;

CREATE TABLE cache_ext_internal.redis_settings (name text PRIMARY KEY, value text NOT NULL);
COMMENT ON TABLE cache_ext_internal.redis_settings IS 'what update_redis_settings was told, but for secrets';
SELECT pg_catalog.pg_extension_config_dump('cache_ext_internal.redis_settings', '');

-- Never dumped.
CREATE TABLE cache_ext_internal.redis_secrets (name text PRIMARY KEY, value text NOT NULL);
COMMENT ON TABLE cache_ext_internal.redis_secrets IS 'users, passwords and token that update_redis_settings was told';

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

CREATE FUNCTION cache_ext_internal.redis_status(
    OUT enabled boolean, OUT state text, OUT server text, OUT pid integer, OUT up_since timestamptz, OUT last_error text,
    OUT last_error_at timestamptz, OUT sequence bigint, OUT rows_sent bigint, OUT keys_deleted bigint, OUT values_put bigint,
    OUT messages_received bigint, OUT compactions bigint, OUT round_trip_ms double precision, OUT listening boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'redis_status';
COMMENT ON FUNCTION cache_ext_internal.redis_status() IS 'what the process that talks to Redis says of itself; whoever reads cache_redis_status executes it';

CREATE VIEW cache_redis_status AS
SELECT s.enabled, s.state, s.server, s.pid, s.up_since, s.last_error, s.last_error_at, s.sequence, s.rows_sent, b.backlog_rows, b.waiting_since,
       s.keys_deleted, s.values_put, s.messages_received, s.compactions, s.round_trip_ms, s.listening
FROM cache_ext_internal.redis_status() s
CROSS JOIN (SELECT count(*) AS backlog_rows, min(o.added_at) AS waiting_since FROM cache_ext_internal.redis_outbox o) b;
COMMENT ON VIEW cache_redis_status IS 'how telling Redis goes, in one row';
COMMENT ON COLUMN cache_redis_status.state IS
    'off, starting, not running, or of the connection: connecting, up, waiting (between two attempts), open (the breaker: no attempts for a while), misconfigured';
COMMENT ON COLUMN cache_redis_status.sequence IS 'number of the last message that Redis acknowledged';
COMMENT ON COLUMN cache_redis_status.backlog_rows IS 'rows of the outbox that were not acknowledged yet';
COMMENT ON COLUMN cache_redis_status.waiting_since IS 'when the oldest of them was added';
COMMENT ON COLUMN cache_redis_status.compactions IS 'times that a long backlog was made shorter';

CREATE FUNCTION get_redis_settings()
RETURNS jsonb LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'get_redis_settings';
COMMENT ON FUNCTION get_redis_settings() IS 'the settings of Redis that hold in this database, secrets masked';

CREATE FUNCTION cache_ext_internal.redis_settings_in_force()
RETURNS jsonb LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'get_redis_settings';
COMMENT ON FUNCTION cache_ext_internal.redis_settings_in_force() IS 'the same as get_redis_settings, in a place that no search_path decides';

CREATE FUNCTION cache_ext_internal.check_redis_setting(p_name text, p_value text, p_json_type text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'check_redis_setting';
COMMENT ON FUNCTION cache_ext_internal.check_redis_setting(text, text, text) IS 'raises the error for a setting that update_redis_settings does not take';

CREATE FUNCTION cache_ext_internal.redis_url_parts(p_url text, OUT url text, OUT user_name text, OUT password text,
    OUT sentinel_user text, OUT sentinel_password text, OUT place text)
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'redis_url_parts';
COMMENT ON FUNCTION cache_ext_internal.redis_url_parts(text) IS 'an address of Redis without users and passwords, these, and where it is';

CREATE FUNCTION cache_ext_internal.apply_redis_settings(p_forget boolean)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'apply_redis_settings';
COMMENT ON FUNCTION cache_ext_internal.apply_redis_settings(boolean) IS 'sees to it that changed settings are used; and that Redis forgets what it has';

CREATE FUNCTION update_redis_settings(p_settings jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    setting record;
    parts record;
    shown_url text;
    old_place text;
    new_place text;
BEGIN
    IF jsonb_typeof(p_settings) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'Redis settings must be a JSON object',
            HINT = 'For example {"redis_url": "redis://localhost", "redis_enabled": true}.';
    END IF;
    FOR setting IN SELECT s.key AS name, s.value #>> '{}' AS value, jsonb_typeof(s.value) AS kind FROM jsonb_each(p_settings) s LOOP
        PERFORM cache_ext_internal.check_redis_setting(setting.name, setting.value, setting.kind);
    END LOOP;

    -- Of two who change them at the same time one comes after the other, and forgets the secrets that the other has set for another place.
    LOCK TABLE cache_ext_internal.redis_settings IN SHARE ROW EXCLUSIVE MODE;
    -- What get_redis_settings shows may be given back: a masked secret stays what it is.
    shown_url := cache_ext_internal.redis_settings_in_force() ->> 'redis_url';
    IF shown_url LIKE '%***%' AND p_settings ->> 'redis_url' = shown_url THEN
        p_settings := p_settings - 'redis_url';
    END IF;
    IF p_settings ->> 'redis_token' = '***' THEN
        p_settings := p_settings - 'redis_token';
    END IF;

    IF p_settings ? 'redis_url' THEN
        SELECT p.place INTO old_place
        FROM cache_ext_internal.redis_settings s, cache_ext_internal.redis_url_parts(s.value) p WHERE s.name = 'redis_url';
        DELETE FROM cache_ext_internal.redis_settings s WHERE s.name = 'redis_url';
        IF p_settings ->> 'redis_url' IS NOT NULL THEN
            SELECT * INTO parts FROM cache_ext_internal.redis_url_parts(p_settings ->> 'redis_url');
            new_place := parts.place;
            IF new_place IS DISTINCT FROM old_place AND '***' IN (parts.password, parts.sentinel_password) THEN
                RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'invalid value for Redis setting "redis_url"',
                    DETAIL = 'The password is masked, and none is set here for that place.';
            END IF;
            INSERT INTO cache_ext_internal.redis_settings VALUES ('redis_url', parts.url);
        END IF;
        -- Secrets go nowhere but where they were meant for.
        IF new_place IS DISTINCT FROM old_place THEN
            DELETE FROM cache_ext_internal.redis_secrets;
        END IF;
        IF new_place IS NOT NULL THEN
            INSERT INTO cache_ext_internal.redis_secrets AS s
            SELECT v.name, v.value
            FROM (VALUES ('user', parts.user_name, parts.password), ('password', parts.password, parts.password),
                         ('sentinel_user', parts.sentinel_user, parts.sentinel_password),
                         ('sentinel_password', parts.sentinel_password, parts.sentinel_password)) v (name, value, password)
            WHERE v.password NOT IN ('', '***')
            ON CONFLICT (name) DO UPDATE SET value = excluded.value;
        END IF;
    END IF;
    IF p_settings ? 'redis_token' THEN
        DELETE FROM cache_ext_internal.redis_secrets s WHERE s.name = 'redis_token';
        INSERT INTO cache_ext_internal.redis_secrets
        SELECT 'redis_token', p_settings ->> 'redis_token' WHERE p_settings ->> 'redis_token' <> '';
    END IF;
    DELETE FROM cache_ext_internal.redis_settings s WHERE p_settings ? s.name AND s.name <> 'redis_url';
    INSERT INTO cache_ext_internal.redis_settings
    SELECT s.key, s.value FROM jsonb_each_text(p_settings) s WHERE s.key NOT IN ('redis_url', 'redis_token') AND s.value IS NOT NULL;

    PERFORM cache_ext_internal.apply_redis_settings(p_settings ?| ARRAY['redis_url', 'redis_enabled', 'redis_prefix', 'redis_namespaces']);
    RETURN cache_ext_internal.redis_settings_in_force();
END
$$;
COMMENT ON FUNCTION update_redis_settings(jsonb) IS
    'sets what is given for this database, in place of the configuration; null takes the configuration again. The settings that hold then';
