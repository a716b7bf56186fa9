# The settings of Redis: secrets go into no dump and no log of the extension's, and an address is tried out from a session, which can be cancelled.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use RedisServer;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'\nautovacuum = off\ncache_ext.redis_timeout = 2s\nlog_statement = none");
$node->start;
$node->safe_psql('postgres', 'CREATE DATABASE app');
$node->safe_psql('app', 'CREATE EXTENSION cache_ext');
my $set = q(SELECT update_redis_settings('{"redis_url": "redis://shop:hidden1@cache.example", "redis_token": "hidden2", "redis_prefix": "shop:", "cache_ttl_data": 60}') ->> 'redis_url');
is($node->safe_psql('app', $set), 'redis://shop:***@cache.example:6379', 'an address is set');

# --- a dump has the settings and none of the secrets
my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('app') ]);
unlike($dump, qr/hidden[12]/, 'no secret is dumped');
like($dump, qr/redis_prefix\tshop:/, 'but the other settings are');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
my $file = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
append_to_file($file, $dump);
$node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $file ], 'it can be restored');
is($node->safe_psql('copy', q(SELECT get_redis_settings() - ARRAY['redis_url', 'redis_token'] = (SELECT jsonb '{"redis_prefix": "shop:", "cache_ttl_data": 60}'
    || (get_redis_settings() - ARRAY['redis_url', 'redis_token', 'redis_prefix', 'cache_ttl_data'])))), 't', 'and then they hold');
is($node->safe_psql('copy', q(SELECT get_redis_settings() ->> 'redis_url', get_redis_settings() ->> 'redis_token')), 'redis://cache.example:6379|', 'without the secrets');
unlike(slurp_file($node->logfile), qr/hidden[12]/, 'nothing of them is in the log');

SKIP: {
    my $missing = RedisServer::missing();
    skip($missing, 1) if $missing;
    my $redis = RedisServer->new->start;
    $redis->do('CONFIG', 'SET', 'requirepass', 'hidden3');
    my $url = $redis->url;
    my $try = sub { $node->safe_psql('app', "SELECT success, message FROM test_redis_connection($_[0])") };
    like($try->("'$url?password=hidden3'"), qr/^t\|connected to unix:\S+\?password=\*\*\*$/, 'a server answers');
    is($node->safe_psql('app', "SELECT latency_ms > 0 FROM test_redis_connection('$url?password=hidden3')"), 't', 'in so much time');
    is($try->("'$url'"), 'f|the server says: NOAUTH Authentication required.', 'without the password it refuses');
    is($try->("'$url?password=wrong'") =~ s/\|.*WRONGPASS.*/|WRONGPASS/r, 'f|WRONGPASS', 'and with a wrong one');
    like($try->("'${url}x'"), qr/^f\|it cannot be connected to/, 'nobody is at another address');

    # A stored password is used for where it was meant for, and for nowhere else.
    $node->safe_psql('app', "SELECT update_redis_settings('{\"redis_url\": \"$url?password=hidden3\"}')");
    like($try->(''), qr/^t\|/, 'what is set is what is tried');
    like($try->("'$url'"), qr/^t\|/, 'the same place gets the password that is set');
    my $open = RedisServer->new->start;
    is($try->("'@{[$open->url]}'"), 't|connected to ' . $open->url, 'another place is not sent it');
    $open->stop;

    # A server that says nothing is waited for no longer than the time-out, and not by who is told to stop.
    $redis->signal('STOP');
    is($node->safe_psql('app', q(SELECT success FROM test_redis_connection())), 'f', 'a server that does not answer is no error');
    my ($code, undef, $error) = $node->psql('app', q(SET statement_timeout = '100ms'; SELECT * FROM test_redis_connection()));
    like($error, qr/canceling statement due to statement timeout/, 'and waiting for it can be cancelled');
    $redis->stop;
    unlike(slurp_file($node->logfile), qr/hidden3/, 'nothing of the password is in the log');
}

$node->stop;
done_testing();
