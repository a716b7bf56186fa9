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

INSERT INTO item SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO bulk SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO bykey SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO bypattern SELECT i, i % 4, i FROM generate_series(0, 19) i;
INSERT INTO late SELECT i, i % 4, i FROM generate_series(0, 19) i;

-- Values and leases on their way from one session to another.
CREATE TABLE mail (id bigserial PRIMARY KEY, kind int NOT NULL, grp int NOT NULL, value bigint NOT NULL, lease text NOT NULL);

CREATE UNLOGGED SEQUENCE hits;
CREATE UNLOGGED SEQUENCE fills;
CREATE UNLOGGED SEQUENCE refused;

CREATE FUNCTION key_of(kind int, g int) RETURNS text IMMUTABLE LANGUAGE sql AS
$$ SELECT CASE kind WHEN 0 THEN 'item:' || g WHEN 1 THEN 'items' WHEN 2 THEN 'bulk:' || g
                    WHEN 3 THEN 'bykey:' || g WHEN 4 THEN 'bypattern:' || g WHEN 5 THEN 'late:' || g END $$;

CREATE FUNCTION tags_of(kind int, g int) RETURNS text[] IMMUTABLE LANGUAGE sql AS
$$ SELECT CASE WHEN kind IN (0, 2, 5) THEN ARRAY[checker.key_of(kind, g), 'kind:' || kind]
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
   END::bigint $$;

CREATE FUNCTION compare(kind int, g int, cached jsonb, truth bigint, context text) RETURNS bigint VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF cached IS NULL THEN
        RETURN -1;
    END IF;
    IF cached <> to_jsonb(truth) THEN
        RAISE EXCEPTION 'VIOLATION (%): % is %, but the cache says %; isolation %, snapshot %', context, checker.key_of(kind, g), truth,
            cached, current_setting('transaction_isolation'), pg_current_snapshot();
    END IF;
    RETURN truth;
END $$;

-- The oracle: both sides under the snapshot of the calling statement, since neither is volatile. -1: a miss.
CREATE FUNCTION check_entry(kind int, g int, context text) RETURNS bigint STABLE LANGUAGE sql AS
$$ SELECT checker.compare(kind, g, public.get_cached_data(checker.key_of(kind, g)), checker.truth(kind, g), context) $$;

-- For a transaction that has written rows whose trigger fires only at commit: nothing to compare for itself before that.
CREATE FUNCTION check_own(kind int, g int, context text) RETURNS bigint STABLE LANGUAGE sql AS
$$ SELECT CASE WHEN kind = 5 THEN -1 ELSE checker.check_entry(kind, g, context) END $$;

-- The same for what the extension computes. Without tags it depends on the tables that it reads. A write whose trigger fires at commit is
-- not known to its own transaction's tags.
CREATE FUNCTION check_computed(kind int, g int, tracked boolean, context text) RETURNS bigint VOLATILE LANGUAGE plpgsql AS $$
DECLARE
    tables text[] := '{item,item,bulk,bykey,bypattern,late}';
    query text := format('SELECT to_jsonb(coalesce(sum(n), 0)) FROM checker.%I%s', tables[kind + 1], CASE WHEN kind <> 1 THEN ' WHERE grp = $1::int' END);
    params jsonb := CASE WHEN kind = 1 THEN '[]' ELSE jsonb_build_array(g) END;
    result bigint := -1;
BEGIN
    IF kind IN (0, 1, 2) THEN
        SELECT checker.compare(kind, g, public.get_or_set_cached_data('computed:' || checker.key_of(kind, g), query, NULL,
            checker.tags_of(kind, g), params), checker.truth(kind, g), context) INTO result;
    END IF;
    IF tracked THEN
        SELECT checker.compare(kind, g, public.get_or_set_cached_data('tracked:' || checker.key_of(kind, g), query, NULL,
            NULL, params), checker.truth(kind, g), context || ', tracked') INTO result;
    END IF;
    RETURN result;
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
            ELSE
                UPDATE checker.bulk SET n = n + by WHERE id = row_id;
            END IF;
        WHEN 3 THEN UPDATE checker.bykey SET n = n + by WHERE id = row_id;
        WHEN 4 THEN UPDATE checker.bypattern SET n = n + by WHERE id = row_id;
        WHEN 5 THEN UPDATE checker.late SET n = n + by WHERE id = row_id;
    END CASE;
END $$;

CREATE FUNCTION count(what regclass) RETURNS void VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF NOT current_setting('transaction_read_only')::boolean THEN
        PERFORM nextval(what);
    END IF;
END $$;

CREATE FUNCTION fill(kind int, g int, value bigint, lease text DEFAULT NULL) RETURNS boolean VOLATILE LANGUAGE plpgsql AS $$
DECLARE
    accepted boolean := public.set_cached_data(checker.key_of(kind, g), to_jsonb(value),
        CASE WHEN random() < 0.1 THEN interval '20 milliseconds' END, checker.tags_of(kind, g), nullif(lease, ''));
BEGIN
    PERFORM checker.count(CASE WHEN accepted THEN 'checker.fills' ELSE 'checker.refused' END);
    RETURN accepted;
END $$;

-- Fills from a query that began before: the value is as old as that query's snapshot, not as the miss in here.
CREATE FUNCTION fill_from_outer(kind int, g int, value bigint) RETURNS void VOLATILE LANGUAGE plpgsql AS $$
BEGIN
    IF public.get_cached_data(checker.key_of(kind, g)) IS NULL THEN
        PERFORM checker.fill(kind, g, value);
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
