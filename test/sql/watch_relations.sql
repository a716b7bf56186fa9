-- The invalidation of a learning platform, as its application used to do it by hand: cascade, bulk, conditional and smart invalidation. Products have
-- modules; students progress through modules and watch experts' sessions. Each table says once what a change of it makes wrong.
SET client_min_messages = warning;
CREATE EXTENSION cache_ext;

CREATE TABLE products (id int PRIMARY KEY, name text);
CREATE TABLE modules (id int PRIMARY KEY, product_id int REFERENCES products ON DELETE CASCADE, title text);
CREATE TABLE students (id int PRIMARY KEY, name text, last_seen timestamptz);
CREATE TABLE student_module_progress (
    student_id int REFERENCES students ON DELETE CASCADE, module_id int REFERENCES modules ON DELETE CASCADE,
    status text NOT NULL, seconds_watched int NOT NULL DEFAULT 0, PRIMARY KEY (student_id, module_id));
CREATE TABLE job_readiness_expert_sessions (id int PRIMARY KEY, product_id int REFERENCES products ON DELETE CASCADE, title text);
CREATE TABLE job_readiness_expert_session_progress (
    student_id int REFERENCES students ON DELETE CASCADE, expert_session_id int REFERENCES job_readiness_expert_sessions ON DELETE CASCADE,
    percent int NOT NULL, PRIMARY KEY (student_id, expert_session_id));
INSERT INTO products VALUES (1, 'boats'), (2, 'trains');
INSERT INTO modules VALUES (10, 1, 'sails'), (11, 1, 'oars'), (20, 2, 'rails');
INSERT INTO students VALUES (1, 'Ada'), (2, 'Ben'), (3, 'Cleo');
INSERT INTO student_module_progress VALUES (1, 10, 'done'), (1, 20, 'open'), (2, 20, 'open');
INSERT INTO job_readiness_expert_sessions VALUES (100, 1, 'knots'), (200, 2, 'steam');
INSERT INTO job_readiness_expert_session_progress VALUES (1, 100, 50), (3, 100, 10);

-- Smart: a row's own columns name what shows it. Conditional: seconds come in all the time, and only a new status is seen by anybody.
SELECT watch_table('student_module_progress',
    ARRAY['student_progress', 'product_performance', 'module_completion', 'progress', 'student:{student_id}', 'module:{module_id}'],
    'old.status IS DISTINCT FROM new.status');
SELECT watch_table('job_readiness_expert_session_progress',
    ARRAY['expert_sessions', 'expert_session_stats', 'stats', 'progress', 'student:{student_id}', 'session:{expert_session_id}']);
-- Cascades: what hangs on a row by way of other tables.
SELECT watch_table('products', ARRAY['products', 'product_performance', 'performance', 'product:{id}'], NULL, $$
    SELECT 'module:' || m.id FROM changed c JOIN modules m ON m.product_id = c.id
    UNION SELECT unnest(ARRAY['module_completion', 'student_progress']) FROM changed
$$);
SELECT watch_table('modules', ARRAY['modules', 'product_performance', 'module_completion', 'module:{id}', 'product:{product_id}'], NULL, $$
    SELECT ARRAY['student_progress', 'student:' || p.student_id] FROM changed c JOIN student_module_progress p ON p.module_id = c.id
$$);
SELECT watch_table('students', ARRAY['students', 'student_progress', 'product_performance', 'student:{id}'],
    'old.name IS DISTINCT FROM new.name', $$
    SELECT ARRAY['module_completion', 'module:' || p.module_id] FROM changed c JOIN student_module_progress p ON p.student_id = c.id
$$);
SELECT watch_table('job_readiness_expert_sessions', ARRAY['expert_sessions', 'expert_session_stats', 'stats', 'session:{id}', 'product:{product_id}'], NULL, $$
    SELECT ARRAY['progress', 'student_progress', 'student:' || p.student_id] FROM changed c
    JOIN job_readiness_expert_session_progress p ON p.expert_session_id = c.id
$$);
SELECT watched_table, enabled, when_condition IS NOT NULL AS conditional, cascade_query IS NOT NULL AS cascading FROM cache_watches ORDER BY watched_table::text;

-- Runs a statement, and says what is gone.
CREATE PROCEDURE change(p_statement text, INOUT gone text DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
    tags CONSTANT text[] := ARRAY['students', 'student_progress', 'progress', 'modules', 'module_completion', 'products', 'product_performance', 'performance',
        'expert_sessions', 'expert_session_stats', 'stats', 'student:1', 'student:2', 'student:3', 'module:10', 'module:11', 'module:20', 'product:1', 'product:2',
        'session:100', 'session:200', 'something else'];
BEGIN
    PERFORM set_cached_data(t, '1', p_cache_tags => ARRAY[t]) FROM unnest(tags) t;
    COMMIT;
    EXECUTE p_statement;
    COMMIT;
    gone := (SELECT string_agg(t, ', ' ORDER BY n) FROM unnest(tags) WITH ORDINALITY a (t, n) WHERE NOT cache_exists(t));
END
$$;

CALL change('UPDATE student_module_progress SET seconds_watched = seconds_watched + 30');
CALL change('UPDATE student_module_progress SET status = ''done'' WHERE student_id = 2');
CALL change('UPDATE student_module_progress SET status = ''done''');
CALL change('INSERT INTO student_module_progress VALUES (3, 11, ''open'')');
CALL change('INSERT INTO student_module_progress VALUES (3, 11, ''open'') ON CONFLICT (student_id, module_id) DO UPDATE SET seconds_watched = 1');
CALL change('UPDATE students SET last_seen = now()');
CALL change('UPDATE students SET name = ''Augusta'' WHERE id = 1');
CALL change('UPDATE modules SET title = ''Sails'' WHERE id = 10');
CALL change('UPDATE modules SET product_id = 2 WHERE id = 11');
CALL change('UPDATE products SET name = ''Trains'' WHERE id = 2');
CALL change('UPDATE job_readiness_expert_sessions SET title = ''Knots'' WHERE id = 100');
CALL change('UPDATE job_readiness_expert_session_progress SET percent = 100 WHERE student_id = 3');
-- Bulk: many changes of many kinds, one transaction; what was invalidated on the way out of a savepoint that is rolled back is not.
CALL change($c$DO $x$ BEGIN
    UPDATE job_readiness_expert_session_progress SET percent = percent - 1 WHERE expert_session_id = 100;
    INSERT INTO students SELECT g, 'many' FROM generate_series(1000, 1999) g;
    INSERT INTO student_module_progress SELECT g, 20, 'open' FROM generate_series(1000, 1999) g;
    BEGIN
        UPDATE products SET name = 'x';
        RAISE 'no';
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
END $x$ $c$);
CALL change('DELETE FROM students WHERE id >= 1000');
-- A product goes with all that hangs on it.
CALL change('DELETE FROM products WHERE id = 1');

-- A page of the application: computed from several tables, cached under the tags of all of them, right after each change.
CREATE FUNCTION performance(p_product int) RETURNS jsonb STABLE LANGUAGE sql AS $$
    SELECT jsonb_object_agg(m.title, (SELECT count(*) FROM student_module_progress p WHERE p.module_id = m.id AND p.status = 'done'))
    FROM modules m WHERE m.product_id = p_product
$$;
CREATE PROCEDURE check_page(p_statement text, INOUT was_invalidated boolean DEFAULT NULL, INOUT is_right boolean DEFAULT NULL) LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_cached_data('page', performance(2), p_cache_tags => ARRAY['product:2', 'module_completion']);
    COMMIT;
    EXECUTE p_statement;
    COMMIT;
    was_invalidated := NOT cache_exists('page');
    is_right := coalesce(get_cached_data('page') = performance(2), true);
END
$$;
CALL check_page('UPDATE student_module_progress SET seconds_watched = 0');
CALL check_page('UPDATE student_module_progress SET status = ''open'' WHERE student_id = 2');
CALL check_page('UPDATE modules SET title = ''Rails'' WHERE id = 20');
CALL check_page('UPDATE students SET last_seen = now()');
CALL check_page('DELETE FROM students WHERE id = 1');
DROP TABLE products, modules, students, student_module_progress, job_readiness_expert_sessions, job_readiness_expert_session_progress CASCADE;
DROP FUNCTION performance;
DROP PROCEDURE change, check_page;
DROP EXTENSION cache_ext;
