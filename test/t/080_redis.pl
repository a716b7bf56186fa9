# What arrives in Redis, and what does not: deletions, messages and the stream of one database and of several, under every state that a server can be in.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes qw(sleep time);

if (my $why = RedisServer::missing()) { plan skip_all => $why; }

sub new_node {
    my ($name, $conf, %options) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init(allows_streaming => 1, extra => [ '--encoding=UTF8', '--locale=C' ]);
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'") unless $options{no_preload};
    $node->append_conf('postgresql.conf', "max_prepared_transactions = 10\nfsync = off\nautovacuum = off\n" . ($conf // ''));
    $node->start;
    return $node;
}

my $redis = RedisServer->new->start;
my $client = $redis->client;
my $node = new_node('main', 'max_worker_processes = 20');
$node->safe_psql('postgres', 'CREATE ROLE authenticated; CREATE ROLE app LOGIN IN ROLE authenticated');

sub run { my ($sql, $database) = @_; return $node->safe_psql($database // 'postgres', $sql); }

# A database with the extension that tells Redis.
sub connect_to_redis {
    my ($database, %settings) = @_;
    my $settings = encode_json({ redis_url => $redis->url, redis_enabled => JSON::PP::true, %settings });
    run("CREATE EXTENSION IF NOT EXISTS cache_ext; SELECT update_redis_settings(\$json\$$settings\$json\$)", $database);
    # Everything is told twice: at once, and when those are over who did not tell yet.
    $node->poll_query_until($database, 'SELECT complete FROM cache_ext_internal.redis_state') if !%settings;
}

# Within some seconds.
sub there { my (@keys) = @_; return join ' ', grep { $client->do('EXISTS', $_) } @keys; }
sub put { $client->do('SET', $_, 'x') for @_; }

# Until Redis has acknowledged all that has been committed.
sub settle {
    my ($database) = @_;
    run(q(DO $$ BEGIN
        FOR i IN 1 .. 12000 LOOP
            IF NOT EXISTS (SELECT FROM cache_ext_internal.redis_outbox) THEN RETURN; END IF;
            PERFORM pg_sleep(0.01);
        END LOOP;
        RAISE 'not settled: %', (SELECT s FROM cache_redis_status s);
    END $$), $database);
}

my ($listener, $listens_to);
sub listen_to { my ($channel) = @_; $listener = $redis->client; $listens_to = $channel // 'cache_ext:invalidate'; $listener->do('SUBSCRIBE', $listens_to); }

# Messages since.
sub heard {
    my ($database) = @_;
    settle($database);
    return map { decode_json($_) } $listener->messages_until_now($client, $listens_to);
}

# --- what is deleted -----------------------------------------------------------------------------------------

connect_to_redis('postgres');
settle();

put('db_query:a', 'db_query:b', 'foreign', 'xdb_query:a');
run(q(SELECT invalidate_cache_key('db_query:a'), invalidate_cache_key('foreign')));
settle();
is(there('db_query:a', 'db_query:b', 'foreign', 'xdb_query:a'), 'db_query:b foreign xdb_query:a', 'a key goes, what is not in a namespace stays');

put('db_query:a', 'db_query:b', 'db_query:c', 'other:1');
$client->do('SADD', 'tag:t1', 'db_query:a', 'db_query:b', 'other:1', 'foreign', 'db_query:missing');
$client->do('SADD', 'tag:t2', 'db_query:c');
$client->do('SET', 'tag:wrong', 'a text');
$client->do('SADD', 'tag:many', map { "db_query:many:$_" } 1 .. 5000);
put(map { "db_query:many:$_" } 1 .. 5000);
run(q(SELECT invalidate_cache_by_tags('{t1,wrong,many,unknown}')));
settle();
is(there('db_query:a', 'db_query:b', 'db_query:c', 'other:1', 'foreign'), 'db_query:c other:1 foreign', 'the keys of a tag go, foreign ones in its set stay');
is($client->do('GET', 'tag:wrong'), 'a text', 'what has the name of a tag\'s set and is none stays');
is($client->do('EXISTS', 'db_query:many:1', 'db_query:many:2500', 'db_query:many:5000', 'tag:many'), 0, 'thousands of keys in one set');
is_deeply($client->do('SMEMBERS', 'tag:t2'), ['db_query:c'], 'other tags are as they were');

put('db_query:p:1', 'db_query:p:2', 'db_query:q:1', 'dXquery:p:1', 'db_query:[x]', 'db_query:x');
run(q(SELECT invalidate_cache_by_pattern('db_query:p:*'), invalidate_cache_by_pattern('db_query:\[x\]'), invalidate_cache_by_pattern('fore*')));
settle();
is(there('db_query:p:1', 'db_query:p:2', 'db_query:q:1', 'dXquery:p:1', 'db_query:[x]', 'db_query:x', 'foreign'), 'db_query:q:1 dXquery:p:1 db_query:x foreign', 'patterns');

put('db_query:*', 'db_query:?', 'db_query:ab', q(db_query:' "$1\\), "db_query:\n\t{}%");
run(q(SELECT invalidate_cache_key('db_query:*'), invalidate_cache_key('db_query:?'), invalidate_cache_key('db_query:'' "$1\\'), invalidate_cache_key(E'db_query:\n\t{}%')));
settle();
is(there('db_query:*', 'db_query:?', q(db_query:' "$1\\), "db_query:\n\t{}%"), '', 'keys with whatever is in them');
is(there('db_query:ab'), 'db_query:ab', 'are keys and no patterns');

put('db_query:a', 'auth:user:1', 'storage:list:b:1', 'cache:x', 'foreign', 'other:db_query:');
run('SELECT emergency_clear_cache(current_database()::text)');
settle();
is(there('db_query:a', 'db_query:x', 'auth:user:1', 'storage:list:b:1', 'cache:x', 'tag:t2', 'foreign', 'other:db_query:'), 'foreign other:db_query:', 'everything is everything in the namespaces');
is($client->do('EXISTS', 'cache_ext:stream'), 1, 'and not the stream');

# --- messages ------------------------------------------------------------------------------------------------

listen_to();
run(q(BEGIN; SELECT invalidate_cache_key('db_query:m'), invalidate_cache_by_tags('{t1,t2}'), invalidate_cache_by_pattern('db_query:x*'); SELECT invalidate_cache_key('db_query:"\\'); COMMIT));
my @heard = heard();
is(scalar(@heard), 1, 'a transaction is a message');
my $origin = run('SELECT system_identifier FROM pg_control_system()');
is_deeply({ %{ $heard[0] }, sequence => 1, time => 'T' },
    { origin => $origin, database => 'postgres', keys => [ 'db_query:m', 'db_query:"\\' ], tags => [ 't1', 't2' ], patterns => ['db_query:x*'], all => JSON::PP::false, sequence => 1, time => 'T' },
    'that says what and whose');
like($heard[0]{time}, qr/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/, 'and when');

# The number of each message of a database in the stream, in its order.
sub numbers { my ($database) = @_; return map { decode_json($_->[1][1]) } grep { decode_json($_->[1][1])->{database} eq $database } @{ $client->do('XRANGE', 'cache_ext:stream', '-', '+') }; }
sub is_gapless {
    my ($what, $database, $after) = @_;
    my @numbers = grep { $_ > ($after // 0) } map { $_->{sequence} } numbers($database // 'postgres');
    my @missing = grep { $numbers[$_] != $numbers[ $_ - 1 ] + 1 } 1 .. $#numbers;
    is(join(', ', map { "$numbers[$_ - 1] $numbers[$_]" } @missing), '', $what);
}
is_gapless('the numbers of messages follow each other');

# A transaction that names very much is told in pieces, each of which has its number.
my $length_before = $client->do('XLEN', 'cache_ext:stream');
run(q(DO $$ BEGIN FOR i IN 1 .. 3 LOOP PERFORM invalidate_cache_by_tags(ARRAY(SELECT 'huge:' || i || ':' || j || repeat('x', 80) FROM generate_series(1, 10000) j)); END LOOP; END $$));
settle();
my @pieces = map { $_->[1][1] } splice @{ $client->do('XRANGE', 'cache_ext:stream', '-', '+') }, $length_before;
cmp_ok(scalar(@pieces), '>', 3, 'many names are several messages');
is(scalar(grep { length > 400_000 } @pieces), 0, 'of which none is large');
is(scalar(map { @{ decode_json($_)->{tags} } } @pieces), 30_000, 'and that name all of them');
is_gapless('one after the other');

# --- what is not committed ---------------------------------------------------------------------------------------

listen_to();
put(map { "db_query:s$_" } 1 .. 6);
run(q(BEGIN; SELECT invalidate_cache_key('db_query:s1'); ROLLBACK;
    BEGIN; SELECT invalidate_cache_key('db_query:s2'); SAVEPOINT a; SELECT invalidate_cache_key('db_query:s3'); ROLLBACK TO a; SELECT invalidate_cache_key('db_query:s4');
    SAVEPOINT b; SELECT invalidate_cache_key('db_query:s5'); RELEASE b; COMMIT));
run(q(DO $$ BEGIN PERFORM invalidate_cache_key('db_query:s6'); RAISE 'no'; EXCEPTION WHEN OTHERS THEN NULL; END $$));
is_deeply([ map { $_->{keys} } heard() ], [ [ 'db_query:s2', 'db_query:s4', 'db_query:s5' ] ], 'what was rolled back is not told');
is(there(map { "db_query:s$_" } 1 .. 6), 'db_query:s1 db_query:s3 db_query:s6', 'and not deleted');
# One whose commit fails late.
$node->psql('postgres', q(CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED); BEGIN; INSERT INTO deferred VALUES (1), (1);
    SELECT invalidate_cache_key('db_query:s1'); COMMIT));
is_deeply([heard()], [], 'nor what fails at the commit');

put('db_query:2pc', 'db_query:2pc2');
run(q(BEGIN; SELECT invalidate_cache_key('db_query:2pc'); PREPARE TRANSACTION 'a'; BEGIN; SELECT invalidate_cache_key('db_query:2pc2'); PREPARE TRANSACTION 'b'));
settle();
is(there('db_query:2pc', 'db_query:2pc2'), 'db_query:2pc db_query:2pc2', 'what is prepared has to wait');
$node->restart;
settle();
run(q(COMMIT PREPARED 'a'; ROLLBACK PREPARED 'b'));
soon(sub { there('db_query:2pc') eq '' }, 'until it is committed, over a restart');
settle();
is(there('db_query:2pc2'), 'db_query:2pc2', 'or rolled back');

put('db_query:ro');
run(q(BEGIN READ ONLY; SELECT invalidate_cache_key('db_query:ro'); COMMIT));
soon(sub { there('db_query:ro') eq '' }, 'READ ONLY transactions too');
is($node->psql('postgres', q(BEGIN READ ONLY; SELECT invalidate_cache_key('db_query:ro'); CREATE TABLE no (); COMMIT)), 3, 'which are read only nevertheless');

# --- private callers ---------------------------------------------------------------------------------------------

listen_to();
put('db_query:secret', 'db_query:public');
run(q(SET ROLE app; SELECT invalidate_cache_key('db_query:secret'); SELECT invalidate_cache_by_pattern('db_query:*');
    SELECT invalidate_cache_by_tags('{t9}')));
is_deeply([ map { [ $_->{keys}, $_->{tags}, $_->{patterns}, $_->{all} ] } heard() ], [ [ [], ['t9'], [], JSON::PP::false ] ], 'of private callers nothing but tags');
is(there('db_query:secret', 'db_query:public'), 'db_query:secret db_query:public', 'and they delete no key');

# --- numbers over restarts -----------------------------------------------------------------------------------------

my $pusher = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'cache_ext pusher' AND datname = current_database());
my $first = (map { $_->{sequence} } numbers('postgres'))[-1];
for my $n (1 .. 3) {
    my $pid = run($pusher);
    run("SELECT pg_terminate_backend(pid, 5000) FROM ($pusher) p");
    put("db_query:r$n");
    run("SELECT invalidate_cache_key('db_query:r$n')");
    soon(sub { there("db_query:r$n") eq '' }, "a pusher that was terminated comes back: $n") if $n == 1;
    if ($n > 1) { $node->stop($n == 2 ? 'immediate' : 'fast'); $node->start; }
    settle();
    isnt(run($pusher), $pid, 'as another process') if $n == 1;
}
is_gapless('no number is missing over restarts of the pusher and the server', 'postgres', $first);
is(there(map { "db_query:r$_" } 1 .. 3), '', 'nor anything lost');

# Redis begins anew: it knows no number, and consumers see that they know nothing.
$client->do('FLUSHALL');
my ($last) = run('SELECT sequence FROM cache_redis_status');
run("SELECT pg_terminate_backend(pid, 5000) FROM ($pusher) p");
soon(sub { numbers('postgres') > 0 }, 'a Redis that was emptied is told that it knows nothing');
my @after = map { $_->{sequence} } numbers('postgres');
cmp_ok($after[0], '>', $last + 1, 'a Redis that lost its number gets one that nobody has seen, with a gap');

# --- prefix, channel, stream: settings at run time ----------------------------------------------------------------------

connect_to_redis('postgres', redis_prefix => 'p*:', redis_namespaces => 'db_query:,cache:', redis_channel => 'chan', redis_stream => 'str', redis_stream_maxlen => 100);
settle();
put('p*:db_query:a', 'db_query:a', 'pX:db_query:a', 'p*:auth:user:1', 'p*:db_query:p1', 'db_query:p1', 'pX:db_query:p1', 'p*:tag:t');
listen_to('chan');
run(q(SELECT invalidate_cache_key('db_query:a'), invalidate_cache_by_pattern('db_query:p*'), invalidate_cache_key('auth:user:1'), invalidate_cache_by_tags('{t}')));
@heard = heard();
is(there('p*:db_query:a', 'db_query:a', 'pX:db_query:a', 'p*:auth:user:1', 'p*:db_query:p1', 'db_query:p1', 'pX:db_query:p1', 'p*:tag:t'),
    'db_query:a pX:db_query:a p*:auth:user:1 db_query:p1 pX:db_query:p1 p*:tag:t', 'a prefix, taken literally, and fewer namespaces');
is_deeply([ map { $_->{keys} } grep { !$_->{all} } @heard ], [ [ 'db_query:a', 'auth:user:1' ] ], 'another channel, names as they are in the database');
run('SELECT emergency_clear_cache(current_database()::text)');
settle();
is(there('db_query:a', 'pX:db_query:a', 'p*:auth:user:1', 'p*:tag:t'), 'db_query:a pX:db_query:a p*:auth:user:1 p*:tag:t', 'everything is everything below the prefix');
run(q(DO $$ BEGIN FOR i IN 1..600 LOOP PERFORM invalidate_cache_key('db_query:' || i); COMMIT; END LOOP; END $$));
settle();
my $length = $client->do('XLEN', 'p*:str');
cmp_ok($length, '>', 0, 'another stream');
cmp_ok($length, '<', 400, 'which is capped');
connect_to_redis('postgres', redis_prefix => undef, redis_namespaces => undef, redis_channel => undef, redis_stream => undef, redis_stream_maxlen => undef);
settle();

# --- off and on, and another Redis -----------------------------------------------------------------------------------------

run(q(SELECT update_redis_settings('{"redis_enabled": false}')));
put('db_query:off');
run(q(SELECT invalidate_cache_key('db_query:off')));
soon(sub { run("SELECT count(*) FROM ($pusher) p") eq '0' }, 'switched off, nobody is there to send');
is(run('SELECT count(*) FROM cache_ext_internal.redis_outbox WHERE NOT everything'), '0', 'nor anything to be sent');
is(there('db_query:off'), 'db_query:off', 'and nothing is deleted');
run(q(SELECT update_redis_settings('{"redis_enabled": true}')));
soon(sub { there('db_query:off') eq '' }, 'switched on again, what was missed is made up for');

my $second = RedisServer->new->start;
my $there = $second->client;
$there->do('SET', 'db_query:there', 'old');
run("SELECT update_redis_settings(jsonb_build_object('redis_url', '" . $second->url . "'))");
soon(sub { !$there->do('EXISTS', 'db_query:there') }, 'another Redis is not believed to know anything');
put('db_query:here');
$there->do('SET', 'db_query:here', 'x');
run(q(SELECT invalidate_cache_key('db_query:here')));
soon(sub { !$there->do('EXISTS', 'db_query:here') }, 'it is told from then on');
is(there('db_query:here'), 'db_query:here', 'and the old one no more');
run("SELECT update_redis_settings(jsonb_build_object('redis_url', '" . $redis->url . "'))");
settle();

# --- the configuration ---------------------------------------------------------------------------------------------------

run('CREATE DATABASE configured');
run('CREATE EXTENSION cache_ext', 'configured');
put('db_query:conf');
run(q(SELECT invalidate_cache_key('db_query:conf')), 'configured');
run("ALTER SYSTEM SET cache_ext.redis_url = '" . $redis->url . "'");
run('ALTER SYSTEM SET cache_ext.redis_enabled = on');
run('SELECT pg_reload_conf()');
sleep 0.3;
run(q(SELECT invalidate_cache_key('db_query:conf2')), 'configured');
soon(sub { there('db_query:conf') eq '' }, 'switched on by the configuration, with what went before');
settle('configured');
run("ALTER SYSTEM SET cache_ext.redis_prefix = 'conf:'");
run('SELECT pg_reload_conf()');
soon(sub { run(q(SELECT get_redis_settings() ->> 'redis_prefix'), 'configured') eq 'conf:' }, 'the configuration is read again');
becomes_true(sub { put('conf:db_query:probe'); run(q(SELECT invalidate_cache_key('db_query:probe')), 'configured'); sleep 0.1; there('conf:db_query:probe') eq '' });
settle('configured');
put('db_query:conf3', 'conf:db_query:conf3');
run(q(SELECT invalidate_cache_key('db_query:conf3')), 'configured');
soon(sub { there('conf:db_query:conf3') eq '' }, 'by the pusher too');
is(there('db_query:conf3'), 'db_query:conf3', 'which touches nothing else any more');
run('ALTER SYSTEM RESET cache_ext.redis_prefix');
run('ALTER SYSTEM SET cache_ext.redis_enabled = off');
run('SELECT pg_reload_conf()');
soon(sub { run(q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cache_ext pusher' AND datname = 'configured')) eq '0' }, 'and goes');

# --- other databases -----------------------------------------------------------------------------------------------------

my $odd = q(o'dd "db" {é});
run(qq(CREATE DATABASE "o'dd ""db"" {é}"));
my $quoted = $node->connstr . " dbname='o\\'dd \"db\" {é}'";
listen_to();
$node->safe_psql('postgres', 'CREATE EXTENSION cache_ext; SELECT update_redis_settings(jsonb_build_object(\'redis_url\', \'' . $redis->url . q[', 'redis_enabled', true)); SELECT invalidate_cache_key('db_query:odd')], connstr => $quoted);
my @odd;
soon(sub { push @odd, grep { $_->{database} =~ /^o'dd/ && @{ $_->{keys} } } map { decode_json($_) } $listener->messages(100, 0.2); @odd }, 'a database with an odd name');
utf8::decode(my $decoded = $odd);
is($odd[0]{database}, $decoded, 'is told by its name');

run(q(CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'));
connect_to_redis('latin');
put("db_query:\xc3\xa4", "db_query:\xe4");
run(q(SET client_encoding = 'UTF8'; SELECT invalidate_cache_key('db_query:ä')), 'latin');
settle('latin');
is(there("db_query:\xc3\xa4", "db_query:\xe4"), "db_query:\xe4", 'names are UTF-8 in Redis, whatever they are in the database');

run(q(CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'));
connect_to_redis('bytes');
settle('bytes');
listen_to();
put("db_query:\xff\xfe", "db_query:\xc3\xa4", 'db_query:after');
run(q(SELECT invalidate_cache_key(E'db_query:\xff\xfe'), invalidate_cache_key('db_query:ä')), 'bytes');
run(q(SELECT invalidate_cache_key('db_query:after')), 'bytes');
soon(sub { there("db_query:\xff\xfe", "db_query:\xc3\xa4", 'db_query:after') eq '' }, 'and bytes where the database knows no encoding');
ok((grep { join(' ', @{ $_->{keys} }) eq 'db_query:after' } heard('bytes')), 'the messages are JSON nevertheless');

# --- who wants the database for himself ----------------------------------------------------------------------------------

run('CREATE DATABASE mine');
connect_to_redis('mine');
settle('mine');
my $begun = time;
is($node->psql('postgres', 'CREATE DATABASE copy TEMPLATE mine'), 0, 'CREATE DATABASE gets its template');
is($node->psql('postgres', 'ALTER DATABASE mine RENAME TO ours'), 0, 'ALTER DATABASE RENAME too');
is($node->psql('postgres', 'DROP DATABASE ours'), 0, 'and DROP DATABASE');
cmp_ok(time - $begun, '<', 60, 'before they give up');
sleep 11;    # for which it leaves them alone
my @vain = slurp_file($node->logfile) =~ /FATAL:  database \d+ does not exist/g;
is(scalar(@vain), 0, 'and nobody is sent into a database that is gone');
put('db_query:copy');
run(q(SELECT invalidate_cache_key('db_query:copy')), 'copy');
soon(sub { there('db_query:copy') eq '' }, 'the copy tells Redis');
is($node->psql('postgres', 'DROP DATABASE copy'), 0, 'and is dropped');

# --- without the extension, and with it again ---------------------------------------------------------------------------------

listen_to();
run('DROP EXTENSION cache_ext CASCADE');
soon(sub { run("SELECT count(*) FROM ($pusher) p") eq '0' }, 'without the extension there is no pusher');
is(run("SELECT count(*) FROM pg_class WHERE relname ~ 'redis'"), '0', 'nor anything else');
connect_to_redis('postgres');
settle();
put('db_query:again');
run(q(SELECT invalidate_cache_key('db_query:again')));
settle();
is(there('db_query:again'), '', 'with it again there is');
my @twice = grep { my $n = $_; 1 < grep { $_ == $n } map { $_->{sequence} } numbers('postgres') } map { $_->{sequence} } numbers('postgres');
is("@twice", '', 'and no number comes twice');

# --- a lock on the outbox, and who cannot write ----------------------------------------------------------------------------------

my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; LOCK TABLE cache_ext_internal.redis_outbox IN ACCESS EXCLUSIVE MODE');
put('db_query:locked');
$begun = time;
my ($status, $said) = (0, '');
$status = $node->psql('postgres', q(SELECT invalidate_cache_key('db_query:locked')), stderr => \$said);
is($status, 0, 'a locked outbox fails nobody');
cmp_ok(time - $begun, '<', 20, 'nor has anybody wait');
like($said, qr/WARNING:  invalidations could not be kept for Redis/, 'but is told');
$holder->query_safe('COMMIT');
$holder->quit;
soon(sub { there('db_query:locked') eq '' }, 'everything is told instead, once it can be');

# Vacuum gives nothing of the file back to the system, for which it would take such a lock.
run(q(DO $$ BEGIN FOR i IN 1 .. 2000 LOOP PERFORM invalidate_cache_by_tags(ARRAY['unused' || i, repeat('x', 200)]); COMMIT; END LOOP; END $$));
settle();
my $size = q(SELECT pg_relation_size('cache_ext_internal.redis_outbox'));
my $room = run($size);
run('VACUUM cache_ext_internal.redis_outbox');
is(run($size), $room, 'the outbox keeps its room');

# --- a standby, and its promotion ----------------------------------------------------------------------------------------------

settle();
my $before = (map { $_->{sequence} } numbers('postgres'))[-1];
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
put('db_query:standby');
my $sent = $client->do('XLEN', 'cache_ext:stream');
my $alls = sub { my @all = map { decode_json($_->[1][1]) } @{ $client->do('XRANGE', 'cache_ext:stream', '-', '+') }; scalar grep { $_->{all} && $_->{database} eq 'postgres' } @all };
my $everything = $alls->();
$standby->safe_psql('postgres', q(SELECT invalidate_cache_key('db_query:standby'), invalidate_cache_by_tags('{standby}')));
sleep 2;
is(there('db_query:standby'), 'db_query:standby', 'a standby deletes nothing');
is($client->do('XLEN', 'cache_ext:stream'), $sent, 'and tells nothing');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'cache_ext pusher')), '0', 'there is nobody to do so');
$node->stop;
$standby->promote;
$standby->safe_psql('postgres', q(SELECT invalidate_cache_key('db_query:standby')));
soon(sub { there('db_query:standby') eq '' }, 'once promoted it does');
soon(sub { $alls->() > $everything }, 'and says that nobody knows: the old server may have told of what the new one has not got');
is_gapless('and goes on counting', 'postgres', $before);
$standby->stop;

# --- not preloaded, and no worker to be had -----------------------------------------------------------------------------------------

$node = new_node('plain', '', no_preload => 1);
connect_to_redis('postgres');
settle();
put('db_query:plain');
run(q(SELECT invalidate_cache_key('db_query:plain')));
soon(sub { there('db_query:plain') eq '' }, 'without preloading too');
run("SELECT pg_terminate_backend(pid, 5000) FROM ($pusher) p");
sleep 1.2;
put('db_query:plain');
run(q(SELECT invalidate_cache_key('db_query:plain')));
soon(sub { there('db_query:plain') eq '' }, 'there the next who writes, a second later, has a pusher started');
$node->stop;

$node = new_node('short', "max_worker_processes = 1\n");
run("CREATE EXTENSION cache_ext; SELECT update_redis_settings('{\"redis_enabled\": true, \"redis_url\": \"" . $redis->url . "\"}')");
put('db_query:short');
run(q(SELECT invalidate_cache_key('db_query:short')));
soon(sub { slurp_file($node->logfile) =~ /could not start a background worker to send invalidations to Redis/ }, 'where no worker can be started that is logged');
is(run(q(SELECT count(*) > 0 FROM cache_ext_internal.redis_outbox)), 't', 'and it is kept');
is(run('SELECT state FROM cache_redis_status'), 'not running', 'and shown');
$node->append_conf('postgresql.conf', 'max_worker_processes = 8');
$node->restart;
run(q(SELECT invalidate_cache_key('db_query:short2')));
soon(sub { there('db_query:short') eq '' }, 'until one can');
$node->stop;

done_testing();
