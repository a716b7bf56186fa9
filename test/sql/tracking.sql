-- What is tracked, kind by kind: what is read, and what changes it. Each line says whether the result outlived the change, and whether what is
-- then there, or is computed, is right.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS cache_ext;
RESET client_min_messages;
CREATE SCHEMA track;
SET search_path = track, public;
CREATE TABLE a (id int PRIMARY KEY, v int);
CREATE TABLE b (id int PRIMARY KEY, v int, up int REFERENCES a ON DELETE SET NULL);
CREATE TABLE unread (v int);
INSERT INTO a SELECT i, i FROM generate_series(1, 5) i;
INSERT INTO b SELECT i, i, i FROM generate_series(1, 3) i;

CREATE PROCEDURE fill(query text) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. 1000 LOOP
        PERFORM get_or_set_cached_data('track', query);
        COMMIT;
        EXIT WHEN cache_exists('track');
    END LOOP;
END $$;
CREATE PROCEDURE check_now(query text, change text) LANGUAGE plpgsql AS $$
DECLARE
    survived boolean := cache_exists('track');
    cached jsonb;
    computed jsonb;
BEGIN
    BEGIN
        EXECUTE format('SELECT get_or_set_cached_data(''track'', %L), (SELECT coalesce(jsonb_agg(to_jsonb(q)), ''[]'') FROM (%s) q)', query, query) INTO cached, computed;
    EXCEPTION WHEN others THEN
        RAISE NOTICE '%: %, and then an error: %', change, CASE WHEN survived THEN 'still there' ELSE 'gone' END, sqlerrm;
        PERFORM invalidate_cache_key('track');
        COMMIT;
        RETURN;
    END;
    RAISE NOTICE '%: %, %', change, CASE WHEN survived THEN 'still there' ELSE 'gone' END,
        CASE WHEN cached = computed THEN 'right' ELSE 'WRONG: ' || cached::text || ' for ' || computed::text END;
    PERFORM invalidate_cache_key('track');
    COMMIT;
END $$;
CREATE PROCEDURE try(query text, change text) LANGUAGE plpgsql AS $$
BEGIN
    CALL track.fill(query);
    IF NOT cache_exists('track') THEN
        RAISE NOTICE '%: not kept', query;
    END IF;
    EXECUTE change;
    COMMIT;
    CALL track.check_now(query, change);
END $$;

-- Views in views, of functions, with rules that write elsewhere; functions of all kinds; what runs a query that it is given.
CREATE VIEW v1 AS SELECT id, v FROM b;
CREATE VIEW v2 AS SELECT v1.v + x.v AS v FROM v1 JOIN LATERAL (SELECT a.v FROM a WHERE a.id = v1.id) x ON true;
CREATE RULE into_v1 AS ON INSERT TO v1 DO INSTEAD INSERT INTO b (id, v) VALUES (new.id, new.v);
CREATE VIEW barrier WITH (security_barrier) AS SELECT v FROM b WHERE v > 0;
CREATE FUNCTION inlined(p int) RETURNS SETOF b LANGUAGE sql STABLE AS 'SELECT * FROM track.b WHERE id >= p';
CREATE FUNCTION not_inlined() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT sum(v) FROM track.b';
CREATE FUNCTION definer() RETURNS bigint LANGUAGE sql SECURITY DEFINER STABLE SET search_path = track AS 'SELECT sum(v) FROM b';
CREATE FUNCTION loops() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    r record;
    total bigint := 0;
BEGIN
    FOR r IN SELECT v FROM track.b LOOP
        total := total + coalesce(r.v, 0);
    END LOOP;
    RETURN total;
END $$;
CREATE FUNCTION by_cursor() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c CURSOR FOR SELECT sum(v) FROM track.b;
    total bigint;
BEGIN
    OPEN c;
    FETCH c INTO total;
    CLOSE c;
    RETURN total;
END $$;
CREATE FUNCTION by_exception() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 / (sum(v) - sum(v)) FROM track.b;
    RETURN 0;
EXCEPTION WHEN division_by_zero THEN
    RETURN (SELECT count(*) FROM track.a);
END $$;
CREATE FUNCTION step(state int, v int) RETURNS int LANGUAGE sql STABLE AS 'SELECT state + v + (SELECT count(*)::int FROM track.b)';
CREATE AGGREGATE stepped (int) (SFUNC = step, STYPE = int, INITCOND = 0);
CREATE FUNCTION reads_b(int) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT $1 IN (SELECT v FROM track.b)';
CREATE DOMAIN in_b AS int CHECK (track.reads_b(VALUE));
CREATE OPERATOR ##? (RIGHTARG = int, FUNCTION = reads_b);
CALL try('SELECT sum(v) FROM v2', 'UPDATE a SET v = v + 1');
CALL try('SELECT sum(v) FROM v2', 'INSERT INTO v1 VALUES (4, 4)');
CALL try('SELECT sum(v) FROM v2', 'UPDATE v1 SET v = 5 WHERE id = 4');
CALL try('SELECT sum(v) FROM barrier', 'DELETE FROM v1 WHERE id = 4');
CALL try('SELECT sum(v) FROM inlined(2)', 'UPDATE b SET v = v + 1');
CALL try('SELECT not_inlined()', 'UPDATE b SET v = v + 1');
CALL try('SELECT definer()', 'UPDATE b SET v = v + 1');
CALL try('SELECT loops()', 'UPDATE b SET v = v + 1');
CALL try('SELECT by_cursor()', 'UPDATE b SET v = v + 1');
CALL try('SELECT by_exception()', 'INSERT INTO a VALUES (6, 6)');
CALL try('SELECT by_exception()', 'UPDATE b SET v = v + 1');
CALL try('SELECT stepped(id) FROM a', 'INSERT INTO b VALUES (6, 6)');
CALL try('SELECT ##? 6 AS x', 'DELETE FROM b WHERE id = 6');
CALL try('SELECT id FROM a WHERE reads_b(v) ORDER BY id', 'INSERT INTO b VALUES (4, 4)');
CALL try('SELECT query_to_xml(''SELECT v FROM b ORDER BY id'', false, false, '''')::text', 'UPDATE b SET v = v + 1');
CALL try('SELECT count(*) FROM ts_stat(''SELECT to_tsvector(''''simple'''', v::text) FROM b'')', 'DELETE FROM b WHERE id = 4');
CALL try('WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < (SELECT count(*) FROM b)) SELECT count(*) FROM r', 'INSERT INTO b VALUES (4, 4)');
CALL try('SELECT 1 AS x WHERE false AND EXISTS (SELECT FROM b)', 'UPDATE b SET v = v');

-- Ways to write.
CALL try('SELECT sum(v), count(up) FROM b', 'DELETE FROM a WHERE id = 3');
CALL try('SELECT sum(v), count(up) FROM b', 'WITH x AS (UPDATE b SET v = 9 WHERE id = 1 RETURNING v) SELECT v FROM x');
CALL try('SELECT sum(v), count(up) FROM b', $$DO 'BEGIN UPDATE track.b SET v = 8 WHERE id = 1; END'$$);
CALL try('SELECT sum(v), count(up) FROM b', 'SET LOCAL session_replication_role = replica; UPDATE b SET v = 7 WHERE id = 1');
CALL try('SELECT sum(v), count(up) FROM b', 'ALTER TABLE b DISABLE TRIGGER ALL');
CALL try('SELECT sum(v), count(up) FROM b', 'ALTER TABLE b ENABLE TRIGGER ALL');
CREATE FUNCTION writes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE track.b SET v = v + 1; RETURN new; END $$;
CREATE TRIGGER writes AFTER INSERT ON unread FOR EACH ROW EXECUTE FUNCTION writes();
CALL try('SELECT sum(v), count(up) FROM b', 'INSERT INTO unread VALUES (1)');
CREATE FUNCTION no_counts() RETURNS void LANGUAGE sql SET track_counts = off AS 'UPDATE track.b SET v = v + 1';
CALL try('SELECT sum(v), count(up) FROM b', 'SELECT no_counts()');
CALL try('SELECT sum(v), count(up) FROM b', 'TRUNCATE b; INSERT INTO b VALUES (1, 1)');

-- Definitions that a result rests on.
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE moods (m mood);
INSERT INTO moods VALUES ('sad'), ('happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE FUNCTION double(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE OPERATOR #% (RIGHTARG = int, FUNCTION = double);
CREATE COLLATION folded FROM "C";
CREATE MATERIALIZED VIEW stored AS SELECT sum(v) AS total FROM b;
CALL try('SELECT enum_range(NULL::mood)::text', 'ALTER TYPE mood ADD VALUE ''angry'' BEFORE ''sad''');
CALL try('SELECT m FROM moods ORDER BY m', 'ALTER TYPE mood RENAME VALUE ''sad'' TO ''blue''');
CALL try('SELECT 5::positive AS p', 'ALTER DOMAIN positive ADD CHECK (VALUE > 10)');
CALL try('SELECT sum(#% v) FROM b', 'CREATE OR REPLACE FUNCTION double(int) RETURNS int LANGUAGE sql IMMUTABLE AS ''SELECT $1 * 3''');
CALL try('SELECT ''x''::text COLLATE folded = ''X'' AS same', 'DROP COLLATION folded');
CALL try('SELECT total FROM stored', 'REFRESH MATERIALIZED VIEW stored WITH NO DATA');
REFRESH MATERIALIZED VIEW stored;
CALL try('SELECT total FROM stored', 'UPDATE b SET v = v + 1');
CALL try('SELECT id FROM b', 'ALTER TABLE b RENAME id TO ident');
ALTER TABLE b RENAME ident TO id;
CALL try('SELECT * FROM b', 'ALTER TABLE b ADD COLUMN w int DEFAULT 3');
CALL try('SELECT sum(v) FROM b', 'ALTER TABLE b SET SCHEMA public');
ALTER TABLE public.b SET SCHEMA track;
CREATE SCHEMA first;
SET search_path = first, track, public;
CALL try('SELECT count(*) FROM b', 'CREATE TABLE first.b AS SELECT 1 AS v FROM generate_series(1, 3)');
DROP TABLE first.b;
CALL try('SELECT count(*) FROM b', 'EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) CREATE TABLE first.b AS SELECT 1 AS v FROM generate_series(1, 3)');
SET client_min_messages = warning;
DROP SCHEMA first CASCADE;
RESET client_min_messages;
SET search_path = track, public;
CALL try('SELECT double(1)', $$UPDATE pg_proc SET prosrc = 'SELECT $1 * 4' WHERE oid = 'track.double'::regproc$$);
CALL try('SELECT count(*) FROM b', 'CLUSTER b USING b_pkey');
CALL try('SELECT count(*) FROM b', 'CREATE INDEX ON b (v)');
CALL try('SELECT count(*) FROM b', 'REINDEX TABLE b');
CALL try('SELECT count(*) FROM b', 'COMMENT ON TABLE b IS ''nothing''');
CALL fill('SELECT count(*) FROM b');
VACUUM FULL b;
CALL check_now('SELECT count(*) FROM b', 'VACUUM FULL');

-- Partitions and children: by the name of the leaf, attached and detached, also concurrently.
CREATE TABLE parts (id int, v int) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2) PARTITION BY LIST (v);
CREATE TABLE parts_2_1 PARTITION OF parts_2 FOR VALUES IN (1);
CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
CREATE TABLE parent (v int);
CREATE TABLE child (v int);
INSERT INTO child VALUES (1);
CALL try('SELECT sum(v) FROM parts', 'INSERT INTO parts_2_1 VALUES (2, 1)');
CALL try('SELECT sum(v) FROM parts', 'COPY parts_rest FROM PROGRAM ''echo 7,1'' (FORMAT csv)');
CALL try('SELECT sum(v) FROM parts WHERE id = 2', 'INSERT INTO parts_rest VALUES (8, 8)');
CALL try('SELECT sum(v) FROM parts', 'UPDATE parts SET id = 1 WHERE id = 7');
CALL fill('SELECT sum(v) FROM parts');
ALTER TABLE parts DETACH PARTITION parts_1;
CALL check_now('SELECT sum(v) FROM parts', 'DETACH');
CALL try('SELECT sum(v) FROM parent', 'ALTER TABLE child INHERIT parent');
CALL try('SELECT sum(v) FROM parent', 'INSERT INTO child VALUES (2)');
CALL try('SELECT sum(v) FROM parent', 'ALTER TABLE child NO INHERIT parent');

-- Row security: the table's own, of tables that a policy asks, of memberships.
CREATE TABLE teams (who name, team int);
CREATE TABLE grants (team int, open boolean);
CREATE TABLE docs (team int, v int);
INSERT INTO grants VALUES (1, true), (2, false);
INSERT INTO docs VALUES (1, 1), (2, 20), (3, 300);
CREATE POLICY open_teams ON docs USING (team IN (SELECT team FROM grants WHERE open));
CREATE ROLE regress_track_reader;
CREATE ROLE regress_track_group;
GRANT USAGE ON SCHEMA track TO regress_track_reader;
GRANT SELECT ON docs, grants, teams TO regress_track_reader;
CREATE FUNCTION as_reader() RETURNS jsonb LANGUAGE plpgsql SET ROLE = regress_track_reader AS $$
BEGIN
    RETURN (SELECT jsonb_agg(v ORDER BY v) FROM track.docs);
EXCEPTION WHEN insufficient_privilege THEN
    RETURN to_jsonb(sqlerrm);
END $$;
CALL try('SELECT as_reader()::text AS v', 'ALTER TABLE docs ENABLE ROW LEVEL SECURITY');
CALL try('SELECT as_reader()::text AS v', 'UPDATE grants SET open = true WHERE team = 2');
CALL try('SELECT as_reader()::text AS v', 'INSERT INTO docs VALUES (2, 21)');
CALL try('SELECT as_reader()::text AS v', 'CREATE POLICY members ON docs USING (team = 3 AND pg_has_role(current_user, ''regress_track_group'', ''MEMBER''))');
CALL try('SELECT as_reader()::text AS v', 'GRANT regress_track_group TO regress_track_reader');
CALL try('SELECT as_reader()::text AS v', 'REVOKE regress_track_group FROM regress_track_reader');
CALL try('SELECT as_reader()::text AS v', 'ALTER POLICY open_teams ON docs USING (team = 2)');
CALL try('SELECT as_reader()::text AS v', 'ALTER TABLE grants ENABLE ROW LEVEL SECURITY');
CALL try('SELECT as_reader()::text AS v', 'ALTER ROLE regress_track_reader BYPASSRLS');
CALL try('SELECT as_reader()::text AS v', 'ALTER ROLE regress_track_reader NOBYPASSRLS');
CALL try('SELECT as_reader()::text AS v', 'DROP POLICY open_teams ON docs');
CALL try('SELECT as_reader()::text AS v', 'REVOKE SELECT ON docs FROM regress_track_reader');
CALL try('SELECT as_reader()::text AS v', 'GRANT SELECT ON docs TO regress_track_reader');
CALL try('SELECT as_reader()::text AS v', 'ALTER TABLE docs DISABLE ROW LEVEL SECURITY');
-- In another database a role is the same.
SELECT current_database() AS here \gset
CALL fill('SELECT as_reader()::text AS v');
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
CALL fill('SELECT as_reader()::text AS v');
\c template1
GRANT regress_track_group TO regress_track_reader;
\c :here
SET search_path = track, public;
CALL check_now('SELECT as_reader()::text AS v', 'GRANT of a role in another database');
-- There a new role makes an old one a member, and another owner of this database is a member of pg_database_owner here.
CREATE POLICY owners ON docs USING (team = 1 AND pg_has_role(current_user, 'pg_database_owner', 'MEMBER'));
SELECT current_user AS me \gset
REVOKE regress_track_group FROM regress_track_reader;
CALL fill('SELECT as_reader()::text AS v');
\c template1
CREATE ROLE regress_track_between IN ROLE regress_track_group ROLE regress_track_reader;
\c :here
SET search_path = track, public;
CALL check_now('SELECT as_reader()::text AS v', 'CREATE ROLE in another database');
CALL fill('SELECT as_reader()::text AS v');
\c template1
ALTER DATABASE :"here" OWNER TO regress_track_reader;
\c :here
SET search_path = track, public;
CALL check_now('SELECT as_reader()::text AS v', 'ALTER DATABASE in another one');
CALL fill('SELECT as_reader()::text AS v');
\c template1
REASSIGN OWNED BY regress_track_reader TO :"me";
\c :here
SET search_path = track, public;
CALL check_now('SELECT as_reader()::text AS v', 'REASSIGN OWNED in another database');
CALL fill('SELECT as_reader()::text AS v');
\c template1
DELETE FROM pg_auth_members WHERE member = 'regress_track_reader'::regrole;
\c :here
SET search_path = track, public;
CALL check_now('SELECT as_reader()::text AS v', 'a catalog of roles written in another database');
DROP ROLE regress_track_between;

-- Prepared: nobody is served what it changes until it is over.
CALL fill('SELECT sum(v) FROM b');
BEGIN;
UPDATE b SET v = v + 1;
PREPARE TRANSACTION 'track';
SELECT cache_exists('track'), reason, name, at, status FROM explain_invalidation('track') WHERE scope = 'shared';
COMMIT PREPARED 'track';
CALL check_now('SELECT sum(v) FROM b', 'PREPARE TRANSACTION');
-- Savepoints: what is rolled back changes nothing.
CALL fill('SELECT sum(v) FROM b');
BEGIN;
SAVEPOINT s;
UPDATE b SET v = v + 1;
ALTER TABLE unread ADD COLUMN x int;
SELECT cache_exists('track');
ROLLBACK TO s;
INSERT INTO grants VALUES (9, false);
COMMIT;
SELECT cache_exists('track');

-- What is not kept, and what is kept though nobody is told when it changes.
CREATE SEQUENCE counter;
CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE remote PARTITION OF parts FOR VALUES IN (3) SERVER elsewhere;
CREATE TEMPORARY TABLE mine (v int);
CREATE FUNCTION look(query text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM get_or_set_cached_data('track:' || query, query);
    RETURN cache_exists('track:' || query);
END $$;
SELECT q, look(q) AS kept FROM unnest(ARRAY[
    'SELECT last_value FROM counter', 'SELECT count(*) FROM pg_class', 'SELECT count(*) FROM information_schema.tables', 'SELECT count(*) FROM parts WHERE id < 0',
    'SELECT count(*) FROM mine', 'SELECT loid FROM pg_largeobject', 'SELECT count(*) FROM pg_stat_activity', 'SELECT nextval(''counter'') > 0 AS x',
    'SELECT random()', 'SELECT now()', 'SELECT clock_timestamp()', 'SELECT current_setting(''app.tenant'', true)', 'SELECT current_user',
    'SELECT pg_relation_size(''b'')', 'SELECT to_regclass(''b'')', 'SELECT 1 AS x']) q;

SET client_min_messages = warning;
DROP SCHEMA track CASCADE;
DROP TABLE mine;
DROP FOREIGN DATA WRAPPER nowhere CASCADE;
DROP OWNED BY regress_track_reader, regress_track_group;
DROP ROLE regress_track_reader, regress_track_group;
