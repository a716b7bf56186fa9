-- What depends on what, and why an entry went.

CREATE FUNCTION cache_ext_internal.look_at_function(p_function regprocedure, OUT kind text, OUT description text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'look_at_function';
COMMENT ON FUNCTION cache_ext_internal.look_at_function(regprocedure) IS
    'the tables that a function reads, as far as it can be seen without running it, and what it reads whose changes are not seen';
