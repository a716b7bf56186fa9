-- What the randomized checker works on: a few rows that everybody writes, and the functions that hold the cache against them.
-- Every kind of entry is a sum over one group of rows, and is invalidated in a way of its own.

CREATE EXTENSION IF NOT EXISTS cache_ext;
CREATE SCHEMA checker;
SET search_path = checker, public;

-- by row triggers with templates, and by a statement trigger with a plain tag
CREATE TABLE item (id int PRIMARY KEY, grp int NOT NULL, n bigint NOT NULL);
CREATE TRIGGER by_row AFTER INSERT OR UPDATE OR DELETE ON item
    FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('item:{grp}');
CREATE TRIGGER by_statement AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON item
    FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('items');

-- by statement triggers with transition tables
CREATE TABLE bulk (id int PRIMARY KEY, grp int NOT NULL, n bigint NOT NULL);
CREATE TRIGGER by_insert AFTER INSERT ON bulk REFERENCING NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('bulk:{grp}');
CREATE TRIGGER by_update AFTER UPDATE ON bulk REFERENCING OLD TABLE AS old NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('bulk:{grp}');
CREATE TRIGGER by_delete AFTER DELETE ON bulk REFERENCING OLD TABLE AS old
    FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('bulk:{grp}');

-- by key and by pattern, called from triggers of the table's owner
CREATE TABLE bykey (id int PRIMARY KEY, grp int NOT NULL, n bigint NOT NULL);
CREATE FUNCTION bykey_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.invalidate_cache_key('bykey:' || new.grp);
    RETURN NULL;
END $$;
CREATE TRIGGER changed AFTER UPDATE ON bykey FOR EACH ROW EXECUTE FUNCTION bykey_changed();

CREATE TABLE bypattern (id int PRIMARY KEY, grp int NOT NULL, n bigint NOT NULL);
CREATE FUNCTION bypattern_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM public.invalidate_cache_by_pattern('bypattern:' || new.grp || '*');
    RETURN NULL;
END $$;
CREATE TRIGGER changed AFTER UPDATE ON bypattern FOR EACH ROW EXECUTE FUNCTION bypattern_changed();

-- by a trigger that fires at commit
CREATE TABLE late (id int PRIMARY KEY, grp int NOT NULL, n bigint NOT NULL);
CREATE CONSTRAINT TRIGGER at_commit AFTER INSERT OR UPDATE OR DELETE ON late
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('late:{grp}');

-- by a foreign key that cascades
CREATE TABLE parent (id int PRIMARY KEY, n int NOT NULL);
CREATE SEQUENCE new_id START 100;
CREATE TABLE child (id int PRIMARY KEY DEFAULT nextval('new_id'), parent int NOT NULL REFERENCES parent ON DELETE CASCADE, grp int NOT NULL, n bigint NOT NULL);
CREATE TRIGGER by_row AFTER INSERT OR UPDATE OR DELETE ON child
    FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('child:{grp}');

-- by TRUNCATE, which is not as old snapshots see it: looked at only by transactions that hold the table before they take their snapshot
CREATE TABLE emptied (grp int NOT NULL, n bigint NOT NULL);
CREATE TRIGGER by_statement AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON emptied
    FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('emptied');

-- What was written, row by row, by transactions that committed: from it a violation is explained.
CREATE TABLE history (
    seq bigserial,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    pid int NOT NULL DEFAULT pg_backend_pid(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tab name NOT NULL,
    op text NOT NULL,
    old_grp int,
    old_n bigint,
    new_grp int,
    new_n bigint);
CREATE FUNCTION note_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op = 'TRUNCATE' THEN
        INSERT INTO checker.history (tab, op) VALUES (tg_table_name, tg_op);
    ELSE
        INSERT INTO checker.history (tab, op, old_grp, old_n, new_grp, new_n) VALUES (tg_table_name, tg_op, old.grp, old.n, new.grp, new.n);
    END IF;
    RETURN NULL;
END $$;
DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY '{item,bulk,bykey,bypattern,late,child,emptied}'::text[] LOOP
        EXECUTE format('CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION note_row()', tab);
    END LOOP;
END $$;
CREATE TRIGGER note_truncate AFTER TRUNCATE ON emptied FOR EACH STATEMENT EXECUTE FUNCTION note_row();

INSERT INTO item SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO bulk SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO bykey SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO bypattern SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO late SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO parent SELECT i, 0 FROM generate_series(0, 9) i;
INSERT INTO child (parent, grp, n) SELECT i % 10, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO emptied SELECT i % 4, i FROM generate_series(0, 19) i;

-- Values and leases on their way from one session to another.
CREATE TABLE mail (id bigserial PRIMARY KEY, kind int NOT NULL, grp int NOT NULL, value jsonb NOT NULL, lease text NOT NULL);

CREATE UNLOGGED SEQUENCE hits;
CREATE UNLOGGED SEQUENCE fills;
CREATE UNLOGGED SEQUENCE refused;
CREATE UNLOGGED SEQUENCE finished;
CREATE UNLOGGED SEQUENCE exported;

CREATE FUNCTION key_of(kind int, g int) RETURNS text IMMUTABLE LANGUAGE sql AS
$$ SELECT CASE kind WHEN 0 THEN 'item:' || g WHEN 1 THEN 'items' WHEN 2 THEN 'bulk:' || g
                    WHEN 3 THEN 'bykey:' || g WHEN 4 THEN 'bypattern:' || g WHEN 5 THEN 'late:' || g
                    WHEN 6 THEN 'child:' || g WHEN 7 THEN 'emptied:' || g END $$;

CREATE FUNCTION tags_of(kind int, g int) RETURNS text[] IMMUTABLE LANGUAGE sql AS
$$ SELECT CASE WHEN kind = 7 THEN '{emptied}' WHEN kind IN (0, 2, 5, 6) THEN ARRAY[checker.key_of(kind, g), 'kind:' || kind]
               WHEN kind = 1 THEN '{items}' ELSE '{}' END::text[] $$;

-- The truth, under the snapshot of whatever statement asks.
CREATE FUNCTION truth(kind int, g int) RETURNS bigint STABLE LANGUAGE sql AS
$$ SELECT CASE kind
       WHEN 0 THEN (SELECT coalesce(sum(n), 0) FROM checker.item WHERE grp = g)
       WHEN 1 THEN (SELECT coalesce(sum(n), 0) FROM checker.item)
       WHEN 2 THEN (SELECT coalesce(sum(n), 0) FROM checker.bulk WHERE grp = g)
       WHEN 3 THEN (SELECT coalesce(sum(n), 0) FROM checker.bykey WHERE grp = g)
       WHEN 4 THEN (SELECT coalesce(sum(n), 0) FROM checker.bypattern WHERE grp = g)
       WHEN 5 THEN (SELECT coalesce(sum(n), 0) FROM checker.late WHERE grp = g)
       WHEN 6 THEN (SELECT coalesce(sum(n), 0) FROM checker.child WHERE grp = g)
   END::bigint $$;
-- On its own, since whoever calls it locks the table.
CREATE FUNCTION truth_emptied(g int) RETURNS bigint STABLE LANGUAGE sql AS
$$ SELECT coalesce(sum(n), 0)::bigint FROM checker.emptied WHERE grp = g $$;

-- The clock of the current snapshot, as a lease carries it. NULL where there is none.
CREATE FUNCTION clock() RETURNS bigint VOLATILE LANGUAGE sql AS
$$ SELECT ('x' || substr(lease, 17, 16))::bit(64)::bigint FROM public.get_cached_entry('nothing') $$;

-- A value as it is stored: with who computed it, when, and what that session saw.
CREATE FUNCTION described(value bigint) RETURNS jsonb STABLE LANGUAGE sql AS
$$ SELECT jsonb_build_object('v', value, 'pid', pg_backend_pid(), 'at', clock_timestamp(), 'isolation', current_setting('transaction_isolation'),
       'snapshot', pg_current_snapshot(), 'xid', pg_current_xact_id_if_assigned()) $$;
CREATE FUNCTION computed(kind int, g int) RETURNS jsonb STABLE LANGUAGE sql AS
$$ SELECT checker.described(checker.truth(kind, g)) $$;

-- What is raised is read by report().
CREATE FUNCTION compare(kind int, g int, cached jsonb, truth bigint, snapshot pg_snapshot, context text) RETURNS bigint VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF cached IS NULL THEN
        RETURN -1;
    END IF;
    IF (cached ->> 'v')::bigint IS DISTINCT FROM truth THEN
        RAISE EXCEPTION 'VIOLATION %', jsonb_build_object('context', context, 'kind', kind, 'g', g, 'truth', truth, 'cached', cached,
            'reader', checker.described(truth) || jsonb_build_object('snapshot', snapshot, 'clock', checker.clock()),
            'entry', (SELECT to_jsonb(e) - 'cache_data' FROM public.get_cached_entry(checker.key_of(kind, g)) e));
    END IF;
    RETURN truth;
END $$;

-- The oracle: both sides under the snapshot of the calling statement, since neither is volatile. -1: a miss.
CREATE FUNCTION check_entry(kind int, g int, context text) RETURNS bigint STABLE LANGUAGE sql AS
$$ SELECT checker.compare(kind, g, public.get_cached_data(checker.key_of(kind, g)), checker.truth(kind, g), pg_current_snapshot(), context) $$;

CREATE FUNCTION check_emptied(g int, context text) RETURNS bigint STABLE LANGUAGE sql AS
$$ SELECT checker.compare(7, g, public.get_cached_data(checker.key_of(7, g)), checker.truth_emptied(g), pg_current_snapshot(), context) $$;

-- For a transaction that has written rows whose trigger fires only at commit: nothing to compare for itself before that.
CREATE FUNCTION check_own(kind int, g int, context text) RETURNS bigint STABLE LANGUAGE sql AS
$$ SELECT CASE WHEN kind = 5 THEN -1 ELSE checker.check_entry(kind, g, context) END $$;

-- Cached functions: one that is invalidated by tags for its argument, and, where the server tracks what is written, one that depends on what it reads.
CREATE FUNCTION sum_of_items(g int) RETURNS jsonb STABLE LANGUAGE plpgsql AS
$$ BEGIN RETURN checker.described((SELECT coalesce(sum(n), 0)::bigint FROM checker.item WHERE grp = g)); END $$;
-- A set, of which each kind reads a table of its own.
CREATE FUNCTION sums(kind int, g int) RETURNS TABLE (value jsonb) STABLE LANGUAGE plpgsql AS $$
DECLARE
    tables text[] := '{item,item,bulk,bykey,bypattern,late,child}';
BEGIN
    RETURN QUERY EXECUTE format('SELECT checker.described(coalesce(sum(n), 0)::bigint) FROM checker.%I WHERE $1 = 1 OR grp = $2', tables[kind + 1]) USING kind, g;
END $$;
DO $$ BEGIN
    SET LOCAL client_min_messages = warning;
    PERFORM public.create_cached_function('checker.sum_of_items(int)', p_cache_tags => ARRAY['item:{g}', 'kind:0']);
    IF current_setting('shared_preload_libraries') ~ 'cache_ext' THEN
        PERFORM public.create_cached_function('checker.sums(int, int)');
    END IF;
END $$;

-- The same for what the extension computes. Without tags it depends on the tables that it reads. A write whose trigger fires at commit is
-- not known to its own transaction's tags.
CREATE FUNCTION check_computed(kind int, g int, tracked boolean, context text) RETURNS bigint VOLATILE LANGUAGE plpgsql AS $$
DECLARE
    tables text[] := '{item,item,bulk,bykey,bypattern,late,child}';
    query text := format('SELECT checker.described(coalesce(sum(n), 0)::bigint) FROM checker.%I%s', tables[kind + 1],
        CASE WHEN kind <> 1 THEN ' WHERE grp = $1::int' END);
    params jsonb := CASE WHEN kind = 1 THEN '[]' ELSE jsonb_build_array(g) END;
    result bigint := -1;
BEGIN
    IF kind IN (0, 1, 2, 6) THEN
        SELECT checker.compare(kind, g, public.get_or_set_cached_data('computed:' || checker.key_of(kind, g), query, NULL,
            checker.tags_of(kind, g), params), checker.truth(kind, g), pg_current_snapshot(), context) INTO result;
    END IF;
    IF tracked THEN
        SELECT checker.compare(kind, g, public.get_or_set_cached_data('tracked:' || checker.key_of(kind, g), query, NULL,
            NULL, params), checker.truth(kind, g), pg_current_snapshot(), context || ', tracked') INTO result;
        PERFORM checker.compare(kind, g, f.value, checker.truth(kind, g), pg_current_snapshot(), context || ', tracked function')
        FROM checker.sums_cached(kind, g) f;
    END IF;
    IF kind = 0 THEN
        PERFORM checker.compare(kind, g, checker.sum_of_items_cached(g), checker.truth(kind, g), pg_current_snapshot(), context || ', function');
    END IF;
    RETURN result;
END $$;

-- What is known of a violation: who read, who computed the value, and who wrote the rows that it is a sum of, as they were committed.
CREATE FUNCTION report(violation jsonb) RETURNS SETOF text STABLE LANGUAGE plpgsql AS $$
DECLARE
    tables name[] := '{item,item,bulk,bykey,bypattern,late,child,emptied}';
    kind int := violation ->> 'kind';
    g int := violation ->> 'g';
    reader jsonb := violation -> 'reader';
    value jsonb := violation -> 'cached';
    ordered boolean := current_setting('track_commit_timestamp');
    row record;
BEGIN
    RETURN NEXT format('VIOLATION (%s): the sum of %s is %s, but the cache says %s', violation ->> 'context', checker.key_of(kind, g),
        violation ->> 'truth', coalesce(value ->> 'v', value::text));
    RETURN NEXT format('  read by %s at %s, %s, snapshot %s, xid %s, clock %s', reader ->> 'pid', reader ->> 'at', reader ->> 'isolation',
        reader ->> 'snapshot', coalesce(reader ->> 'xid', 'none'), coalesce(reader ->> 'clock', 'unknown'));
    RETURN NEXT format('  computed by %s at %s, %s, snapshot %s, xid %s, %s', value ->> 'pid', value ->> 'at', value ->> 'isolation',
        value ->> 'snapshot', coalesce(value ->> 'xid', 'none'),
        CASE WHEN value ? 'clock' THEN format('set by %s at %s with the clock at %s', value ->> 'set_by', value ->> 'set_at', coalesce(value ->> 'clock', 'nothing'))
             ELSE 'set at once' END);
    IF value ? 'xid' AND value ->> 'xid' IS NOT NULL THEN
        RETURN NEXT format('  the transaction that computed it, %s: %s', value ->> 'xid', pg_xact_status((value ->> 'xid')::xid8));
    END IF;
    RETURN NEXT format('  the entry, as the reader found it afterwards: %s', coalesce(violation ->> 'entry', 'gone'));
    RETURN NEXT format('  the last writers, by %s (nothing that was rolled back is here):', CASE WHEN ordered THEN 'their commits' ELSE 'their ids' END);
    FOR row IN
        WITH writes AS (
            SELECT *, pg_visible_in_snapshot(xid, (reader ->> 'snapshot')::pg_snapshot) OR xid::text = reader ->> 'xid' AS seen_by_reader,
                pg_visible_in_snapshot(xid, (value ->> 'snapshot')::pg_snapshot) OR xid::text = value ->> 'xid' AS seen_by_value
            FROM checker.history
            WHERE tab = tables[kind + 1] AND (kind = 1 OR op = 'TRUNCATE' OR g IN (old_grp, new_grp))
                AND at < (reader ->> 'at')::timestamptz + interval '20 milliseconds')
        SELECT *, CASE WHEN ordered THEN pg_xact_commit_timestamp(xid::xid) END AS committed_at
        FROM writes
        -- all that one saw and the other did not, and some before
        WHERE seq > (SELECT min(seq) FROM (SELECT seq FROM writes ORDER BY seq DESC LIMIT 8) AS last)
            OR seq > (SELECT min(seq) - 40 FROM writes WHERE seen_by_reader <> seen_by_value)
        ORDER BY committed_at, xid, seq
    LOOP
        RETURN NEXT format('    xid %s of %s, at %s%s: %s %s, group %s, n %s: %s', row.xid, row.pid, row.at,
            coalesce(', committed ' || row.committed_at, ''), row.op, row.tab, concat_ws(' -> ', row.old_grp, row.new_grp), concat_ws(' -> ', row.old_n, row.new_n),
            CASE WHEN row.seen_by_reader AND row.seen_by_value THEN 'seen by both'
                 WHEN row.seen_by_reader THEN 'seen by the reader, NOT BY THE VALUE'
                 WHEN row.seen_by_value THEN 'NOT SEEN BY THE READER, but by the value'
                 ELSE 'seen by neither' END);
    END LOOP;
END $$;

CREATE FUNCTION write(kind int, row_id int, by bigint) RETURNS void VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    CASE kind
        WHEN 0, 1 THEN
            IF by % 7 = 0 THEN
                DELETE FROM checker.item WHERE id = row_id;
                INSERT INTO checker.item VALUES (row_id, by % 4, by) ON CONFLICT (id) DO UPDATE SET n = excluded.n;
            ELSIF by % 5 = 0 THEN
                UPDATE checker.item SET grp = (grp + 1) % 4, n = n + by WHERE id = row_id;
            ELSE
                UPDATE checker.item SET n = n + by WHERE id = row_id;
            END IF;
        WHEN 2 THEN
            IF by % 5 = 0 THEN
                UPDATE checker.bulk SET grp = (grp + 1) % 4, n = n + by WHERE id IN (row_id, 19 - row_id);
            ELSIF by % 11 = 0 THEN
                DELETE FROM checker.bulk WHERE id >= 100;
                EXECUTE format('COPY checker.bulk FROM PROGRAM %L (FORMAT csv)', format('echo %s,%s,%s', nextval('checker.new_id'), by % 4, by));
            ELSE
                UPDATE checker.bulk SET n = n + by WHERE id = row_id;
            END IF;
        WHEN 3 THEN UPDATE checker.bykey SET n = n + by WHERE id = row_id;
        WHEN 4 THEN UPDATE checker.bypattern SET n = n + by WHERE id = row_id;
        WHEN 5 THEN UPDATE checker.late SET n = n + by WHERE id = row_id;
        WHEN 6 THEN
            IF by % 3 = 0 THEN
                DELETE FROM checker.parent WHERE id = row_id % 10;
            END IF;
            -- Holds the row that the new one refers to.
            INSERT INTO checker.parent VALUES (row_id % 10, 0) ON CONFLICT (id) DO UPDATE SET n = parent.n + 1;
            INSERT INTO checker.child (parent, grp, n) VALUES (row_id % 10, by % 4, by);
    END CASE;
END $$;

CREATE FUNCTION write_if_free(kind int, row_id int, by bigint) RETURNS void VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    PERFORM checker.write(kind, row_id, by);
EXCEPTION WHEN serialization_failure OR deadlock_detected THEN
    NULL;
END $$;

CREATE FUNCTION count(what regclass) RETURNS void VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF NOT current_setting('transaction_read_only')::boolean THEN
        PERFORM nextval(what);
    END IF;
END $$;

CREATE FUNCTION fill(kind int, g int, value jsonb, short boolean, lease text DEFAULT NULL) RETURNS boolean VOLATILE LANGUAGE plpgsql AS $$
DECLARE
    accepted boolean := public.set_cached_data(checker.key_of(kind, g),
        value || jsonb_build_object('set_by', pg_backend_pid(), 'set_at', clock_timestamp(), 'clock', checker.clock()),
        CASE WHEN short THEN interval '20 milliseconds' END, checker.tags_of(kind, g), nullif(lease, ''));
BEGIN
    PERFORM checker.count(CASE WHEN accepted THEN 'checker.fills' ELSE 'checker.refused' END);
    RETURN accepted;
END $$;

-- Fills from a query that began before: the value is as old as that query's snapshot, not as the miss in here.
CREATE FUNCTION fill_from_outer(kind int, g int, value jsonb) RETURNS void VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF public.get_cached_data(checker.key_of(kind, g)) IS NULL THEN
        PERFORM checker.fill(kind, g, value, false);
    END IF;
END $$;

-- Nothing is served after it expires.
CREATE FUNCTION check_time(kind int, g int) RETURNS void STABLE LANGUAGE plpgsql AS $$
DECLARE
    ends timestamptz := (public.get_cached_entry(checker.key_of(kind, g))).expires_at;
BEGIN
    IF ends < statement_timestamp() THEN
        RAISE EXCEPTION 'VIOLATION (time): % ended at %, served to a statement of %', checker.key_of(kind, g), ends, statement_timestamp();
    END IF;
END $$;
