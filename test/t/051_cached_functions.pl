# Cached functions across what a server goes through: parallel queries, many sessions at once, restarts, dumps, another user's restore, standbys, no preloading.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('primary', conf => "cache_ext.wal_log_invalidations = on\nlogging_collector = off\n");
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION cache_ext;
CREATE SEQUENCE computed;
CREATE TABLE numbers (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO numbers SELECT g, g FROM generate_series(1, 20000) g;
ANALYZE numbers;
CREATE FUNCTION total() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN RETURN (SELECT sum(n) FROM numbers); END $$;
CREATE FUNCTION shared_total() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT sum(n) FROM numbers';
CREATE FUNCTION twice(p_id int) RETURNS TABLE (id int, n int) LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT id, 2 * n FROM numbers WHERE id = p_id';
SELECT create_cached_function('total()'), create_cached_function('shared_total()', p_cache_tags => '{numbers}', p_shared => true),
    create_cached_function('twice(int)', p_cache_tags => ARRAY['number:{p_id}']);
SELECT watch_table('numbers', ARRAY['numbers', 'number:{id}']);
-- Kept only once no transaction is left from before anything was depended on.
CREATE PROCEDURE warm() LANGUAGE plpgsql AS $$
BEGIN
    LOOP
        PERFORM total_cached();
        COMMIT;
        EXIT WHEN EXISTS (SELECT FROM query_cache WHERE cache_key LIKE 'function:public.total_cached:%');
    END LOOP;
END $$;
CALL warm();
SQL

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub counts { return sql("SELECT hits || ' ' || computations FROM cached_functions WHERE function = '$_[0]'::regprocedure"); }

# --- parallel queries: the leader calls it, and its computation is not parallel where that hides what is read
my $parallel = 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2;';
like(sql("$parallel EXPLAIN (COSTS OFF) SELECT id, total_cached() FROM numbers WHERE n % 1000 = 0"), qr/Gather/, 'a query with a cached function may be parallel');
is(sql("$parallel SELECT count(*), sum(total_cached()), sum(shared_total_cached()) FROM numbers WHERE n % 1000 = 0"), '20|4000200000|4000200000', 'and is right');
sql('UPDATE numbers SET n = n + 1 WHERE id = 1');
is(sql("$parallel SELECT count(*), sum(total_cached()), sum(shared_total_cached()) FROM numbers WHERE n % 1000 = 0"), '20|4000200020|4000200020',
    'also where it computes in there');
is(sql("$parallel SELECT debug FROM (SELECT total_cached() = total() AS debug) s"), 't', 'what is computed by parallel workers is the same');
sql("$parallel SELECT total_cached()") for 1 .. 2;
my ($before) = split / /, counts('total()');
is(sql("$parallel SELECT total_cached()"), sql('SELECT total()'), 'a computation that would be parallel');
my ($after) = split / /, counts('total()');
cmp_ok($after, '>', $before, 'is kept');

# --- many sessions, one truth
my $bench = PostgreSQL::Test::Utils::tempdir() . '/mixed.sql';
append_to_file($bench, <<'SQL');
\set id random(1, 50)
\set what random(1, 10)
\if :what = 1
UPDATE numbers SET n = n + 1 WHERE id = :id;
\else
SELECT 1 / (CASE WHEN c.total IS NOT DISTINCT FROM t.total AND c.twice IS NOT DISTINCT FROM t.twice THEN 1 ELSE 0 END)
FROM (SELECT total_cached() AS total, (SELECT n FROM twice_cached(:id)) AS twice OFFSET 0) c,
     (SELECT (SELECT sum(n) FROM numbers) AS total, (SELECT 2 * n FROM numbers WHERE id = :id) AS twice OFFSET 0) t;
\endif
SQL
$node->command_ok([ 'pgbench', '-n', '-c', 6, '-j', 2, '-T', 5, '-f', $bench, 'postgres' ], 'under load each answer is what computing it in the same statement gives');
my ($hits, $computations) = split / /, counts('twice(int)');
cmp_ok($hits, '>', 100, 'many of them from the cache') or diag("$hits hits, $computations computations");

# --- restarts
sql('SELECT twice_cached(7), shared_total_cached()');
$node->restart;
my ($hits_before, $computations_before) = split / /, counts('twice(int)');
is(sql('SELECT (twice_cached(7)).n'), sql('SELECT (twice(7)).n'), 'after a clean restart');
is(counts('twice(int)'), '1 0', 'it is there');
$node->stop('immediate');
$node->start;
is(sql('SELECT (twice_cached(7)).n'), sql('SELECT (twice(7)).n'), 'after a crash');
is(counts('twice(int)'), '0 1', 'it is computed');

# --- dump and restore, also by one who is no superuser
sql(q(CREATE ROLE plain_owner LOGIN));
sql(q(GRANT CREATE ON SCHEMA public TO plain_owner; GRANT EXECUTE ON FUNCTION create_cached_function TO plain_owner; GRANT USAGE ON LANGUAGE cached TO plain_owner));
sql(q(SET ROLE plain_owner; CREATE FUNCTION "Odd: name"(a int) RETURNS int LANGUAGE sql STABLE AS 'SELECT a + 1'; SELECT create_cached_function('"Odd: name"(int)', '1 hour', ARRAY['odd:{a}'], p_grace => '1 minute')));
my $file = $node->basedir . '/dump.sql';
command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $file ], 'dumped');
sql('CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $file ], 'restored');
my $listing = q(SELECT cached_function, function, cache_duration, grace, cache_tags, shared, tracked, pg_get_userbyid(proowner) FROM cached_functions JOIN pg_proc ON oid = cached_function ORDER BY cached_function::text);
is($node->safe_psql('copy', $listing), sql($listing), 'all cached functions are there');
is($node->safe_psql('copy', 'SELECT total_cached() = total(), (twice_cached(3)).n = (twice(3)).n, "Odd: name_cached"(1)'), 't|t|2', 'and work');
is($node->safe_psql('copy', q(ALTER FUNCTION twice(int) RENAME TO double; SELECT (twice_cached(3)).n = (double(3)).n)), 't', 'they know what they call by more than its name');
$node->safe_psql('copy', 'DROP FUNCTION double(int)');
is($node->safe_psql('copy', q(SELECT count(*) FROM pg_proc WHERE proname = 'twice_cached')), '0', 'and go with it');

# --- a standby
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
sub follow { $node->wait_for_catchup($standby, 'replay', $node->lsn('insert')); }
follow();
my $agrees = 'SELECT total_cached() = total(), (twice_cached(9)).n = (twice(9)).n, shared_total_cached() = shared_total()';
is($standby->safe_psql('postgres', $agrees), 't|t|t', 'a standby computes');
is($standby->safe_psql('postgres', $agrees), 't|t|t', 'and answers again');
sql('UPDATE numbers SET n = n + 5 WHERE id = 9');
follow();
is($standby->safe_psql('postgres', $agrees), 't|t|t', 'and sees what was written on the primary');
$standby->stop;

# --- without preloading
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
is(sql($agrees), 't|t|t', 'without preloading they still answer');
sql('UPDATE numbers SET n = n + 5 WHERE id = 9');
is(sql($agrees), 't|t|t', 'and are right, those without tags by computing each time');
$node->stop;
done_testing();
