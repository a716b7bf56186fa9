-- Whether Redis can be reached.

CREATE FUNCTION test_redis_connection(
    p_redis_url text DEFAULT NULL, p_redis_token text DEFAULT NULL,
    OUT success boolean, OUT message text, OUT latency_ms double precision)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'test_redis_connection';
COMMENT ON FUNCTION test_redis_connection(text, text) IS
    'whether Redis answers at this address, or at the one that is set, and how fast; what the matter is otherwise';
