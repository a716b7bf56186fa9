-- Functions whose results are cached. They are functions in a language of their own: the body names the function underneath and says how results are kept.

CREATE FUNCTION cache_ext_internal.call_cached_function()
RETURNS language_handler LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'call_cached_function';
COMMENT ON FUNCTION cache_ext_internal.call_cached_function() IS 'handler of the language "cached"';

CREATE FUNCTION cache_ext_internal.validate_cached_function(p_function oid)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'validate_cached_function';
COMMENT ON FUNCTION cache_ext_internal.validate_cached_function(oid) IS 'validator of the language "cached"';

CREATE TRUSTED LANGUAGE cached
    HANDLER cache_ext_internal.call_cached_function VALIDATOR cache_ext_internal.validate_cached_function;
COMMENT ON LANGUAGE cached IS 'functions whose results are cached, made by create_cached_function()';

CREATE FUNCTION cache_ext_internal.underneath(p_function oid)
RETURNS oid LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'underneath_cached_function';
COMMENT ON FUNCTION cache_ext_internal.underneath(oid) IS
    'the function that a cached function calls; NULL if it is not there, or what was given is no cached function';

-- Does what create_cached_function() does. p_search_path is what was set where that was called; p_tracks says whether this server tells which tables are written.
CREATE FUNCTION cache_ext_internal.make_cached_function(
    p_function regprocedure, p_cache_duration interval, p_cache_tags text[], p_name text, p_shared boolean, p_grace interval,
    p_search_path text, p_tracks boolean)
RETURNS regprocedure LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp SET intervalstyle = iso_8601 AS $$
DECLARE
    cached CONSTANT oid := (SELECT l.oid FROM pg_language l WHERE l.lanname = 'cached');
    base pg_proc;
    arguments oid[];
    has_duration boolean;
    name text;
    body jsonb;
    made pg_proc;
BEGIN
    IF p_function IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'function must not be null';
    END IF;
    SELECT p.* INTO base FROM pg_proc p WHERE p.oid = p_function;
    IF NOT FOUND THEN
        RAISE undefined_function USING MESSAGE = format('function with OID %s does not exist', p_function::oid);
    END IF;
    name := coalesce(p_name, base.proname || '_cached');
    IF NOT pg_has_role(base.proowner, 'USAGE') THEN
        RAISE insufficient_privilege USING MESSAGE = format('must be owner of function %s', base.proname);
    END IF;
    IF base.prokind <> 'f' THEN
        RAISE wrong_object_type USING MESSAGE = format('%s is not a plain function', p_function),
            DETAIL = 'Procedures, aggregates and window functions cannot be cached.';
    END IF;
    IF base.prolang = cached THEN
        RAISE wrong_object_type USING MESSAGE = format('%s is a cached function itself', p_function);
    END IF;
    IF base.provariadic = '"any"'::regtype OR '"any"'::regtype = ANY (base.proargtypes)
        OR base.prorettype IN (SELECT t.oid FROM pg_type t WHERE t.typtype = 'p' AND t.typname NOT LIKE 'any%' AND t.typname <> 'record') THEN
        RAISE feature_not_supported USING MESSAGE = format('results of %s cannot be cached', p_function),
            DETAIL = format('It takes arguments of any type, or returns %s.', base.prorettype::regtype);
    END IF;
    IF octet_length(name) NOT BETWEEN 1 AND 63 THEN
        RAISE invalid_name USING MESSAGE = format('"%s" is no name for a cached function', name),
            HINT = 'Pass p_name, of 1 to 63 bytes.';
    END IF;
    IF p_cache_tags IS NULL AND NOT p_tracks THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = 'what a function reads can be tracked only with preloading',
            HINT = 'Add cache_ext to shared_preload_libraries, or pass tags in p_cache_tags (''{}'' for none).';
    END IF;

    -- The added argument is left out where it has no place; a function has a hundred at most.
    has_duration := base.provariadic = 0 AND base.pronargs < 100 AND NOT coalesce('p_cache_duration' = ANY (base.proargnames), false);
    arguments := base.proargtypes::oid[] || CASE WHEN has_duration THEN ARRAY['interval'::regtype::oid] END;
    SELECT p.* INTO made FROM pg_proc p WHERE p.pronamespace = base.pronamespace AND p.proname = name AND p.proargtypes::oid[] = arguments;
    IF FOUND AND made.prolang <> cached THEN
        RAISE duplicate_function USING MESSAGE = format('function %s already exists and is no cached function', made.oid::regprocedure),
            HINT = 'Pass another name as p_name.';
    END IF;

    body := jsonb_strip_nulls(jsonb_build_object(
        'function', p_function::text,
        -- Of a shared result the default is the owner's, and not that of whoever happens to compute it.
        'duration', coalesce(p_cache_duration, CASE WHEN p_shared THEN current_setting('cache_ext.default_duration')::interval END)::text,
        'grace', p_grace::text, 'tags', to_jsonb(p_cache_tags),
        'shared', coalesce(p_shared, false),
        -- A caller's temporary tables come last, and not first as they would unless they are named. What is named twice counts where it is named first.
        'search_path', CASE WHEN p_shared THEN concat_ws(', ', nullif(p_search_path, ''), 'pg_temp') END));
    EXECUTE format('CREATE OR REPLACE FUNCTION %s.%I(%s) RETURNS %s LANGUAGE cached %s PARALLEL %s COST %s %s AS %L',
        base.pronamespace::regnamespace, name,
        concat_ws(', ', nullif(pg_get_function_arguments(base.oid), ''),
            CASE WHEN has_duration THEN 'p_cache_duration interval DEFAULT NULL' END),
        pg_get_function_result(base.oid),
        CASE base.provolatile WHEN 'v' THEN 'VOLATILE' ELSE 'STABLE' END,
        CASE base.proparallel WHEN 'u' THEN 'UNSAFE' ELSE 'RESTRICTED' END,
        base.procost, CASE WHEN base.proretset THEN 'ROWS ' || base.prorows END,
        body);
    SELECT p.* INTO STRICT made FROM pg_proc p WHERE p.pronamespace = base.pronamespace AND p.proname = name AND p.proargtypes::oid[] = arguments;
    IF made.proowner <> base.proowner THEN
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', made.oid::regprocedure, pg_get_userbyid(base.proowner));
    END IF;
    EXECUTE format('COMMENT ON FUNCTION %s IS %L', made.oid::regprocedure, format('the result of %s, from the cache where it is there', p_function));
    IF base.provolatile = 'v' THEN
        RAISE NOTICE USING MESSAGE = format('function %s is volatile', p_function),
            DETAIL = 'Its results are kept all the same, until what they were computed from is invalidated or their time is over.',
            HINT = 'Declare it STABLE if it is: its cached function can then be used in more plans.';
    END IF;
    IF p_shared AND EXISTS (SELECT FROM unnest(base.proconfig) c WHERE c LIKE 'search\_path=_%' AND c <> 'search_path=""' AND c !~ '\mpg_temp\M') THEN
        RAISE WARNING USING MESSAGE = format('function %s looks for tables among those that its caller has created for himself', p_function),
            DETAIL = 'It sets a search_path that does not name pg_temp, which then comes first, and its shared results are computed with the rights of its owner.',
            HINT = 'Name pg_temp last in its search_path.';
    END IF;
    RETURN made.oid;
END
$$;
COMMENT ON FUNCTION cache_ext_internal.make_cached_function(regprocedure, interval, text[], text, boolean, interval, text, boolean) IS
    'does what create_cached_function() does';

CREATE FUNCTION create_cached_function(
    p_function regprocedure, p_cache_duration interval DEFAULT NULL, p_cache_tags text[] DEFAULT NULL, p_name text DEFAULT NULL,
    p_shared boolean DEFAULT false, p_grace interval DEFAULT NULL)
RETURNS regprocedure LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'create_cached_function';
COMMENT ON FUNCTION create_cached_function(regprocedure, interval, text[], text, boolean, interval) IS
    'makes a function with the same arguments and result whose results are cached; without tags they depend on the tables that it reads';

-- A dump has the name in the body only, and what it is restored into may by then have another function of that name. Written to the catalog itself: whoever renames
-- need not own the cached function, and nothing but the text changes.
CREATE FUNCTION cache_ext_internal.follow_renamed_functions()
RETURNS event_trigger LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE pg_proc f SET prosrc = jsonb_set(f.prosrc::jsonb, '{function}', to_jsonb(d.refobjid::regprocedure::text))::text
    FROM pg_language l
    JOIN pg_depend m ON m.refclassid = 'pg_language'::regclass AND m.refobjid = l.oid AND m.classid = 'pg_proc'::regclass
    JOIN pg_depend d ON d.classid = m.classid AND d.objid = m.objid AND d.refclassid = m.classid AND d.deptype = 'a'
    WHERE l.lanname = 'cached' AND f.oid = m.objid AND f.prosrc::jsonb ->> 'function' <> d.refobjid::regprocedure::text;
END
$$;
COMMENT ON FUNCTION cache_ext_internal.follow_renamed_functions() IS 'has cached functions name the functions that they call as they are called now';

-- Whoever leaves an argument out means what the function underneath makes of that now. Nothing else of a cached function changes. With the rights of whoever replaces it:
-- a default may run code as it is parsed.
CREATE FUNCTION cache_ext_internal.follow_replaced_functions()
RETURNS event_trigger LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    follower record;
BEGIN
    FOR follower IN
        SELECT f.oid,
               replace(pg_get_functiondef(f.oid), format(E'(%s)\n RETURNS ', pg_get_function_arguments(f.oid)),
                       format(E'(%s)\n RETURNS ', concat_ws(', ', nullif(pg_get_function_arguments(b.oid), ''), a.added || ' DEFAULT NULL'))) AS definition
        FROM pg_event_trigger_ddl_commands() c
        JOIN pg_depend d ON d.classid = c.classid AND d.refclassid = c.classid AND d.refobjid = c.objid AND d.deptype = 'a'
        JOIN pg_proc b ON b.oid = c.objid
        JOIN pg_proc f ON f.oid = d.objid
        JOIN pg_language l ON l.oid = f.prolang AND l.lanname = 'cached'
        CROSS JOIN LATERAL (SELECT CASE WHEN f.pronargs > b.pronargs THEN 'p_cache_duration interval' END AS added) a
        WHERE c.classid = 'pg_proc'::regclass
          AND coalesce(pg_get_expr(f.proargdefaults, 0), '') <> concat_ws(', ', pg_get_expr(b.proargdefaults, 0), CASE WHEN a.added IS NOT NULL THEN 'NULL::interval' END)
    LOOP
        BEGIN
            EXECUTE follower.definition;
        EXCEPTION WHEN OTHERS THEN
            RAISE WARNING USING MESSAGE = format('cached function %s does not have the defaults of the function underneath: %s', follower.oid::regprocedure, SQLERRM),
                HINT = 'Call create_cached_function() again.';
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION cache_ext_internal.follow_replaced_functions() IS 'has the arguments of cached functions default to what they default to in the functions that they call';

CREATE FUNCTION drop_cached_function(p_function regprocedure)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'drop_cached_function';
COMMENT ON FUNCTION drop_cached_function(regprocedure) IS 'drops a cached function, or all those of the function that they call';

CREATE FUNCTION cache_ext_internal.function_counts(p_function oid, OUT hits bigint, OUT computations bigint, OUT compute_us bigint)
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'count_cached_function';
COMMENT ON FUNCTION cache_ext_internal.function_counts(oid) IS 'what was counted of a cached function since the cache began';

CREATE VIEW cached_functions AS
SELECT f.oid::pg_catalog.regprocedure AS cached_function,
       cache_ext_internal.underneath(f.oid)::pg_catalog.regprocedure AS function,
       (d.definition ->> 'duration')::interval AS cache_duration,
       (d.definition ->> 'grace')::interval AS grace,
       CASE WHEN d.definition ? 'tags' THEN ARRAY(SELECT pg_catalog.jsonb_array_elements_text(d.definition -> 'tags')) END AS cache_tags,
       coalesce((d.definition ->> 'shared')::boolean, false) AS shared,
       NOT d.definition ? 'tags' AS tracked,
       c.hits,
       c.computations,
       pg_catalog.round(100.0 * c.hits / nullif(c.hits + c.computations, 0), 2) AS hit_rate,
       pg_catalog.round(c.compute_us / 1000.0 / nullif(c.computations, 0), 3) AS avg_compute_ms,
       pg_catalog.round(c.compute_us / 1000.0 / nullif(c.computations, 0) * c.hits, 3) AS time_saved_ms
FROM pg_catalog.pg_proc f
JOIN pg_catalog.pg_language l ON f.prolang = l.oid AND l.lanname = 'cached'
CROSS JOIN LATERAL (SELECT f.prosrc::pg_catalog.jsonb AS definition OFFSET 0) d
CROSS JOIN LATERAL cache_ext_internal.function_counts(f.oid) c;
COMMENT ON VIEW cached_functions IS 'the cached functions of this database, and what was counted of them since the cache began';
COMMENT ON COLUMN cached_functions.tracked IS 'what it reads is found out; otherwise its tags say when results go';
COMMENT ON COLUMN cached_functions.hit_rate IS 'in per cent of all calls that used the cache';
COMMENT ON COLUMN cached_functions.time_saved_ms IS 'hits times the average time of a computation';
