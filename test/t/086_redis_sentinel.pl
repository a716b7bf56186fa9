# Redis behind sentinels: who sends and who listens finds the new master after a failover that was asked for, and after one that was not; and what the
# new master does not know, since it was told to the old one alone, is noticed.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes qw(sleep time);

if (my $why = RedisServer::missing()) { plan skip_all => $why; }

# Within some seconds.
# --- two servers, a sentinel, and one that is not there ------------------------------------------------------

my $password = 'hidden1';
my %port = map { $_ => PostgreSQL::Test::Cluster::get_free_port() } qw(one two sentinel nobody);
my %server = map {
    $_ => RedisServer->new(password => $password, args => [ '--port', $port{$_}, '--bind', '127.0.0.1', '--requirepass', $password, '--masterauth', $password, '--repl-diskless-sync-delay', 0 ])
} qw(one two);
$server{one}->start;
push @{ $server{two}{args} }, '--replicaof', "127.0.0.1 $port{one}";
$server{two}->start;

sub role { my ($name) = @_; return $server{$name}->do('ROLE')->[0]; }
sub is_replica { my ($name) = @_; my $role = $server{$name}->do('ROLE'); return $role->[0] eq 'slave' && $role->[3] eq 'connected'; }
soon(sub { is_replica('two') }, 'there is a replica');

my $sentinel = RedisServer->new(password => 'hidden2', args => [ '--port', $port{sentinel}, '--bind', '127.0.0.1', '--sentinel' ], config => <<"CONF")->start;
requirepass hidden2
sentinel monitor shop 127.0.0.1 $port{one} 1
sentinel auth-pass shop $password
sentinel down-after-milliseconds shop 4000
sentinel failover-timeout shop 4000
CONF
sub master_port { return $sentinel->do('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'shop')->[1]; }
sub knows_replica {
    my ($name) = @_;
    my %replica = map { my %it = @$_; ($it{port} => \%it) } @{ $sentinel->do('SENTINEL', 'REPLICAS', 'shop') };
    my $it = $replica{ $port{$name} };
    return $it && $it->{flags} eq 'slave' && $it->{'master-link-status'} eq 'ok';
}
soon(sub { knows_replica('two') }, 'the sentinel knows it');

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'\nfsync = off\nautovacuum = off\nlog_statement = none");
$node->start;
sub run { my ($sql) = @_; return $node->safe_psql('postgres', $sql); }
my $sentinels = "127.0.0.1:$port{nobody},127.0.0.1:$port{sentinel}";
my $url = "redis-sentinel://:$password\@$sentinels/0?master=shop&sentinel_password=hidden2";
run(qq(CREATE EXTENSION cache_ext;
    SELECT update_redis_settings('{"redis_url": "$url", "redis_enabled": true, "redis_subscribe": true, "redis_timeout": 1000}')));

sub settle {
    run(q(DO $$ BEGIN
        FOR i IN 1 .. 12000 LOOP
            IF NOT EXISTS (SELECT FROM cache_ext_internal.redis_outbox) AND (SELECT state FROM cache_redis_status) = 'up' THEN RETURN; END IF;
            PERFORM pg_sleep(0.01);
        END LOOP;
        RAISE 'not settled: %', (SELECT s FROM cache_redis_status s);
    END $$));
}

sub put { my ($name, @keys) = @_; my $client = $server{$name}->client; $client->do('SET', $_, 'old') for @keys; return $client; }
sub left { my ($name) = @_; return scalar @{ $server{$name}->do('KEYS', 'db_query:*') }; }

# Somebody tells the channel of this master that a key is not good any more, and the cache of the database listens.
sub listens {
    my ($name, $what) = @_;
    soon(sub { $server{$name}->do('PUBSUB', 'NUMSUB', 'cache_ext:invalidate')->[1] == 1 }, "it listens to $name");
    run(q(SELECT set_cached_data('k', '1')));
    $server{$name}->do('PUBLISH', 'cache_ext:invalidate', '{"keys": ["k"]}');
    return ok($node->poll_query_until('postgres', q(SELECT get_cached_data('k') IS NULL)), $what);
}

# --- at first ------------------------------------------------------------------------------------------------

$node->poll_query_until('postgres', 'SELECT complete FROM cache_ext_internal.redis_state');
settle();
my $shown = "redis-sentinel://:***\@$sentinels?master=shop&sentinel_password=***";
is(run('SELECT state, server FROM cache_redis_status'), "up|$shown", 'the master is found, though the first sentinel is not there');
is(run('SELECT success, message FROM test_redis_connection()'), "t|connected to $shown", 'and it can be tried out');
like(run("SELECT message FROM test_redis_connection('redis-sentinel://:$password\@$sentinels?master=shop')"), qr/^connected/, 'with the password that is known for there');
is(run("SELECT message FROM test_redis_connection('redis-sentinel://127.0.0.1:$port{sentinel}?master=other&sentinel_password=hidden2')"),
    "sentinel 127.0.0.1:$port{sentinel}: the sentinel knows no master of that name", 'what is not watched');
like(run("SELECT message FROM test_redis_connection('redis-sentinel://127.0.0.1:$port{sentinel}?master=shop')"),
    qr/^sentinel 127\.0\.0\.1:$port{sentinel}: the server says: NOAUTH/, 'another place is not sent what is set');
put('one', 'db_query:1', 'db_query:2');
run(q(SELECT invalidate_cache_key('db_query:1')));
settle();
is_deeply($server{one}->do('KEYS', 'db_query:*'), ['db_query:2'], 'what is invalidated goes from the master');
listens('one', 'what the master is told is heard');

# --- a failover that somebody asks for -----------------------------------------------------------------------

# One after the other, while it happens; by their number their keys are told apart.
my $count = 400;
sub invalidate_while {
    my ($master, $what) = @_;
    my $client = put($master, map { "db_query:$_" } 1 .. $count);
    $client->do('WAIT', 1, 30_000) or die 'the replica is away';
    my $writer = IPC::Run::start([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres'), '-c',
        "DO \$\$ BEGIN FOR i IN 1..$count LOOP PERFORM invalidate_cache_key('db_query:' || i); COMMIT; PERFORM pg_sleep(0.005); END LOOP; END \$\$" ]);
    soon(sub { left($master) < $count - 50 }, 'it has begun');
    $what->();
    return ok($writer->finish, 'no transaction fails because of it');
}

invalidate_while('one', sub { $sentinel->do('SENTINEL', 'FAILOVER', 'shop') });
soon(sub { master_port() == $port{two} && role('two') eq 'master' }, 'the other one is the master');
# The old master takes deletions until it is told that it is none any more. Then the new one knows an older number than was acknowledged.
soon(sub { left('two') == 0 }, 'nothing of what was invalidated meanwhile is left there');
settle();
listens('two', 'and what it is told is heard');
soon(sub { is_replica('one') }, 'the one that was the master is a replica');
soon(sub { left('one') == 0 }, 'and has nothing left either');

# --- one that comes unasked ----------------------------------------------------------------------------------

soon(sub { knows_replica('one') }, 'which the sentinel knows');
invalidate_while('two', sub { $server{two}->stop('KILL') });
soon(sub { master_port() == $port{one} && role('one') eq 'master' }, 'the first one takes over when the master is killed');
soon(sub { left('one') == 0 }, 'nothing of what was invalidated meanwhile is left there');
settle();
listens('one', 'and what it is told is heard');

# --- what only the old master knew ---------------------------------------------------------------------------

$server{two}{args} = [ @{ $server{two}{args} }[ 0 .. $#{ $server{two}{args} } - 1 ], "127.0.0.1 $port{one}" ];
$server{two}->start;
soon(sub { is_replica('two') && knows_replica('two') }, 'the other one is a replica again');
my $client = put('one', map { "db_query:$_" } 1 .. 20);
$client->do('SET', 'foreign', 'old');
$client->do('WAIT', 1, 30_000);
# From now on the replica is told nothing.
$server{two}->do('CONFIG', 'SET', 'masterauth', 'other');
$server{two}->do('CLIENT', 'KILL', 'TYPE', 'master');
soon(sub { $client->do('INFO', 'replication') =~ /connected_slaves:0/ }, 'it is cut off');
my $log = -s $node->logfile;
run(q(SELECT invalidate_cache_key('db_query:1')));
settle();
is($client->do('EXISTS', 'db_query:1'), 0, 'the master has acknowledged the deletion of a key');
is($server{two}->do('EXISTS', 'db_query:1'), 1, 'that the replica has still');
$server{one}->stop('KILL');
soon(sub { role('two') eq 'master' }, 'it takes over all the same');
soon(sub { left('two') == 0 }, 'what it did not know is noticed: it is told everything');
settle();
is($server{two}->do('GET', 'foreign'), 'old', 'which is all that is the cache\'s');
like(slurp_file($node->logfile, $log), qr/Redis has lost what it was told/, 'and the log says so');
listens('two', 'and what it is told is heard');

unlike(slurp_file($node->logfile), qr/hidden[12]/, 'no password is in the log');
is(run(q(SELECT count(*) FROM cache_redis_status s WHERE s::text ~ 'hidden[12]')), '0', 'or in the view');

$node->stop;
done_testing();
