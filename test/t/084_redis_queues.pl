# Queues that are delivered to lists in Redis: at commit, in order, each item once, whoever is killed on the way.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes 'usleep';

plan skip_all => RedisServer::missing() if RedisServer::missing();

my $redis = RedisServer->new(args => [ '--appendonly', 'yes', '--appendfsync', 'always' ])->start;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'\nautovacuum = off\nlog_statement = none\nmax_prepared_transactions = 2\ncache_ext.redis_timeout = 1s");
$node->start;
my $sql = sub { $node->safe_psql('postgres', $_[0]) };
$sql->('CREATE EXTENSION cache_ext');

# The list from its oldest item on.
my $list = sub { join ',', reverse @{ $redis->do('LRANGE', "queue:$_[0]", 0, -1) } };
my $until = sub {
    my ($queue, $expected) = @_;
    for (1 .. 2400) { return $expected if $list->($queue) eq $expected; usleep 50_000; }
    return $list->($queue);
};

# --- switched on: what is there goes, and what is added; what is rolled back does not
$sql->(q(SELECT enqueue('a', '"before"')));
$sql->(q(BEGIN; SELECT dequeue('a'); ROLLBACK;));
$sql->("SELECT update_redis_settings('{\"redis_url\": \"" . $redis->url . "\", \"redis_enabled\": true, \"redis_queues\": true}')");
is($until->('a', '"before"'), '"before"', 'what was there is delivered');
$sql->(q(BEGIN; SELECT enqueue('a', '"never"'); ROLLBACK; SELECT enqueue('a', '{"n": [1, "ä"]}');
    BEGIN; SELECT enqueue('a', '2'); SAVEPOINT s; SELECT enqueue('a', '"never"'); ROLLBACK TO s; SELECT enqueue('a', 'null'); COMMIT));
is($until->('a', '"before",{"n": [1, "ä"]},2,null'), '"before",{"n": [1, "ä"]},2,null', 'what is committed, in its order, as JSON text');
$sql->(q(BEGIN; SELECT enqueue('p', '1'); PREPARE TRANSACTION 'p'));
is($list->('p'), '', 'not what is only prepared');
$sql->(q(COMMIT PREPARED 'p'));
is($until->('p', '1'), '1', 'but as soon as it is committed');
is($redis->do('RPOP', 'queue:a'), '"before"', 'a consumer there takes the oldest');
is($sql->(q(SELECT dequeue('a'))), '{"n": [1, "ä"]}', 'as one here does');
is($sql->(q(SELECT queue_length('a'))), '0', 'where there are none');
is($redis->do('EXISTS', 'queue:never'), '0', 'nothing else is there');
for (1 .. 1200) { last if !@{ $redis->do('KEYS', '{*}:sent:*') }; usleep 50_000; }
is(join(',', @{ $redis->do('KEYS', '{*}:sent:*') }), '', 'what was sent is remembered no longer than is needed');

# --- a list that is none keeps no other one waiting
$redis->do('SET', 'queue:bad', 'x');
$sql->(q(SELECT enqueue('bad', '1'); SELECT enqueue('good', '1')));
is($until->('good', '1'), '1', 'other queues go on');
is($sql->(q(SELECT queue_length('bad'))), '1', 'what is refused is kept');
$redis->do('DEL', 'queue:bad');
is($until->('bad', '1'), '1', 'until it is not');

# --- many, while everybody is killed
my $total = 0;
my @expected;
for my $round (1 .. 12) {
    $sql->("DO \$\$ BEGIN FOR i IN $total + 1..$total + 400 LOOP PERFORM enqueue('many', to_jsonb(i)); IF i % 5 = 0 THEN COMMIT; END IF; END LOOP; COMMIT; END \$\$");
    push @expected, $total + 1 .. $total + 400;
    $total += 400;
    usleep int rand 30_000;
    my $how = $round % 4;
    if ($how == 0) { $node->stop('immediate'); $node->start; }
    elsif ($how == 1) { $redis->stop('KILL'); $redis->start; }
    elsif ($how == 2) { $sql->(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'cache_ext pusher')); }
    else { $redis->do('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'); }
}
my $expected = join ',', @expected;
ok($until->('many', $expected) eq $expected, "$total items arrive once each and in order, whoever was killed") or do {
    my %seen;
    $seen{$_}++ for split /,/, $list->('many');
    note(join ' ', 'twice:', grep { $seen{$_} > 1 } sort keys %seen);
    note(join ' ', 'missing:', grep { !$seen{$_} } @expected);
};
is($sql->(q(SELECT queue_length('many'))), '0', 'and nothing is left here') if $node->poll_query_until('postgres', q(SELECT queue_length('many') = 0));

# --- Redis away: nobody waits, and it goes on where it was
$redis->signal('STOP');
$sql->(q(SET statement_timeout = '30s'; SELECT count(enqueue('away', to_jsonb(i))) FROM generate_series(1, 1000) i));
$redis->signal('CONT');
is($until->('away', join ',', 1 .. 1000), join(',', 1 .. 1000), 'what was added while Redis was away arrives');

# --- switched off again
$sql->(q(SELECT update_redis_settings('{"redis_queues": false}')));
$sql->(q(SELECT enqueue('here', '1')));
is($sql->(q(SELECT dequeue('here'))), '1', 'switched off, items are taken here');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed by itself');

done_testing();
