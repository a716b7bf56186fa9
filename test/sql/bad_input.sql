-- What callers should not pass: the error or the result that is promised, and never more than that.
SET client_min_messages = warning;
CREATE EXTENSION cache_ext;

-- Keys.
SELECT get_cached_data(NULL);
SELECT get_cached_data('');
SELECT get_cached_data(repeat('k', 1025));
SELECT get_cached_data(repeat('k', 1024));
SELECT set_cached_data(repeat('k', 1024), '1'), cache_exists(repeat('k', 1024));
SELECT set_cached_data(NULL, '1');
SELECT set_cached_data('', '1');
SELECT set_cached_data(repeat('k', 1025), '1');
SELECT add_cached_data(NULL, '1');
SELECT cache_exists(NULL);
SELECT cache_exists('');
SELECT get_cached_entry(NULL);
SELECT update_cache_hit_count(NULL);
SELECT update_cache_hit_count('absent');
SELECT invalidate_cache_key(NULL);
SELECT invalidate_cache_key('');
SELECT get_cached_many(NULL);
SELECT get_cached_many('{a,NULL}');
SELECT get_cached_many('{a,""}');
SELECT get_cached_many(ARRAY[repeat('k', 1025)]);
SELECT * FROM get_cached_many('{}');
SELECT * FROM get_cached_many('{{a,b},{c,a}}');
SELECT get_cached_data(repeat('k', 10000000));
SELECT get_cached_data(repeat('[', 1000000) || repeat(']', 1000000));

-- Data.
SELECT set_cached_data('k', NULL);
SELECT set_cached_data('k', 'null'), cache_exists('k');
SELECT get_cached_data('k') = 'null' AS json_null;
-- 100 MB are refused, not stored.
SELECT set_cached_data('large', to_jsonb(repeat('x', 104857600))), cache_exists('large');
SELECT add_cached_data('large', to_jsonb(repeat('x', 104857600))), cache_exists('large');
SELECT set_cached_data('large', to_jsonb(repeat('x', 1048576 - 12))), cache_exists('large');
SELECT set_cached_data('larger', to_jsonb(repeat('x', 1048576))), cache_exists('larger');

-- Durations.
SELECT set_cached_data('k', '1', '0');
SELECT set_cached_data('k', '1', '-1 second');
SELECT set_cached_data('k', '1', '1 month -31 days');
SELECT set_cached_data('k', '1', '178000000 years');
SELECT set_cached_data('k', '1', '200 years');
-- Where the server knows no infinite interval, it says so itself.
DO $$
BEGIN
    PERFORM set_cached_data('k', '1', 'infinity'::interval);
EXCEPTION WHEN invalid_parameter_value OR invalid_datetime_format THEN
    RAISE WARNING 'refused';
END
$$;
SELECT get_cached_data('k', '0');
SELECT get_cached_data('k', '-1 hour');
SELECT add_cached_data('k', '1', '-1 second');
SELECT get_cached_data('k') = 'null' AS unchanged;

-- Tags.
SELECT set_cached_data('k', '1', null, '{NULL}');
SELECT set_cached_data('k', '1', null, '{a,""}');
SELECT set_cached_data('k', '1', null, ARRAY[repeat('t', 257)]);
SELECT set_cached_data('k', '1', null, ARRAY(SELECT 't' || i FROM generate_series(1, 65) i));
SELECT set_cached_data('k', '1', null, ARRAY(SELECT rpad(i::text, 256, 't') FROM generate_series(1, 64) i));
SELECT cardinality(cache_tags), length(cache_tags[1]) FROM get_cached_entry('k');
-- The same tag a hundred times is one.
SELECT set_cached_data('k', '1', null, array_fill('t'::text, ARRAY[100]));
SELECT cache_tags FROM get_cached_entry('k');
SELECT set_cached_data('k', '1', null, NULL);
SELECT cache_tags FROM get_cached_entry('k');
SELECT invalidate_cache_by_tags(NULL), invalidate_cache_by_tags('{}');
SELECT invalidate_cache_by_tags('{NULL}');
SELECT invalidate_cache_by_tags('{""}');
SELECT invalidate_cache_by_tags(ARRAY[repeat('t', 257)]);
SELECT invalidate_cache_by_tags(ARRAY(SELECT 't' || i FROM generate_series(1, 10001) i));
SELECT expire_cache_by_tags('{NULL}');
SELECT expire_cache_by_tags(NULL);
-- A tag is a text, whatever characters it has: no wildcards, no templates.
SELECT set_cached_data('w', '1', null, ARRAY['a*', '{b}', '[c', '\', '"', ' ', '%_']);
SELECT cache_tags FROM get_cached_entry('w');
SELECT invalidate_cache_by_tags('{a,ab,b,c,*}'), cache_exists('w');
SELECT invalidate_cache_by_tags(ARRAY['{b}']), cache_exists('w');

-- Patterns.
SELECT invalidate_cache_by_pattern(NULL);
SELECT invalidate_cache_by_pattern('');
SELECT invalidate_cache_by_pattern('[a');
SELECT invalidate_cache_by_pattern('a[');
SELECT invalidate_cache_by_pattern('a\');
SELECT invalidate_cache_by_pattern('[z-a]');
SELECT invalidate_cache_by_pattern(repeat('*', 1025));
SELECT set_cached_data(repeat('a', 1000), '1');
SELECT invalidate_cache_by_pattern(repeat('*a', 500) || 'b');
SELECT invalidate_cache_by_pattern(repeat('*', 1024)) > 0;
SELECT set_cached_data('x*y', '1'), set_cached_data('xzy', '1'), set_cached_data('[x]', '1');
SELECT invalidate_cache_by_pattern('x\*y'), cache_exists('xzy');
SELECT invalidate_cache_by_pattern('\[x]'), invalidate_cache_by_pattern(']');

-- Text beyond ASCII.
SELECT set_cached_data('ключ:日本:é', '"значение 値 😀"', null, '{тег,標}');
SELECT get_cached_data('ключ:日本:é'), cache_tags FROM get_cached_entry('ключ:日本:é');
SELECT cache_key FROM query_cache ORDER BY 1;
SELECT invalidate_cache_by_pattern('ключ:*:?') > 0 AS by_pattern;
SELECT set_cached_data(repeat('é', 513), '1');
SELECT set_cached_data('k', '1', null, ARRAY[repeat('é', 129)]);

-- Leases.
SELECT set_cached_data('k', '1', null, '{}', 'no lease');
SELECT set_cached_data('k', '1', null, '{}', '');
SELECT set_cached_data('k', '1', null, '{}', repeat('f', 1000000));

-- JSON of many levels: the server itself refuses a million, and what it takes comes back.
\set VERBOSITY sqlstate
SELECT set_cached_data('deep', (repeat('[', 1000000) || repeat(']', 1000000))::jsonb);
SELECT make_cache_key('n', 'x', (repeat('[', 1000000) || repeat(']', 1000000))::jsonb);
\set VERBOSITY default
SELECT set_cached_data('deep', (repeat('[', 2000) || repeat(']', 2000))::jsonb);
SELECT get_cached_data('deep') = (repeat('[', 2000) || repeat(']', 2000))::jsonb AS same;
SELECT make_cache_key('n', 'x', (repeat('[', 2000) || repeat(']', 2000))::jsonb) <> make_cache_key('n', 'x', (repeat('[', 2001) || repeat(']', 2001))::jsonb) AS differ;
SELECT make_cache_key(NULL, 'x');
SELECT make_cache_key('n', NULL);
SELECT make_cache_key('', 'x');
SELECT make_cache_key(repeat('n', 2000), 'x');

-- The trigger: templates are checked when it fires.
CREATE TABLE product (id int PRIMARY KEY, name text);
CREATE TRIGGER c AFTER INSERT ON product FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('product:{nothing}');
INSERT INTO product VALUES (1, 'a');
CREATE OR REPLACE TRIGGER c AFTER INSERT ON product FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('product:{id');
INSERT INTO product VALUES (1, 'a');
CREATE OR REPLACE TRIGGER c AFTER INSERT ON product FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('product:id}');
INSERT INTO product VALUES (1, 'a');
CREATE OR REPLACE TRIGGER c AFTER INSERT ON product FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('product:{}');
INSERT INTO product VALUES (1, 'a');
CREATE OR REPLACE TRIGGER c AFTER INSERT ON product FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('product:{ctid}');
INSERT INTO product VALUES (1, 'a');
CREATE OR REPLACE TRIGGER c AFTER INSERT ON product FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('');
INSERT INTO product VALUES (1, 'a');
CREATE OR REPLACE TRIGGER c BEFORE INSERT ON product FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('product:{id}');
INSERT INTO product VALUES (1, 'a');
-- A column that makes a tag that no entry can have is no reason to fail a write.
CREATE OR REPLACE TRIGGER c AFTER INSERT ON product FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('{{{name}}}', '{name}');
SELECT set_cached_data('p', '1', null, '{"{a}"}');
INSERT INTO product VALUES (1, 'a'), (2, NULL), (3, ''), (4, repeat('x', 100000));
SELECT cache_exists('p');
SELECT trigger_cache_invalidation();
DROP TABLE product;

-- A mistake leaves the session and the cache as they were.
SELECT set_cached_data('k', '"fine"');
BEGIN;
SELECT set_cached_data('k', '"lost"');
SELECT get_cached_data('');
ROLLBACK;
SELECT get_cached_data('k');

DROP EXTENSION cache_ext;
