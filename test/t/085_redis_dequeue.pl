# Items of queues that are taken from lists in Redis with dequeue: each once and with its transaction, whoever rolls back, is killed or gets no answer.
use strict;
use warnings FATAL => 'all';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes qw(usleep time);

plan skip_all => RedisServer::missing() if RedisServer::missing();

my $secret = 'open-sesame';
my $redis = RedisServer->new(args => [ '--appendonly', 'yes', '--appendfsync', 'always', '--requirepass', $secret ]);
{
    # The fixture's own client has no password, so it is asked for after the start.
    no warnings 'redefine';
    my $plain = \&RedisServer::client;
    *RedisServer::client = sub { my $client = $plain->(@_); $client->do('AUTH', $secret); return $client; };
}
$redis->start->start_proxy;
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cache_ext'
autovacuum = off
log_statement = none
max_prepared_transactions = 2
wal_level = replica
restart_after_crash = on
cache_ext.redis_timeout = 20s
CONF
$node->start;
my $sql = sub { $node->safe_psql('postgres', $_[0]) };
$sql->('CREATE EXTENSION cache_ext');
my $use = sub { my ($url) = @_; $sql->("SELECT update_redis_settings('{\"redis_url\": \"$url?password=$secret\", \"redis_enabled\": true, \"redis_queues\": true}')") };
$use->($redis->url);

# Whoever is slow is waited for, unless Redis is to be away.
my $wait = sub { $sql->("SELECT update_redis_settings('{\"redis_timeout\": $_[0]}')") };

# Lists from their oldest item on, and what is set aside.
my $list = sub { join ',', reverse @{ $redis->do('LRANGE', "queue:$_[0]", 0, -1) } };
my $taken = sub { my $count = 0; $count += grep { $_ ne 'n' } @{ $redis->do('HKEYS', $_) } for @{ $redis->do('KEYS', '{*}:taken:*') }; $count };
my $until = sub {
    my ($what, $expected) = @_;
    for (1 .. 2400) { my $is = $what->(); return $is if $is eq $expected; usleep 50_000; }
    return $what->();
};
my $list_is = sub { my ($queue, $expected, $name) = @_; is($until->(sub { $list->($queue) }, $expected), $expected, $name) };
my $none_taken = sub { is($until->($taken, 0), 0, $_[0]) };
my $add = sub { my ($queue, $from, $to) = @_; $sql->("SELECT count(enqueue('$queue', to_jsonb(i))) FROM generate_series($from, $to) i") };
my $fail = sub {
    my ($statement, $error, $name) = @_;
    my (undef, undef, $message) = $node->psql('postgres', "\\set VERBOSITY verbose\n$statement");
    like($message, $error, $name);
    unlike($message, qr/$secret/, "$name: without the password");
};

# --- an item after the other, what was just committed included
is($sql->(q(SELECT dequeue('a') IS NULL)), 't', 'nothing where there is nothing');
is($sql->(q(SELECT enqueue('a', '{"n": [1, "ä"]}') > 0; SELECT dequeue('a'))), qq(t\n{"n": [1, "ä"]}), 'what was committed before is found');
$none_taken->('what was taken is dropped');
is($sql->(q(SELECT enqueue('a', 'null') > 0; SELECT enqueue('a', '"two"') > 0; SELECT dequeue('a'), dequeue('a'), dequeue('a') IS NULL)), qq(t\nt\nnull|"two"|t), 'in order');
is($sql->(q(BEGIN; SELECT enqueue('a', '1') > 0; SELECT dequeue('a') IS NULL; ROLLBACK)), qq(t\nt), 'not what is not committed');
is($sql->(q(SELECT pg_current_xact_id_if_assigned() IS NULL, dequeue('a') IS NULL, pg_current_xact_id_if_assigned() IS NULL)), 't|t|t', 'an empty queue costs no transaction id');

# --- given back
$add->('a', 1, 4);
$list_is->('a', '1,2,3,4', 'four items');
is($sql->(q(BEGIN; SELECT dequeue('a'), dequeue('a'); ROLLBACK; SELECT dequeue('a'))), "1|2\n1", 'a rollback gives back, to its own session at once');
$list_is->('a', '2,3,4', 'and to the others');
is($sql->(q(BEGIN; SELECT dequeue('a'); SAVEPOINT s; SELECT dequeue('a'); SAVEPOINT t; SELECT dequeue('a'); RELEASE t; ROLLBACK TO s; SELECT dequeue('a'); COMMIT)), "2\n3\n4\n3",
    'a savepoint gives back what was taken since');
$list_is->('a', '4', 'and nothing else');
my $one = $node->background_psql('postgres', on_error_stop => 0);
my $two = $node->background_psql('postgres', on_error_stop => 0);
$add->('a', 5, 6);
$list_is->('a', '4,5,6', 'three items');
is($one->query_safe(q(BEGIN; SELECT dequeue('a'))), '4', 'of two sessions one takes the first');
is($two->query_safe(q(BEGIN; SELECT dequeue('a'))), '5', 'the other one the second');
is($taken->(), 2, 'both are set aside');
$one->query_safe('ROLLBACK');
$list_is->('a', '4,6', 'what one gives back is the first again');
$two->query_safe('COMMIT');
$none_taken->('what the other took is gone');
is($sql->(q(DO $$ BEGIN BEGIN PERFORM dequeue('a'); RAISE 'no'; EXCEPTION WHEN raise_exception THEN NULL; END; END $$; SELECT dequeue('a'), dequeue('a'))), '4|6', 'a block that fails gives back');
$none_taken->('and nothing stays aside');

# --- prepared transactions
$add->('p', 1, 2);
$list_is->('p', '1,2', 'two items');
$sql->(q(BEGIN; SELECT dequeue('p'); PREPARE TRANSACTION 'one'));
$sql->(q(BEGIN; SELECT dequeue('p'); PREPARE TRANSACTION 'two'));
$node->restart;
usleep 1_500_000;
is($taken->(), 2, 'what prepared transactions took stays aside, across a restart');
$sql->(q(COMMIT PREPARED 'one'; ROLLBACK PREPARED 'two'));
$list_is->('p', '2', 'until it is known what becomes of it');
$none_taken->('and then it is settled');
is($sql->(q(SELECT dequeue('p'))), '2', 'once');

# --- killed
($one, $two) = map { $node->background_psql('postgres', on_error_stop => 0) } 1, 2;
$add->('k', 1, 3);
# What else runs on the machine may be in the way of one or the other time.
my ($begin, $soonest) = (0, 60);
for my $try (1 .. 10) {
    $list_is->('k', '1,2,3', 'three items');
    is($one->query_safe(q(BEGIN; SELECT dequeue('k'))), '1', 'taken');
    $sql->('SELECT pg_terminate_backend(' . $one->query_safe('SELECT pg_backend_pid()') . ', 60000)');
    $begin = time;
    $list_is->('k', '1,2,3', 'a session that is terminated gives back');
    $soonest = time - $begin if time - $begin < $soonest;
    last if $soonest < 0.9;
    $one = $node->background_psql('postgres', on_error_stop => 0);
}
cmp_ok($soonest, '<', 0.9, 'at once');
is($two->query_safe(q(BEGIN; SELECT dequeue('k'))), '1', 'taken');
my $pid = $two->query_safe('SELECT pg_backend_pid()');
is($sql->(q(SELECT dequeue('k'))), '2', 'and one committed');
kill 'KILL', $pid;
$node->poll_query_until('postgres', 'SELECT true');
$list_is->('k', '1,3', 'one that is killed, too, with the server; what was committed stays taken');
$one = $node->background_psql('postgres', on_error_stop => 0);
is($one->query_safe(q(BEGIN; SELECT dequeue('k'))), '1', 'taken');
is($sql->(q(SELECT dequeue('k'))), '3', 'and one committed');
$node->stop('immediate');
$node->start;
$list_is->('k', '1', 'so does a server that is stopped at once');
$none_taken->('and all is settled');

# --- no transaction's id comes again after a crash, though it has written nothing
$add->('x', 1, 1);
$list_is->('x', '1', 'one item');
$one = $node->background_psql('postgres', on_error_stop => 0);
my $xid = $one->query_safe(q(BEGIN; SELECT dequeue('x'); SELECT pg_current_xact_id())) =~ s/.*\n//sr;
$node->stop('immediate');
$node->start;
cmp_ok($sql->('SELECT pg_current_xact_id()'), '>', $xid, 'the next transaction has a higher id');
$list_is->('x', '1', 'and the item is there again');

# --- Redis is away
$wait->(1000);
$redis->signal('STOP');
$begin = time;
$fail->(q(SELECT dequeue('x')), qr/ERROR:  08/, 'a server that does not answer is an error');
cmp_ok(time - $begin, '<', 45, 'within a time');
is($sql->(q(SET statement_timeout = '10s'; SELECT enqueue('x', '2') > 0)), 't', 'whoever only adds is not affected');
$redis->signal('CONT');
$list_is->('x', '1,2', 'and nothing is lost');
$wait->(20_000);
$redis->stop;
$begin = time;
$fail->(q(SELECT dequeue('x')), qr/ERROR:  08001: could not ask Redis for an item/, 'a server that is away is an error');
cmp_ok(time - $begin, '<', 30, 'soon');
$one = $node->background_psql('postgres', on_error_stop => 0);
$one->query(q(SELECT dequeue('x')));
$redis->start;
is($until->(sub { $one->query(q(SELECT dequeue('x'))) // '' }, '1'), '1', 'the same session takes when it is there again');
$redis->do('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
is($one->query(q(SELECT dequeue('x'))), '2', 'a connection that was closed meanwhile is made anew');
$redis->do('SET', 'queue:bad', 'x');
$fail->(q(SELECT dequeue('bad')), qr/ERROR:  55000: Redis refused to give an item\nDETAIL:  WRONGTYPE/, 'what is no list is an error');
$redis->do('LPUSH', 'queue:foreign', 'not json');
$fail->(q(SELECT dequeue('foreign')), qr/ERROR:  22P02:.*CONTEXT:.*item of queue "foreign" in Redis/s, 'an item that is no JSON is an error');
$list_is->('foreign', 'not json', 'and stays');
$fail->(q(BEGIN READ ONLY; SELECT dequeue('x')), qr/ERROR:  25006/, 'a READ ONLY transaction takes nothing');

# --- an answer that is lost
$use->($redis->proxy_url);
$add->('l', 1, 1);
$list_is->('l', '1', 'one item');
$one = $node->background_psql('postgres', on_error_stop => 0);
is($one->query(q(SELECT dequeue('nothing') IS NULL)), 't', 'connected');
$wait->(1000);
for my $round (1 .. 6) {
    # It is asked whether there is one, then for the item: the answers are lost at one point or the other.
    my $how = ('hold', 'cut', 'garble')[ $round % 3 ];
    my $h = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q(DO $$ BEGIN FOR i IN 1..300 LOOP BEGIN PERFORM dequeue('l'); RAISE 'back'; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$) ],
        '<', \'', '>', \my $out, '2>', \my $err);
    usleep 50_000 + int rand 30_000;
    $redis->proxy($how);
    usleep 20_000;
    $redis->proxy('cut') if $how ne 'hold';
    $h->finish;
    like($err, qr/^(ERROR:  (Redis was asked|could not ask)|$)/, "$how: the caller is told, or not affected");
    $redis->proxy('pass');
    $list_is->('l', '1', "$how: the item is there again");
    $none_taken->("$how: once");
}
$wait->(20_000);
is($sql->(q(SELECT dequeue('l'), dequeue('l') IS NULL)), '1|t', 'once');

# --- a request that Redis comes to only after everybody has given up
$use->($redis->url);
$add->('late', 1, 1);
$list_is->('late', '1', 'one item');
$wait->(3000);
$one = $node->background_psql('postgres', on_error_stop => 0);
$one->query(q(BEGIN; SELECT pg_current_xact_id()));
$one->query(q(SAVEPOINT a; SELECT dequeue('late')));
is($until->($taken, 1), 1, 'taken');
$redis->signal('STOP');
$one->query(q(SELECT dequeue('late')));
$one->query('ROLLBACK');
$redis->signal('CONT');
$wait->(20_000);
$list_is->('late', '1', 'what was taken without anybody knowing is put back');
$none_taken->('once');

# --- tokens of transactions that the server has forgotten, or that are of a time that it does not know; and what is no token
is($sql->(q(SELECT dequeue('odd') IS NULL)), 't', 'an empty queue');
my $hash = '{queue:odd}:taken:' . $sql->(q(SELECT system_identifier || ':' || d.oid FROM pg_control_system(), pg_database d WHERE datname = current_database())) . ':queue:odd';
$redis->do('HSET', $hash, '1:1', '1 "forgotten"', '4000000000:1', '2 "never"', 'what', 'ever');
$list_is->('odd', '"forgotten","never"', 'are put back');
is(join(',', @{ $redis->do('HKEYS', $hash) }), 'what', 'is left alone');
like(slurp_file($node->logfile), qr/LOG:  an item of a queue in Redis is put back that may have been taken\n.*DETAIL:  Transaction 1 is too old/, 'which the log tells of the first');
$redis->do('DEL', $hash);

# --- lists whose names share a tag share nothing else
$add->($_, 1, 1) for 'mail{eu}', 'text{eu}';
$list_is->($_, '1', 'an item') for 'mail{eu}', 'text{eu}';
is($sql->(q(BEGIN; SELECT dequeue('mail{eu}'), dequeue('text{eu}'); ROLLBACK)), '1|1', 'taken from both');
$list_is->($_, '1', 'and back in each') for 'mail{eu}', 'text{eu}';

# --- Redis without memory gives nevertheless
$add->('full', 1, 3);
$list_is->('full', '1,2,3', 'three items');
$redis->do('CONFIG', 'SET', 'maxmemory', '1');
is($sql->(q(BEGIN; SELECT dequeue('full'); SELECT dequeue('full'); ROLLBACK; SELECT dequeue('full'))), "1\n2\n1", 'a full server gives and takes back');
$redis->do('CONFIG', 'SET', 'maxmemory', '0');
$list_is->('full', '2,3', 'and has the rest');

# --- four consumers, with rollbacks, killed senders and Redis restarted
$add->('many', 1, 2000);
$until->(sub { $redis->do('LLEN', 'queue:many') }, 2000);
$sql->('CREATE TABLE got (consumer int, item int, n bigserial); CREATE TABLE finished ()');
my @consumers = map {
    my ($out, $err) = ('', '');
    my $body = "DECLARE d jsonb; BEGIN LOOP BEGIN d := dequeue('many'); EXCEPTION WHEN OTHERS THEN d := NULL; END;
        IF d IS NULL THEN EXIT WHEN EXISTS (SELECT FROM finished); PERFORM pg_sleep(0.05);
        ELSE INSERT INTO got VALUES ($_, d::text::int); END IF;
        IF random() < 0.1 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END";
    { handle => IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "DO \$\$ $body \$\$" ], '<', \'', '>', \$out, '2>', \$err), err => \$err };
} 1 .. 4;
$until->(sub { $sql->('SELECT count(*) > 300 FROM got') }, 't');
$sql->(q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'cache_ext pusher'));
$until->(sub { $sql->('SELECT count(*) > 700 FROM got') }, 't');
$redis->stop('KILL');
$redis->start;
$until->(sub { $sql->('SELECT count(*) >= 2000 FROM got') }, 't');
$sql->('INSERT INTO finished DEFAULT VALUES');
for my $consumer (@consumers) { $consumer->{handle}->finish; is(${ $consumer->{err} }, '', 'a consumer goes through'); }
is($sql->('SELECT count(*), count(DISTINCT item), min(item), max(item), count(DISTINCT consumer) > 1 FROM got'), '2000|2000|1|2000|t', 'each item once');
is($list->('many'), '', 'nothing is left');
$none_taken->('nor set aside');

# --- the server stopped at once again and again, with commits that a crash may undo among them
$sql->('TRUNCATE got');
for my $round (1 .. 5) {
    $add->('crash', $round * 1000 + 1, $round * 1000 + 1000);
    my @runs = map {
        my $body = "DECLARE d jsonb; BEGIN LOOP d := dequeue('crash'); IF d IS NULL THEN PERFORM pg_sleep(0.01); ELSE INSERT INTO got VALUES ($_, d::text::int); END IF;
            IF random() < 0.2 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END";
        my $commit = $_ % 2 ? 'on' : 'off';
        IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "SET synchronous_commit = $commit", '-c', "DO \$\$ $body \$\$" ], '<', \'', '>', \my $out, '2>', \my $err);
    } 1 .. 4;
    my $goal = $round * 300;
    $until->(sub { $sql->("SELECT count(*) > $goal FROM got") }, 't');
    usleep int rand 20_000;
    $node->stop('immediate');
    $_->finish for @runs;
    $node->start;
}
$none_taken->('all is settled after crashes');
$sql->(q(DO $$ DECLARE d jsonb; BEGIN LOOP d := dequeue('crash'); EXIT WHEN d IS NULL; INSERT INTO got VALUES (0, d::text::int); END LOOP; END $$));
is($sql->('SELECT count(*), count(DISTINCT item), min(item), max(item) FROM got'), '5000|5000|1001|6000', 'each item once, whatever the crashes undid');

# --- on a new timeline: what its history has is known, and what was on the old one after that is not
is($sql->(q(SELECT dequeue('history') IS NULL)), 't', 'an empty queue');
(my $committed, my $position) = split /\|/, $sql->(q(BEGIN; SELECT pg_current_xact_id(), pg_current_wal_insert_lsn() - '0/0'; COMMIT));
my $after = $position + 1_000_000_000;
$node->stop;
$node->set_standby_mode;
$node->start;
$node->promote;
$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die;
my $history = $hash =~ s/odd/history/gr;
$redis->do('HSET', $history, "$committed:1:1:$position", '1 "in it"', "$committed:2:1:$after", '2 "after it"', "$committed:3:7:$position", '3 "of another"');
$list_is->('history', '"after it","of another"', 'a commit that is not in the history is none');
$none_taken->('and one that is in it is one');

# --- without anything in between: in order, and all by one pass
$add->('order', 1, 2000);
$until->(sub { $redis->do('LLEN', 'queue:order') }, 2000);
$sql->('TRUNCATE got');
@consumers = map {
    my $body = "DECLARE d jsonb; BEGIN LOOP d := dequeue('order'); EXIT WHEN d IS NULL; INSERT INTO got VALUES ($_, d::text::int); COMMIT; END LOOP; END";
    IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "DO \$\$ $body \$\$" ], '<', \'', '>', \my $out, '2>', \my $err);
} 1 .. 4;
$begin = time;
$_->finish for @consumers;
note sprintf '2000 items by 4 consumers: %.1f s', time - $begin;
is($sql->('SELECT count(*), count(DISTINCT item) FROM got'), '2000|2000', 'each item once');
is($sql->('SELECT count(*) FROM (SELECT item - lag(item) OVER (PARTITION BY consumer ORDER BY n) AS step FROM got) s WHERE step < 0'), '0', 'in order for each consumer');

# --- switched off while something is aside
$add->('off', 1, 2);
$list_is->('off', '1,2', 'two items');
$one = $node->background_psql('postgres', on_error_stop => 0);
is($one->query_safe(q(BEGIN; SELECT dequeue('off'))), '1', 'taken');
$sql->(q(SELECT update_redis_settings('{"redis_queues": false}')));
$one->query_safe('ROLLBACK');
$list_is->('off', '1,2', 'a rollback gives back after it was switched off');
$none_taken->('all is settled');
$_->quit for $one;
$node->stop;
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP/, 'nothing crashed by itself');
unlike($log =~ s/.*update_redis_settings.*//gr, qr/$secret/, 'the log has no password');

done_testing();
