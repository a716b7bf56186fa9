-- What update_redis_settings takes and refuses, what get_redis_settings shows, and the settings of the configuration. No Redis is needed.
SET client_min_messages = warning;
CREATE ROLE authenticated NOLOGIN;
CREATE ROLE service_role NOLOGIN BYPASSRLS;
CREATE EXTENSION cache_ext;
CREATE FUNCTION settings() RETURNS TABLE (name text, value text) LANGUAGE sql
AS $$ SELECT key, value #>> '{}' FROM jsonb_each(get_redis_settings()) ORDER BY key COLLATE "C" $$;
CREATE FUNCTION secrets() RETURNS TABLE (name text, value text) LANGUAGE sql AS $$ SELECT * FROM cache_ext_internal.redis_secrets ORDER BY 1 $$;

-- Nothing is set: the configuration, and nothing of a server.
SELECT * FROM settings();
SELECT * FROM test_redis_connection();
SELECT enabled, state, pid, backlog_rows, listening FROM cache_redis_status;

-- Each key takes what is right for it.
SELECT jsonb_pretty(update_redis_settings('{"redis_url": "redis://app:first%20secret@cache.example:6380/2", "redis_token": "second/secret", "redis_enabled": false,
    "cache_ttl_data": 60, "cache_ttl_count": 10, "redis_prefix": "shop:", "redis_namespaces": "auth:,db_query:", "redis_channel": "c", "redis_stream": "s",
    "redis_stream_maxlen": 5, "redis_subscribe": false, "redis_timeout": 100, "redis_max_backlog": 7}'));
SELECT get_redis_settings() = update_redis_settings('{}') AS nothing_changed;
-- The secrets are shown nowhere, and are kept apart.
SELECT get_redis_settings()::text LIKE '%secret%' AS shown;
SELECT count(*) FROM cache_ext_internal.redis_settings WHERE value LIKE '%secret%';
SELECT * FROM secrets();

-- Each key refuses what is wrong for it, and says nothing of what it was.
DO $$
DECLARE
    wrong record;
    said text;
    detail text;
BEGIN
    FOR wrong IN SELECT * FROM (VALUES
        ('redis_url', '"nonsense:hidden"'), ('redis_url', '""'), ('redis_url', '"redis://:hidden@"'), ('redis_url', '"redis://h/hidden"'),
        ('redis_url', '"http://hidden.example"'), ('redis_url', '1'),
        ('redis_enabled', '"hidden"'), ('redis_enabled', '2'), ('redis_subscribe', '""'),
        ('cache_ttl_data', '0'), ('cache_ttl_data', '-1'), ('cache_ttl_data', '1.5'), ('cache_ttl_data', '"hidden"'), ('cache_ttl_data', '99999999999'), ('cache_ttl_count', '0'),
        ('redis_namespaces', '""'), ('redis_namespaces', '","'), ('redis_namespaces', '"a:,,b:"'), ('redis_namespaces', '"a:,"'), ('redis_namespaces', '["a:"]'),
        ('redis_stream_maxlen', '0'), ('redis_timeout', '0'), ('redis_timeout', '600001'), ('redis_max_backlog', '0'),
        ('redis_token', '{}'), ('redis_channel', '[]'), ('redis_channel', 'false'), ('redis_prefix', '5'), ('redis_token', 'true'), ('cache_ttl_data', 'true'), ('redis_enabled', '{}'),
        -- What is no list would be no prefix at all, and nothing would be deleted any more.
        ('redis_namespaces', '" "'), ('redis_namespaces', '"auth: db_query:"'), ('redis_namespaces', '"auth:, ,db_query:"'), ('redis_namespaces', '"\"\""'), ('redis_namespaces', '"\"auth:"'),
        ('redis_token', '"hid den"'), ('redis_token', '"hid\r\nden: x"'), ('redis_prefix', to_jsonb(repeat('x', 1025))::text),
        ('redis_url', '"redis://:hidden%E4@h"'), ('redis_url', '"redis://hid%E4den:x@h"'), ('redis_url', '"redis://:hidden%00@h"'), ('redis_url', '"redis://:hidden%0@h"'),
        ('redis_url', '"redis://h:65536"'), ('redis_url', '"redis://h:0"'), ('redis_url', '"redis://h:-1"'), ('redis_url', '"redis://[fe80::1%25et h0]"'), ('redis_url', '"redis://h\n"'),
        ('redis_url', '"redis://h\r\nFLUSHALL"'), ('redis_url', '"redis-sentinel://h/?master=%E4"')) AS v (name, value)
    LOOP
        BEGIN
            -- The good one with it is not kept either.
            PERFORM update_redis_settings(jsonb_build_object('redis_channel', 'half', wrong.name, wrong.value::jsonb));
            RAISE WARNING '% % was taken', wrong.name, wrong.value;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS said = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
            RAISE WARNING '%: % (%)', sqlstate, said, detail;
        END;
    END LOOP;
END $$;
SELECT update_redis_settings('{"redis_port": 1}');
SELECT update_redis_settings('{"REDIS_URL": "redis://h"}');
SELECT update_redis_settings('["redis_url"]');
SELECT update_redis_settings('null');
SELECT update_redis_settings(NULL);
SELECT value FROM settings() WHERE name IN ('redis_channel', 'redis_url') ORDER BY 1;

-- A change ends with its transaction.
BEGIN;
SELECT update_redis_settings('{"redis_prefix": "other:", "redis_token": "third"}') ->> 'redis_prefix' AS prefix;
ROLLBACK;
SELECT value FROM settings() WHERE name = 'redis_prefix';
SELECT * FROM secrets();

-- The same host keeps password and token, another one forgets them; what is given anew holds.
SELECT update_redis_settings('{"redis_url": "redis://cache.example:6380/3"}') ->> 'redis_url' AS url;
SELECT * FROM secrets();
SELECT update_redis_settings('{"redis_url": "rediss://cache.example:6380/3"}') ->> 'redis_url' AS url;
SELECT * FROM secrets();
SELECT update_redis_settings('{"redis_url": "redis://app:fourth@cache.example:6380/3"}') ->> 'redis_url' AS url;
SELECT update_redis_settings('{"redis_url": "redis://elsewhere.example:6380/3"}') ->> 'redis_url' AS url;
SELECT * FROM secrets();
SELECT update_redis_settings('{"redis_url": "redis://:new@third.example", "redis_token": "newer"}') ->> 'redis_url' AS url;
SELECT * FROM secrets();
SELECT update_redis_settings('{"redis_url": "redis://third.example:6380"}') ->> 'redis_url' AS url;
SELECT * FROM secrets();
-- Sentinels have a password of their own; another name is another master.
SELECT update_redis_settings('{"redis_url": "redis-sentinel://app:fifth@s1,s2:26380/1?master=shop&sentinel_user=watch&sentinel_password=sixth"}') ->> 'redis_url' AS url;
SELECT value FROM settings() WHERE name = 'redis_url';
SELECT * FROM secrets();
SELECT update_redis_settings('{"redis_url": "redis-sentinel://s1,s2:26380/2?master=shop&sentinel_password=seventh"}') ->> 'redis_url' AS url;
SELECT * FROM secrets();
SELECT update_redis_settings('{"redis_url": "redis-sentinel://s1,s2:26380/2?master=other"}') ->> 'redis_url' AS url;
SELECT * FROM secrets();
SELECT update_redis_settings('{"redis_url": "redis://third.example:6380"}') ->> 'redis_url' AS url;
SELECT update_redis_settings('{"redis_token": "newest"}') ->> 'redis_token' AS token;
SELECT update_redis_settings('{"redis_token": null}') ->> 'redis_token' AS token;
SELECT * FROM secrets();

-- What is shown may be given back, as a whole, as who edits settings does; and be tried.
SELECT update_redis_settings('{"redis_url": "redis://app:eighth@127.0.0.1:1/2", "redis_token": "ninth", "redis_namespaces": "auth:,\"db \"\"query:\""}') ->> 'redis_namespaces' AS namespaces;
SELECT update_redis_settings(get_redis_settings()) = get_redis_settings() AS same;
SELECT update_redis_settings('{"redis_url": "redis://app:***@127.0.0.1:1/3"}') ->> 'redis_url' AS url;
SELECT * FROM secrets();
SELECT success, message FROM test_redis_connection(get_redis_settings() ->> 'redis_url', get_redis_settings() ->> 'redis_token');
-- At another place there is nothing behind the mask.
SELECT update_redis_settings('{"redis_url": "redis://app:***@127.0.0.1:2/3"}') ->> 'redis_url' AS url;
SELECT update_redis_settings('{"redis_url": null, "redis_token": null, "redis_namespaces": null}') ->> 'redis_url' AS url;

-- Null takes the configuration again.
SELECT update_redis_settings((SELECT jsonb_object_agg(key, NULL::jsonb) FROM jsonb_each(get_redis_settings()))) = get_redis_settings() AS applied;
SELECT * FROM settings();
SELECT count(*) FROM cache_ext_internal.redis_settings;

-- A password may hold anything that is text: what has a meaning in an address is encoded, but for "@".
SELECT update_redis_settings('{"redis_url": "redis://us%2Fer:p@s%23s%2F%3A%3F%0A%20ä%C3%A4\"\\\\@[fe80::1%25eth0]:65535"}') ->> 'redis_url' AS url;
SELECT name, to_json(value) FROM secrets();
-- Lists as in the configuration.
SELECT update_redis_settings('{"redis_namespaces": " auth:, \"db query:\" "}') ->> 'redis_namespaces' AS namespaces;
SELECT update_redis_settings('{"redis_url": null, "redis_token": null, "redis_namespaces": null}') ->> 'redis_namespaces' AS namespaces;

-- An address is tried with what was meant for it: nothing listens here.
SELECT success, message, latency_ms FROM test_redis_connection('redis://127.0.0.1:1');
SELECT success, message FROM test_redis_connection('unix:/nonexistent/socket', 'token');
SELECT * FROM test_redis_connection('nonsense:hidden');
SELECT * FROM test_redis_connection('');

-- Who may.
SET ROLE authenticated;
SELECT get_redis_settings();
SELECT update_redis_settings('{}');
SELECT * FROM test_redis_connection();
SELECT * FROM cache_redis_status;
SELECT * FROM cache_ext_internal.redis_secrets;
DO $$ BEGIN PERFORM current_setting('cache_ext.redis_url'); EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING 'the address is not shown'; END $$;
DO $$ BEGIN PERFORM current_setting('cache_ext.redis_token'); EXCEPTION WHEN insufficient_privilege THEN RAISE WARNING 'the token is not shown'; END $$;
SET ROLE service_role;
SELECT update_redis_settings('{"redis_prefix": "p:"}') ->> 'redis_prefix' AS prefix;
SELECT get_redis_settings() ->> 'redis_prefix' AS prefix;
SELECT success, message FROM test_redis_connection('redis://127.0.0.1:1');
SELECT enabled, state FROM cache_redis_status;
SELECT * FROM cache_ext_internal.redis_secrets;
RESET ROLE;

-- The configuration checks its own values, and only it sets them.
SET cache_ext.redis_url = 'redis://localhost';
SET cache_ext.redis_enabled = on;
ALTER SYSTEM SET cache_ext.redis_url = 'localhost';
ALTER SYSTEM SET cache_ext.redis_url = 'redis://localhost/hello';
ALTER SYSTEM SET cache_ext.redis_url = 'redis://:hidden@localhost/hello';
ALTER SYSTEM SET cache_ext.redis_namespaces = 'auth:', '';
ALTER SYSTEM SET cache_ext.redis_stream_maxlen = 0;
ALTER SYSTEM SET cache_ext.redis_max_backlog = -1;
ALTER SYSTEM SET cache_ext.redis_enabled = 'perhaps';
SELECT name, setting FROM pg_settings WHERE name LIKE 'cache\_ext.redis%' ORDER BY name COLLATE "C";

DROP FUNCTION settings, secrets;
DROP EXTENSION cache_ext;
DROP ROLE authenticated, service_role;
