# Of many sessions that ask for the same missing key one computes: through all ways of connecting, whatever becomes of the one.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "max_connections = 120\n";

# Computing says so in the log, and waits while somebody holds lock 7.
sub prepare {
    my ($node) = @_;
    install($node);
    $node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION slow() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RAISE LOG 'computing';
    PERFORM pg_advisory_xact_lock_shared(7);
    RETURN 1;
END $$;
SQL
}
sub computed {
    my ($node, $from) = @_;
    return scalar(() = substr(slurp_file($node->logfile), $from) =~ /LOG:  computing/g);
}
sub here { return -s $_[0]->logfile; }

my $ask = q(SELECT get_or_set_cached_data('KEY', 'SELECT slow() AS v', NULL, '{flight}'));
sub ask { my ($key) = @_; return $ask =~ s/KEY/$key/r; }

# How many wait for a leader, and how many for the lock.
my $waiting = q(SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%slow()%' AND pid <> pg_backend_pid() AND wait_event_type =);
sub waiters_are {
    my ($node, $flight, $lock) = @_;
    return $node->poll_query_until('postgres', "SELECT ($waiting 'Extension') = $flight AND ($waiting 'Lock') = $lock");
}

sub start {
    my ($node, $count, $statement, %options) = @_;
    my $connection = $options{connection} // $node->connstr('postgres');
    my @clients;
    for (1 .. $count) {
        my $client = { out => '', err => '' };
        local $ENV{PGOPTIONS} = $options{pgoptions} // '-c cache_ext.single_flight_timeout=60s';
        delete local $ENV{PGOPTIONS} if $options{connection};
        $client->{run} =
          IPC::Run::start([ 'psql', '-XAtq', '-d', $connection, '-c', $statement ], '<', \'', '>', \$client->{out}, '2>', \$client->{err});
        push @clients, $client;
    }
    return @clients;
}
sub answers {
    my @answers = map { IPC::Run::finish($_->{run}); my $a = $_->{out} . $_->{err}; chomp $a; $a } @_;
    return @answers;
}
my $right = '[{"v": 1}]';
my $holder;
sub hold { $holder = $_[0]->background_psql('postgres'); $holder->query_safe('SELECT pg_advisory_lock(7)'); return; }
sub release { $holder->query_safe('SELECT pg_advisory_unlock(7)'); $holder->quit; return; }

my $node = new_node('main', conf => $conf);
prepare($node);

# --- sixty-four, all at once
{
    my $from = here($node);
    hold($node);
    my @clients = start($node, 64, ask('many'));
    ok(waiters_are($node, 63, 1), 'one computes and sixty-three wait for it');
    release();
    is(join(',', answers(@clients)), join(',', ($right) x 64), 'all have the value');
    is(computed($node, $from), 1, 'which was computed once');
}

# --- the same keys in the same order, as fast as can be: also who misses just before another one has stored it does not compute it again
{
    my $from = here($node);
    my $script = "$PostgreSQL::Test::Utils::tmp_check/rush.sql";
    append_to_file($script, "\\set i :i + 1\n" . q(SELECT get_or_set_cached_data('rush' || :i, 'SELECT slow() AS v', NULL, '{flight}');) . "\n");
    local $ENV{PGOPTIONS} = '-c cache_ext.single_flight_timeout=60s';
    $node->command_ok([ 'pgbench', '-n', '-c', 16, '-j', 2, '-t', 400, '-D', 'i=0', '-f', $script, '-h', $node->host, '-p', $node->port, 'postgres' ], 'sixteen in a rush');
    is(computed($node, $from), 400, 'each key was computed once');
}

# --- the leader ends: by a cancel, by being terminated, each time while the others wait
for my $end ('pg_cancel_backend', 'pg_terminate_backend') {
    my $from = here($node);
    hold($node);
    my @clients = start($node, 8, ask($end));
    ok(waiters_are($node, 7, 1), "$end: one computes");
    my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE '%slow()%' AND wait_event_type = 'Lock'");
    $node->safe_psql('postgres', "SELECT $end($pid)");
    ok($node->poll_query_until('postgres', "SELECT ($waiting 'Extension') = 6 AND ($waiting 'Lock') = 1 AND NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $pid AND state = 'active')"),
        "$end: another one computes, the others wait for that");
    # And one who waits ends.
    my $other = $node->safe_psql('postgres', "SELECT min(pid) FROM pg_stat_activity WHERE query LIKE '%slow()%' AND wait_event_type = 'Extension'");
    $node->safe_psql('postgres', "SELECT $end($other)");
    ok(waiters_are($node, 5, 1), "$end: one who waits is gone, and nobody else");
    release();
    my @answers = answers(@clients);
    is(scalar(grep { $_ eq $right } @answers), 6, "$end: the others have the value");
    is(computed($node, $from), 2, "$end: which was computed once more");
}

# --- statement_timeout: ends the one who computes; bounds who waits to a quarter of it
{
    my $from = here($node);
    hold($node);
    my @leader = start($node, 1, ask('timeout'), pgoptions => '-c statement_timeout=10s');
    ok(waiters_are($node, 0, 1), 'statement_timeout: one computes');
    my @clients = start($node, 4, ask('timeout'));
    ok(waiters_are($node, 4, 1), 'statement_timeout: others wait');
    like((answers(@leader))[0], qr/canceling statement due to statement timeout/, 'statement_timeout: it ends who computes');
    ok(waiters_are($node, 3, 1), 'statement_timeout: another one computes');
    my @short = start($node, 1, ask('timeout'), pgoptions => '-c statement_timeout=24s -c cache_ext.single_flight_timeout=60s');
    ok(waiters_are($node, 3, 2), 'statement_timeout: who has one waits for a part of it only');
    release();
    is(join(',', answers(@clients, @short)), join(',', ($right) x 5), 'statement_timeout: all have the value');
    is(computed($node, $from), 3, 'statement_timeout: computed by the three');
}

# --- READ ONLY, at all isolation levels that use the cache
for my $level ('READ COMMITTED', 'REPEATABLE READ') {
    my $from = here($node);
    my $key = lc $level =~ s/ /_/r;
    hold($node);
    my @clients = start($node, 8, "BEGIN ISOLATION LEVEL $level READ ONLY; " . ask($key) . '; COMMIT');
    ok(waiters_are($node, 7, 1), "$level READ ONLY: one computes");
    release();
    is(join(',', answers(@clients)), join(',', ($right) x 8), "$level READ ONLY: all have the value");
    is(computed($node, $from), 1, "$level READ ONLY: which was computed once");
}

# --- a cached function, which returns a set; a shared one is computed once for all roles, and an error is only of whoever computed
{
    $node->safe_psql('postgres', <<'SQL');
CREATE ROLE flyer_1;
CREATE ROLE flyer_2;
CREATE FUNCTION flown(n int) RETURNS SETOF int LANGUAGE plpgsql STABLE AS $$
BEGIN
    RAISE LOG 'computing';
    PERFORM pg_advisory_xact_lock_shared(7);
    IF n = 0 THEN RAISE 'nothing flies'; END IF;
    RETURN QUERY SELECT generate_series(1, 3);
END $$;
SELECT create_cached_function('flown(int)', p_cache_tags => '{}', p_shared => true);
SQL
    my $call = q(SELECT string_agg(x::text, '') FROM flown_cached(N) x /* slow() */);
    sub call { my ($n) = @_; return $call =~ s/N/$n/r; }
    my $from = here($node);
    hold($node);
    my @clients = map { start($node, 4, call(1), pgoptions => "-c cache_ext.single_flight_timeout=60s -c role=flyer_$_") } 1, 2;
    ok(waiters_are($node, 7, 1), 'cached function: of two roles one session computes');
    release();
    is(join(',', answers(@clients)), join(',', ('123') x 8), 'cached function: all have the rows');
    is(computed($node, $from), 1, 'cached function: which were computed once');

    $from = here($node);
    hold($node);
    @clients = map { start($node, 2, call(0), pgoptions => "-c cache_ext.single_flight_timeout=60s -c role=flyer_$_") } 1, 2;
    ok(waiters_are($node, 3, 1), 'cached function: one is about to fail');
    release();
    is(scalar(grep { /nothing flies/ } answers(@clients)), 4, 'cached function: it fails for each');
    is(computed($node, $from), 4, 'cached function: who has computed it');
}

# --- a leader that crashes takes the server's memory with it; nobody waits for it afterwards
{
    hold($node);
    my @clients = start($node, 3, ask('crash'));
    ok(waiters_are($node, 2, 1), 'crash: one computes');
    my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE '%slow()%' AND wait_event_type = 'Lock'");
    kill 'KILL', $pid;
    answers(@clients);
    eval { $holder->quit };
    $node->poll_query_until('postgres', 'SELECT 1', '1');
    is($node->safe_psql('postgres', ask('crash')), $right, 'crash: the key is computed again');
}

# --- through a pooler that gives server sessions to transactions
SKIP: {
    my ($pgbouncer) = grep { -x } (map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin');
    skip 'there is no pgbouncer here (tools/setup installs it)', 3 unless defined $pgbouncer;
    my $dir = PostgreSQL::Test::Utils::tempdir_short;
    my $user = getpwuid($<) // 'postgres';
    append_to_file("$dir/users", qq("$user" ""\n));
    append_to_file("$dir/pgbouncer.ini", sprintf <<'INI', $node->host, $node->port, $user, $dir, $dir, $dir);
[databases]
pool = host=%s port=%s dbname=postgres user=%s pool_size=8
[pgbouncer]
pool_mode = transaction
listen_addr =
listen_port = 6432
unix_socket_dir = %s
auth_type = trust
auth_file = %s/users
logfile = %s/pgbouncer.log
pidfile =
ignore_startup_parameters = extra_float_digits,options
max_client_conn = 100
INI
    my $said = '';
    my $pooler = IPC::Run::start([ $pgbouncer, '-q', "$dir/pgbouncer.ini" ], '<', \'', '>&', \$said);
    my $pool = "host=$dir port=6432 dbname=pool";
    for my $attempt (1 .. 100) {
        last if IPC::Run::run([ 'psql', '-XAtq', '-d', $pool, '-c', 'SELECT 1' ], '<', \'', '>', \my $out, '2>', \my $err);
        select(undef, undef, undef, 0.1);
    }
    $node->safe_psql('postgres', "ALTER SYSTEM SET cache_ext.single_flight_timeout = '60s'");
    $node->reload;
    my $from = here($node);
    hold($node);
    my @clients = start($node, 32, ask('pooled'), connection => $pool);
    ok(waiters_are($node, 7, 1), 'pooler: of its eight server sessions one computes');
    release();
    is(join(',', answers(@clients)), join(',', ($right) x 32), 'pooler: all clients have the value');
    is(computed($node, $from), 1, 'pooler: which was computed once');
    $pooler->signal('INT');
    $pooler->finish;
}
$node->stop;

# --- without preloading
{
    my $demand = new_node('demand', no_preload => 1, conf => $conf);
    prepare($demand);
    my $from = here($demand);
    hold($demand);
    my @clients = start($demand, 16, ask('demand'));
    ok(waiters_are($demand, 15, 1), 'no preloading: one computes');
    my $pid = $demand->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE '%slow()%' AND wait_event_type = 'Lock'");
    $demand->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
    ok(waiters_are($demand, 14, 1), 'no preloading: another one, when that is terminated');
    release();
    my @answers = answers(@clients);
    is(scalar(grep { $_ eq $right } @answers), 15, 'no preloading: the others have the value');
    is(computed($demand, $from), 2, 'no preloading: which was computed once more');
    $demand->stop;
}

# --- on a standby, which computes for itself
{
    my $primary = new_node('primary', conf => $conf . "cache_ext.wal_log_invalidations = on\n");
    prepare($primary);
    $primary->backup('copy');
    my $standby = PostgreSQL::Test::Cluster->new('standby');
    $standby->init_from_backup($primary, 'copy', has_streaming => 1);
    $standby->start;
    ok($standby->poll_query_until('postgres', $FILL), 'standby: it is told of everything');
    my $from = here($standby);
    hold($standby);
    my @clients = start($standby, 16, ask('standby'));
    ok(waiters_are($standby, 15, 1), 'standby: one computes');
    my $pid = $standby->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE query LIKE '%slow()%' AND wait_event_type = 'Lock'");
    $standby->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
    ok(waiters_are($standby, 14, 1), 'standby: another one, when that is terminated');
    release();
    my @answers = answers(@clients);
    is(scalar(grep { $_ eq $right } @answers), 15, 'standby: the others have the value');
    is(computed($standby, $from), 2, 'standby: which was computed once more');
    $standby->stop;
    $primary->stop;
}

done_testing();
