# What is committed late, or by somebody who looked early, is told to Redis nevertheless.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes qw(sleep time);

if (my $why = RedisServer::missing()) { plan skip_all => $why; }

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'\nfsync = off\nautovacuum = off");
$node->start;
my $redis = RedisServer->new->start;
my $client = $redis->client;
sub run { return $node->safe_psql('postgres', @_); }
sub switch { my ($on) = @_; run("SELECT update_redis_settings(jsonb_build_object('redis_url', '" . $redis->url . "', 'redis_enabled', $on))"); }
my $idle = q(SELECT complete AND NOT EXISTS (SELECT FROM cache_ext_internal.redis_outbox) FROM cache_ext_internal.redis_state);
my $is_empty = 'SELECT NOT EXISTS (SELECT FROM cache_ext_internal.redis_outbox)';
sub there { return $client->do('EXISTS', @_); }
# --- who looked before it was switched on ------------------------------------------------------------------------

run('CREATE EXTENSION cache_ext');
my $early = $node->background_psql('postgres');
# So that it knows all that it will need.
$early->query_safe(q(SELECT invalidate_cache_key('db_query:first')));
$early->query_safe(q(BEGIN; SELECT 1));
switch('true');
ok($node->poll_query_until('postgres', $idle), 'switched on');
$client->do('SET', 'db_query:early', 'x');
$early->query_safe(q(SELECT invalidate_cache_key('db_query:early')));
$early->query_safe('COMMIT');
soon(sub { !there('db_query:early') }, 'who began before that and has no number yet tells too');
$early->quit;

# --- off while nobody looks -------------------------------------------------------------------------------------

$client->do('SET', 'db_query:meanwhile', 'x');
run(q(SELECT update_redis_settings('{"redis_enabled": null, "redis_url": null}')));
$node->append_conf('postgresql.conf', "cache_ext.redis_enabled = on\ncache_ext.redis_url = '" . $redis->url . "'");
$node->restart;
ok($node->poll_query_until('postgres', $idle), 'switched on by the configuration');
$node->stop;
$node->append_conf('postgresql.conf', 'cache_ext.redis_enabled = off');
$node->start;
$client->do('SET', 'db_query:meanwhile', 'x');
run(q(SELECT invalidate_cache_key('db_query:meanwhile')));
sleep 2;
$node->stop;
$node->append_conf('postgresql.conf', 'cache_ext.redis_enabled = on');
$node->start;
soon(sub { !there('db_query:meanwhile') }, 'what was missed between two restarts is made up for');

# --- a time that the database has lost ---------------------------------------------------------------------------

ok($node->poll_query_until('postgres', $idle), 'all is well');
my $number = (grep { /sequence:/ } @{ $client->do('KEYS', '*') })[0];
run(q(SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'cache_ext pusher'));
$client->do('SET', $number, 999_999);
$client->do('SET', 'db_query:future', 'x');
soon(sub { !there('db_query:future') }, 'a Redis that was told more than the database remembers may know too much');
$client->do('SET', 'db_query:next', 'x');
run(q(SELECT invalidate_cache_key('db_query:next')));
soon(sub { !there('db_query:next') }, 'and is told on');
cmp_ok($client->do('GET', $number), '>', 999_999, 'with greater numbers');

# --- who commits late ----------------------------------------------------------------------------------------------

my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file("$dir/busy.sql", "SELECT invalidate_cache_key('db_query:busy');\n");
my $late = $node->background_psql('postgres');
my $holder = $node->background_psql('postgres');
$late->query_safe(q(SET cache_ext.debug_stop_at = 'committing'));
my $lost = 0;
my $busy = IPC::Run::start([ 'pgbench', '-n', '-c', 1, '-T', 60, '-f', "$dir/busy.sql", '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \my $out, '2>', \my $err);
for my $round (1 .. 100) {
    $holder->query_safe('SELECT pg_advisory_lock(7771)');
    $client->do('SET', "db_query:late", 'x');
    $late->query_until(qr/sent $round\./, "\\echo sent $round.\nSELECT invalidate_cache_key('db_query:late');\n");
    sleep 0.03;
    $holder->query_safe('SELECT pg_advisory_unlock(7771)');
    if (!becomes_true(sub { !there('db_query:late') })) { $lost = $round; last; }
}
is($lost, 0, 'what commits late is told nevertheless');
$busy->kill_kill;
ok($node->poll_query_until('postgres', $is_empty, 't') , 'and nothing is left over') if !$lost;
$node->stop('immediate');
done_testing();
