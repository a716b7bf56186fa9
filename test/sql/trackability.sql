-- What can be said of a function before it runs: the tables that it reads, and what it reads whose changes nobody is told of.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
CREATE SCHEMA look;
SET search_path = look, public;
CREATE TABLE a (id int PRIMARY KEY, v int);
CREATE TABLE b (v int);
CREATE TABLE asked (who name);
CREATE TABLE guarded (v int);
CREATE POLICY p ON guarded USING (EXISTS (SELECT FROM asked WHERE who = current_user));
CREATE TABLE parent (v int);
CREATE TABLE child () INHERITS (parent);
CREATE TABLE parts (v int) PARTITION BY LIST (v);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE MATERIALIZED VIEW stored AS SELECT v FROM a;
CREATE VIEW inner_view AS SELECT v FROM b;
CREATE VIEW outer_view AS SELECT v FROM inner_view;
CREATE SEQUENCE counter;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE remote (v text) SERVER elsewhere;
CREATE TEMPORARY TABLE mine (v int);

-- The findings for a body of its own.
CREATE FUNCTION of(body text, VARIADIC arguments text[] DEFAULT '{}') RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE FUNCTION look.f(%s) RETURNS SETOF record LANGUAGE sql AS %L', array_to_string(arguments, ', '), body);
    RETURN QUERY EXECUTE $q$ SELECT concat_ws(': ', l.kind, l.description) FROM cache_ext_internal.look_at_function('look.f'::regproc::oid) l $q$;
    DROP FUNCTION look.f;
END $$;
SET check_function_bodies = off;

SELECT * FROM of('SELECT v FROM a WHERE id = $1 AND v IN (SELECT v FROM b)', 'int');
SELECT * FROM of('SELECT id, v FROM a WHERE id = p_id', 'p_id int');
-- Views in views, partitions, children, what is stored, common table expressions, values.
SELECT * FROM of('SELECT v FROM outer_view');
SELECT * FROM of('SELECT v FROM parts UNION ALL SELECT v FROM parent');
SELECT * FROM of('WITH c AS (SELECT v FROM stored) SELECT v FROM c CROSS JOIN LATERAL (SELECT count(*) FROM b) x');
SELECT * FROM of('SELECT 1');
-- Row security asks another table, once it is on.
SELECT * FROM of('SELECT v FROM guarded');
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
SELECT * FROM of('SELECT v FROM guarded');
-- What is not seen when it changes.
SELECT * FROM of('SELECT v FROM remote');
SELECT * FROM of('SELECT v FROM mine');
SELECT * FROM of('SELECT last_value FROM counter');
SELECT * FROM of('SELECT relname FROM pg_class');
SELECT * FROM of('SELECT nextval(''counter''), random(), clock_timestamp() FROM a');
SELECT * FROM of('SELECT now(), current_date, localtimestamp');
SELECT * FROM of('SELECT current_user, session_user');
SELECT * FROM of('SELECT current_setting(''app.tenant''), current_setting(''request.jwt.claims'', true)');
SELECT * FROM of('SELECT pg_database_size(1), has_table_privilege(''a'', ''select''), pg_relation_size(''a'')');
-- Formats and time zones are nothing of the kind.
SELECT * FROM of('SELECT to_char(v, ''9''), v::text, date_trunc(''day'', timestamptz ''2020-01-01'') FROM a');
-- Functions in functions, in operators, in aggregates; each once, and without end.
CREATE FUNCTION reads_b() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM look.b';
CREATE FUNCTION standard() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT count(*) FROM guarded; END;
CREATE FUNCTION around() RETURNS bigint LANGUAGE sql AS 'SELECT look.reads_b() + look.around() + random()::int';
CREATE FUNCTION procedural() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT count(*) FROM look.a); END';
CREATE FUNCTION plus(int, int) RETURNS int LANGUAGE sql AS 'SELECT v FROM look.a';
CREATE OPERATOR #@# (LEFTARG = int, RIGHTARG = int, FUNCTION = plus);
CREATE AGGREGATE add_up (int) (SFUNC = plus, STYPE = int);
SELECT * FROM of('SELECT reads_b()');
SELECT * FROM of('SELECT standard()');
SELECT * FROM of('SELECT around()');
SELECT * FROM of('SELECT procedural()');
SELECT * FROM of('SELECT 1 #@# 2');
SELECT * FROM of('SELECT add_up(v) FROM b');
SELECT * FROM of('SELECT * FROM b WHERE v > (SELECT reads_b())');
-- Errors in a body are findings, and hide nothing of the rest.
CREATE FUNCTION broken() RETURNS int LANGUAGE sql AS 'SELECT nothing FROM look.nowhere';
SELECT * FROM of('SELECT broken(), v FROM b');
SELECT * FROM of('SELECT');
SELECT * FROM of('not SQL');
SELECT * FROM of('SELECT $1', 'anyelement');
-- A builtin, one of the session, one that is not there, none.
SELECT * FROM cache_ext_internal.look_at_function('pg_catalog.random()');
SELECT * FROM cache_ext_internal.look_at_function(1);
SELECT * FROM cache_ext_internal.look_at_function(NULL);
-- It leaves no lock behind and can be called again in the same transaction.
BEGIN;
SELECT count(*) FROM cache_ext_internal.look_at_function('reads_b()');
SELECT count(*) FROM cache_ext_internal.look_at_function('reads_b()');
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = 'b'::regclass;
COMMIT;

SET client_min_messages = warning;
DROP SCHEMA look CASCADE;
DROP TABLE mine;
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
