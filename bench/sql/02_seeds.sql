-- What is compared with: the cache as a table with functions in PL/pgSQL, as an application would write it by itself.

CREATE SCHEMA seeds;

CREATE TABLE seeds.query_cache (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    cache_key text NOT NULL UNIQUE,
    cache_data jsonb NOT NULL,
    cache_tags text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    hit_count integer NOT NULL DEFAULT 0,
    last_accessed timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_query_cache_expires ON seeds.query_cache (expires_at);
CREATE INDEX idx_query_cache_tags ON seeds.query_cache USING gin (cache_tags);

CREATE FUNCTION seeds.get_cached_data(p_cache_key text, p_cache_duration interval DEFAULT '5 minutes') RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_data jsonb;
BEGIN
    SELECT c.cache_data INTO v_data
    FROM seeds.query_cache c
    WHERE c.cache_key = p_cache_key AND c.expires_at > now();
    RETURN v_data;
END
$$;

CREATE FUNCTION seeds.update_cache_hit_count(p_cache_key text) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    UPDATE seeds.query_cache SET hit_count = hit_count + 1, last_accessed = now() WHERE cache_key = p_cache_key;
END
$$;

CREATE FUNCTION seeds.get_and_count(p_cache_key text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_data jsonb;
BEGIN
    v_data := seeds.get_cached_data(p_cache_key);
    IF v_data IS NOT NULL THEN
        PERFORM seeds.update_cache_hit_count(p_cache_key);
    END IF;
    RETURN v_data;
END
$$;

CREATE FUNCTION seeds.set_cached_data(
    p_cache_key text, p_cache_data jsonb, p_cache_duration interval DEFAULT '5 minutes', p_cache_tags text[] DEFAULT '{}')
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO seeds.query_cache (cache_key, cache_data, cache_tags, expires_at)
    VALUES (p_cache_key, p_cache_data, p_cache_tags, now() + p_cache_duration)
    ON CONFLICT (cache_key) DO UPDATE
    SET cache_data = excluded.cache_data, cache_tags = excluded.cache_tags, expires_at = excluded.expires_at,
        created_at = now(), last_accessed = now();
END
$$;

CREATE FUNCTION seeds.invalidate_cache_by_tags(p_tags text[]) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_count integer;
BEGIN
    DELETE FROM seeds.query_cache WHERE cache_tags && p_tags;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;

CREATE FUNCTION seeds.trigger_cache_invalidation() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM seeds.invalidate_cache_by_tags(ARRAY['stock', 'stock_levels']);
    RETURN NULL;
END
$$;
