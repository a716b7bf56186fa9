-- Policies by key prefix.

CREATE TABLE cache_ext_internal.policies (
    prefix text PRIMARY KEY,
    cache_duration interval,
    grace interval,
    jitter real NOT NULL DEFAULT 0 CHECK (jitter >= 0 AND jitter <= 1),
    tags text[] NOT NULL DEFAULT '{}',
    shared boolean NOT NULL DEFAULT false,
    write_through boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE cache_ext_internal.policies IS 'what set_cache_policy was told';
SELECT pg_catalog.pg_extension_config_dump('cache_ext_internal.policies', '');

CREATE FUNCTION cache_ext_internal.settings_changed()
RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'settings_changed';
COMMENT ON FUNCTION cache_ext_internal.settings_changed() IS 'tells all sessions to read again what the table holds';

CREATE TRIGGER policies_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON cache_ext_internal.policies
FOR EACH STATEMENT EXECUTE FUNCTION cache_ext_internal.settings_changed();

CREATE FUNCTION cache_ext_internal.check_policy(
    p_prefix text, p_cache_duration interval, p_grace interval, p_jitter real, p_tags text[])
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'check_policy';
COMMENT ON FUNCTION cache_ext_internal.check_policy(text, interval, interval, real, text[]) IS
    'raises the error for whatever is wrong with a policy''s parts';

CREATE FUNCTION set_cache_policy(
    p_prefix text, p_cache_duration interval DEFAULT NULL, p_grace interval DEFAULT NULL, p_jitter real DEFAULT 0,
    p_tags text[] DEFAULT '{}', p_shared boolean DEFAULT false, p_write_through boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM cache_ext_internal.check_policy(p_prefix, p_cache_duration, p_grace, p_jitter, p_tags);
    INSERT INTO cache_ext_internal.policies AS p
    VALUES (p_prefix, p_cache_duration, p_grace, coalesce(p_jitter, 0), coalesce(p_tags, '{}'),
            coalesce(p_shared, false), coalesce(p_write_through, false))
    ON CONFLICT (prefix) DO UPDATE
    SET cache_duration = excluded.cache_duration, grace = excluded.grace, jitter = excluded.jitter,
        tags = excluded.tags, shared = excluded.shared, write_through = excluded.write_through;
END
$$;
COMMENT ON FUNCTION set_cache_policy(text, interval, interval, real, text[], boolean, boolean) IS
    'sets the policy for keys that begin with a prefix, in place of the one it had; the longest prefix wins';

CREATE FUNCTION drop_cache_policy(p_prefix text)
RETURNS boolean LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM cache_ext_internal.policies WHERE prefix = p_prefix;
    RETURN found;
END
$$;
COMMENT ON FUNCTION drop_cache_policy(text) IS 'drops the policy of a prefix; whether there was one';

CREATE VIEW cache_policies AS SELECT * FROM cache_ext_internal.policies;
COMMENT ON VIEW cache_policies IS 'the policies by key prefix';
