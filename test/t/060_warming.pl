# Warming by the worker: after a start it computes what was used most, as the owners of the functions, and is in nobody's way.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# An owner who is no superuser, and functions that say who they run as.
my $setup = q(
    CREATE EXTENSION cache_ext;
    GRANT CREATE ON SCHEMA public TO app_owner;
    GRANT EXECUTE ON FUNCTION create_cached_function, invalidate_cache_by_tags TO app_owner;
    GRANT USAGE ON LANGUAGE cached TO app_owner;
    CREATE TABLE secret AS SELECT 'secret' AS word;
    GRANT SELECT ON secret TO app_owner;
    SET ROLE app_owner;
    CREATE TABLE flags (name text, is_set boolean);
    CREATE FUNCTION flag(p_name text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT coalesce(bool_or(is_set), false) FROM flags WHERE name = p_name';
    CREATE FUNCTION who(n int) RETURNS text LANGUAGE plpgsql STABLE AS $$
        BEGIN RETURN n || ' ' || current_user || ' ' || (SELECT rolsuper FROM pg_roles WHERE rolname = current_user); END $$;
    CREATE FUNCTION reads_secret() RETURNS text LANGUAGE sql STABLE AS 'SELECT word FROM secret';
    CREATE FUNCTION climbs() RETURNS text LANGUAGE plpgsql STABLE AS $$
        BEGIN IF flag('climbs') THEN PERFORM set_config('role', 'none', false); END IF; RETURN current_user; END $$;
    CREATE FUNCTION sleeps() RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN IF flag('sleeps') THEN PERFORM pg_sleep(600); END IF; RETURN 'slept'; END $$;
    SELECT create_cached_function(f, '1 day', ARRAY['all', (SELECT p.proname::text FROM pg_proc p WHERE p.oid = f)], p_shared => true)
    FROM unnest(ARRAY['who(int)', 'reads_secret()', 'climbs()', 'sleeps()']::regprocedure[]) f);

# Each is read more often than the next.
my $use = q(DO $$ BEGIN FOR n IN 1..6 LOOP FOR i IN 1..10 - n LOOP PERFORM who_cached(n); END LOOP; END LOOP;
    FOR i IN 1..3 LOOP PERFORM reads_secret_cached(), climbs_cached(), sleeps_cached(); END LOOP; END $$);
my $warmed = q(SELECT count(*) FROM query_cache WHERE cache_key LIKE 'function:public.who_cached:%');

sub node {
    my ($name, $conf) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init(allows_streaming => 1);
    $node->append_conf('postgresql.conf', "$conf\nautovacuum = off\ncache_ext.cleanup_interval = 1s\ncache_ext.warm_rate = 1000");
    $node->start;
    $node->safe_psql('postgres', 'CREATE ROLE app_owner; CREATE DATABASE app');
    $node->safe_psql('app', $setup);
    return $node;
}

sub rate {
    my ($node, $rate) = @_;
    $node->safe_psql('postgres', "ALTER SYSTEM SET cache_ext.warm_rate = $rate");
}

my $node = node('main', "shared_preload_libraries = 'cache_ext'\ncache_ext.wal_log_invalidations = on");
$node->safe_psql('app', $use);
ok($node->poll_query_until('app', q(SELECT count(*) = 9 FROM cache_ext_internal.warm_list)), 'a sweep notes what is used');

# --- a crash loses the entries; the worker computes them again, as their owners
$node->safe_psql('app', q(REVOKE SELECT ON secret FROM app_owner; INSERT INTO flags VALUES ('climbs', true), ('sleeps', true)));
my $at = -s $node->logfile;
$node->stop('immediate');
$node->start;
ok($node->poll_query_until('app', "SELECT ($warmed) = 6"), 'after a crash they are warmed');
is($node->safe_psql('app', q(SELECT who_cached(n) FROM generate_series(1, 2) n)), "1 app_owner false\n2 app_owner false", 'by their owner');
is($node->safe_psql('app', q(SELECT hits, computations FROM cached_functions WHERE cached_function::text LIKE 'who%')), '2|6', 'and are hits');
$node->wait_for_log(qr/could not warm "public.sleeps_cached": canceling statement due to statement timeout/, $at);
my $log = slurp_file($node->logfile, $at);
like($log, qr/LOG:  could not warm "public.reads_secret_cached": permission denied for table secret/, 'what the owner may not read is not read');
like($log, qr/LOG:  could not warm "public.climbs_cached": cannot set parameter "role" within security-/, 'nobody gets at the rights of the worker');
is($node->safe_psql('app', q(SELECT count(*) FROM query_cache WHERE cache_key ~ 'secret|climbs|sleeps')), '0', 'and a computation that takes too long is ended; none of these has a result');

# --- within the rate
rate($node, 4);
$node->safe_psql('app', 'GRANT SELECT ON secret TO app_owner; DELETE FROM flags');
$node->safe_psql('app', $use);
$node->stop('immediate');
$node->start;
ok($node->poll_query_until('app', "SELECT ($warmed) = 6"), 'at 4 a second they are warmed too');
# Six begin 0.25 s apart at the least, and are there some time after they began: the second begins when the first is there.
is($node->safe_psql('app', q(SELECT max(created_at) - min(created_at) >= '0.95 s' FROM query_cache WHERE cache_key LIKE 'function:public.who%')), 't', 'in their time');

# --- somebody who wants the database gets it
rate($node, 1);
$node->stop('immediate');
$node->start;
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'app' AND backend_type = 'cache_ext worker')), 'a worker is there for long');
is($node->psql('postgres', 'CREATE DATABASE copy TEMPLATE app'), 0, 'a database that is warmed can be copied');
$node->stop('immediate');
$node->start;
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE datname = 'copy' AND backend_type = 'cache_ext worker')), 'a copy is warmed');
is($node->psql('postgres', 'DROP DATABASE copy'), 0, 'and can be dropped');

# --- nothing is warmed at 0
rate($node, 0);
$node->restart;
is($node->safe_psql('app', q(SELECT invalidate_cache_by_tags('{all}') >= 0, warm_cache())), 't|0', 'not by the function');

# --- after a clean restart what came back is fresh, and what had ended is computed
rate($node, 1000);
$node->reload;
$node->safe_psql('app', $use);
my $first = $node->safe_psql('app', q(SELECT created_at FROM query_cache WHERE cache_key LIKE 'function:public.who_cached:%' ORDER BY hit_count DESC LIMIT 1));
$node->safe_psql('app', q(SELECT invalidate_cache_by_tags('{sleeps}')));
$node->restart;
ok($node->poll_query_until('app', q(SELECT count(*) = 1 FROM query_cache WHERE cache_key LIKE 'function:public.sleeps%')), 'after a clean restart what was missing is warmed');
is($node->safe_psql('app', q(SELECT created_at FROM query_cache WHERE cache_key LIKE 'function:public.who_cached:%' ORDER BY hit_count DESC LIMIT 1)), $first,
    'and nothing else');

# --- a worker refreshes what is in its grace
$node->safe_psql('app', q(SET ROLE app_owner;
    CREATE FUNCTION graceful() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
    SELECT create_cached_function('graceful()', '4 s', '{}', p_shared => true, p_grace => '1 day');
    SELECT graceful_cached(); SELECT graceful_cached()));
ok($node->poll_query_until('app', q(SELECT computations > 1 AND hits = 1 FROM cached_functions WHERE cached_function::text LIKE 'graceful%')), 'what is stale is refreshed by sweeps');

# --- a standby keeps no results of functions
$node->backup('backup');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'backup', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('app', 'SELECT warm_cache()'), '0', 'nothing is warmed on a standby');
is($standby->safe_psql('app', 'SELECT cleanup_expired_cache()'), '0', 'and swept');
$standby->stop;
$node->stop;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed') for $node, $standby;

# --- without preloading: the first that is set again wakes it
my $plain = node('plain', '');
$plain->safe_psql('app', $use);
ok($plain->poll_query_until('app', q(SELECT who_cached(1) IS NOT NULL AND (SELECT count(*) = 9 FROM cache_ext_internal.warm_list))), 'a sweep notes what is used');
$plain->stop('immediate');
$plain->start;
ok($plain->poll_query_until('app', "SELECT set_cached_data('k', '1') AND ($warmed) = 6"), 'after a start they are warmed');
$plain->stop;

done_testing();
