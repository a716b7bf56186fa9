# Values that go to Redis, what others tell on the channel, and both in a cluster.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use RedisServer;
use Test::More;
use Time::HiRes qw(sleep time);

if (my $why = RedisServer::missing()) { plan skip_all => $why; }

sub new_node {
    my ($name) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init;
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'\nfsync = off\nautovacuum = off\nmax_worker_processes = 20");
    $node->start;
    $node->safe_psql('postgres', 'CREATE ROLE authenticated; CREATE ROLE app LOGIN IN ROLE authenticated; CREATE EXTENSION cache_ext; GRANT USAGE ON SCHEMA public TO app');
    return $node;
}

sub connect_to_redis {
    my ($node, %settings) = @_;
    my $settings = encode_json({ redis_enabled => JSON::PP::true, %settings });
    $node->safe_psql('postgres', "SELECT update_redis_settings(\$json\$$settings\$json\$)");
    $node->poll_query_until('postgres', q(SELECT s.complete AND NOT EXISTS (SELECT FROM cache_ext_internal.redis_outbox) FROM cache_ext_internal.redis_state s));
}

my $redis = RedisServer->new->start;
my $client = $redis->client;
my $node = new_node('main');
sub run { return $node->safe_psql('postgres', @_); }
sub get { my ($key) = @_; return $client->do('GET', $key) // ''; }
connect_to_redis($node, redis_url => $redis->url);
run(q(SELECT set_cache_policy('db_query:', '10 minutes', p_write_through => true); SELECT set_cache_policy('storage:', p_write_through => false)));

# --- values ------------------------------------------------------------------------------------------------

run(q(SELECT set_cached_data('db_query:a', '{"n": [1, "ü"]}', p_cache_tags => '{t1,t2}')));
soon(sub { get('db_query:a') eq qq({"n": [1, "\xc3\xbc"]}) }, 'what is set is put');
my $life = $client->do('PTTL', 'db_query:a');
ok($life > 500_000 && $life <= 600_000, "for as long as it lives: $life");
is(join(' ', sort @{ $client->do('SMEMBERS', 'tag:t1') }, @{ $client->do('SMEMBERS', 'tag:t2') }), 'db_query:a db_query:a', 'and into the sets of its tags');
run(q(SELECT set_cached_data('storage:a', '1'), set_cached_data('cache:a', '1'), set_cached_data('db_query:b', '1')));
soon(sub { get('db_query:b') eq '1' }, 'those of a policy that says so');
is(get('storage:a') . get('cache:a'), '', 'and no others');

run(q(SELECT invalidate_cache_by_tags('{t2}')));
soon(sub { get('db_query:a') eq '' }, 'invalidated, it goes');
run(q(BEGIN; SELECT set_cached_data('db_query:c', '1'); ROLLBACK; BEGIN; SAVEPOINT s; SELECT set_cached_data('db_query:d', '1'); ROLLBACK TO s; COMMIT;
      SELECT set_cached_data('db_query:e', '1')));
soon(sub { get('db_query:e') eq '1' }, 'a later one is there');
is(get('db_query:c') . get('db_query:d'), '', 'what was rolled back is not');

# Before a value is put the log is flushed, which has an end of its own kind where its last record fills a page.
sub fill_page {
    run(q(DO $$ DECLARE at int; BEGIN LOOP at := (pg_current_wal_insert_lsn() - '0/0') % 8192; EXIT WHEN at = 24;
        PERFORM pg_logical_emit_message(false, '', repeat('x', CASE WHEN 8192 - at BETWEEN 56 AND 255 THEN 8192 - at - 51 ELSE 101 END)); END LOOP; END $$));
}
my ($pusher) = run(q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'cache_ext pusher'));
kill 'STOP', $pusher;
run(q(SELECT set_cached_data('db_query:page', '1')));
fill_page();
kill 'CONT', $pusher;
soon(sub { get('db_query:page') eq '1' }, 'a value that is put where the log ends with a page');
unlike(slurp_file($node->logfile), qr/could not send|past end of generated WAL/, 'is no trouble');

$node->safe_psql('postgres', q(SELECT set_cached_data('db_query:secret', '"mine"'), set_cached_data('db_query:e', '"mine"')), extra_params => [ '-U', 'app' ]);
run(q(SELECT set_cached_data('db_query:f', '1')));
soon(sub { get('db_query:f') eq '1' }, 'a shared one');
is(get('db_query:secret'), '', 'private values never leave the server');
is(get('db_query:e'), '1', 'nor replace a shared one');

run(q(CREATE TABLE numbers (n int); INSERT INTO numbers VALUES (1);
      SELECT get_or_set_cached_data('db_query:tracked', 'SELECT n FROM numbers'),
             get_or_set_cached_data('db_query:tagged', 'SELECT n FROM numbers', p_cache_tags => '{numbers}')));
soon(sub { get('db_query:tagged') eq '[{"n": 1}]' }, 'what is computed, too');
is(get('db_query:tracked'), '', 'but not where the tables that it depends on are tracked: Redis would not be told of their changes');

run(q(SELECT update_redis_settings('{"cache_ttl_data": 500, "cache_ttl_count": 50}')));
run(q(SELECT set_cached_data('db_query:count', '17'), set_cached_data('db_query:rows', '[17]')));
soon(sub { get('db_query:count') eq '17' && get('db_query:rows') eq '[17]' }, 'with settings of their lives');
ok($client->do('PTTL', 'db_query:count') <= 50_000, 'counts live shorter');
ok($client->do('PTTL', 'db_query:rows') <= 500_000, 'than data');
soon(sub { run('SELECT values_put FROM cache_redis_status') >= 5 }, 'the status counts them');

# The log ends where a page of it ends: what has to be flushed is not the next page, of which there is nothing yet.
for my $try (1 .. 20) {
    run(q(DO $$ DECLARE base int; room int; begun pg_lsn;
        BEGIN
            FOR i IN 1 .. 100 LOOP
                begun := pg_current_wal_insert_lsn();
                PERFORM pg_logical_emit_message(false, '', '');
                base := pg_current_wal_insert_lsn() - begun;
                room := 8192 - mod(pg_current_wal_insert_lsn() - '0/0'::pg_lsn, 8192);
                CONTINUE WHEN base > 200 OR room < base;
                IF room <= base + 160 THEN
                    PERFORM pg_logical_emit_message(false, '', repeat('x', room - base));
                    EXIT;
                END IF;
                PERFORM pg_logical_emit_message(false, '', repeat('x', 96));
            END LOOP;
        END $$));
    my $offset = run(q(SELECT mod(pg_current_wal_insert_lsn() - '0/0'::pg_lsn, 8192)));
    next if $offset ne '24' && $offset ne '40';
    run(qq(SELECT set_cached_data('db_query:edge', '$try')));
    soon(sub { get('db_query:edge') eq $try }, "a value that is put when the log ends at the end of a page (after $try tries)");
    last;
}
is(get('db_query:edge') ne '', 1, 'which has happened');
unlike(slurp_file($node->logfile), qr/could not send invalidations|past end of generated WAL/, 'nothing went wrong over it');

# What cannot be said in UTF-8 keeps nothing else back.
run(q(CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'));
$node->safe_psql('bytes', "CREATE EXTENSION cache_ext; SELECT set_cache_policy('db_query:', p_write_through => true);
    SELECT update_redis_settings(jsonb_build_object('redis_enabled', true, 'redis_url', '" . $redis->url . "'))");
$node->poll_query_until('bytes', q(SELECT s.complete AND NOT EXISTS (SELECT FROM cache_ext_internal.redis_outbox) FROM cache_ext_internal.redis_state s));
$node->safe_psql('bytes', q(SELECT set_cached_data('db_query:bytes1', to_jsonb(E'\xff'::text)), set_cached_data(E'db_query:\xff', '1'),
    set_cached_data('db_query:bytes2', '1', p_cache_tags => ARRAY[E'\xff']), set_cached_data('db_query:bytes3', '1')));
soon(sub { get('db_query:bytes3') eq '1' }, 'a value that is put together with others that cannot be said in UTF-8');
is(get('db_query:bytes1') . get("db_query:\xff") . get('db_query:bytes2'), '', 'which are left out');
unlike(slurp_file($node->logfile), qr/could not send invalidations/, 'and fail nothing');
$node->safe_psql('postgres', 'DROP DATABASE bytes WITH (FORCE)');

# Each value is followed by its invalidation, while the connection breaks again and again: none may outlive it.
$redis->start_proxy;
connect_to_redis($node, redis_url => $redis->proxy_url, redis_timeout => 100);
my $kept = 0;
for my $round (1 .. ($ENV{CACHE_EXT_ROUNDS} // 15)) {
    run(join ';', map { "SELECT set_cached_data('db_query:v$_', '$round', p_cache_tags => '{v}')" } 1 .. 20);
    $redis->proxy($round % 3 == 0 ? 'cut' : $round % 3 == 1 ? 'slow' : 'hold');
    $redis->signal('STOP') if $round % 5 == 0;
    run(q(SELECT invalidate_cache_by_tags('{v}')));
    sleep 0.15 if $round % 3 == 2;
    $redis->signal('CONT') if $round % 5 == 0;
    $redis->proxy('pass');
    becomes_true(sub { run('SELECT count(*) FROM cache_ext_internal.redis_outbox') eq '0' });
    sleep 0.05;
    $kept += $client->do('EXISTS', map { "db_query:v$_" } 1 .. 20);
}
is($kept, 0, 'no value comes after its invalidation, however connections break');
run(q(SELECT set_cached_data('db_query:last', '1')));
soon(sub { run(q(SELECT set_cached_data('db_query:last', '1'))); get('db_query:last') eq '1' }, 'values are put again');

# Values that cannot be put wait for nobody: the process that sends does not spin over them, nor over those of a database in which nobody sends.
sub processor_time { my @stat = split ' ', slurp_file("/proc/$_[0]/stat"); return ($stat[13] + $stat[14]) / POSIX::sysconf(POSIX::_SC_CLK_TCK()); }
my $sender = run('SELECT pid FROM cache_redis_status');
$redis->stop('KILL');
soon(sub { run('SELECT state FROM cache_redis_status') ne 'up' }, 'Redis is away');
run(q(SELECT set_cached_data('db_query:waiting', '1')));
# Seconds of processor time in three; of one that spins, nearly all that the machine has for it.
sub spent {
    my $least = 3;
    for (1 .. 4) {
        my $before = processor_time($sender);
        sleep 3;
        my $spent = processor_time($sender) - $before;
        $least = $spent if $spent < $least;
        last if $least < 0.6;
    }
    return $least;
}
cmp_ok(spent(), '<', 0.6, 'a value that waits costs no time');
$redis->start;
$client = $redis->client;
soon(sub { run(q(SELECT set_cached_data('db_query:back', '1'))); get('db_query:back') eq '1' }, 'and they are put when it is back');
$node->safe_psql('postgres', 'CREATE DATABASE silent');
$node->safe_psql('silent', q(CREATE EXTENSION cache_ext; SELECT set_cache_policy('db_query:', p_write_through => true);
    SELECT update_redis_settings('{"redis_url": "unix:/nowhere", "redis_enabled": true}')));
$node->safe_psql('silent', q(SELECT set_cached_data('db_query:nobody', '1')));
cmp_ok(spent(), '<', 0.6, 'nor does one of another database');
$node->safe_psql('postgres', 'DROP DATABASE silent WITH (FORCE)');

# --- others tell -------------------------------------------------------------------------------------------

my $other = new_node('other');
connect_to_redis($_, redis_url => $redis->url, redis_subscribe => JSON::PP::true, redis_timeout => 1000) for $node, $other;
$_->poll_query_until('postgres', 'SELECT listening FROM cache_redis_status') for $node, $other;
sub fill { $_[0]->safe_psql('postgres', q(SELECT set_cached_data('cache:k' || i, '1', p_cache_tags => ARRAY['t' || i]) FROM generate_series(1, 5) i)); }
sub cached { return $_[0]->safe_psql('postgres', q(SELECT coalesce(string_agg(cache_key, ' ' ORDER BY cache_key), '') FROM query_cache WHERE cache_key LIKE 'cache:%')); }
# Each has told the other to forget everything, and has heard it before what is said later.
sub has_heard {
    my ($listens, $database) = @_;
    $listens->safe_psql($database // 'postgres', q(SELECT set_cached_data('heard', '1')));
    return becomes_true(sub {
        $client->do('PUBLISH', 'cache_ext:invalidate', '{"keys": ["heard"]}');
        return $listens->safe_psql($database // 'postgres', q(SELECT get_cached_data('heard') IS NULL)) eq 't';
    });
}
has_heard($_) for $node, $other;
fill($_) for $node, $other;
run(q(SELECT invalidate_cache_by_tags('{t1}'), invalidate_cache_key('cache:k2'), invalidate_cache_by_pattern('cache:*3')));
soon(sub { cached($other) eq 'cache:k4 cache:k5' }, 'what one server invalidates goes on the other');
is(cached($node), 'cache:k4 cache:k5', 'and was gone here');
my $messages = $client->do('XLEN', 'cache_ext:stream');
fill($_) for $node, $other;
$client->do('PUBLISH', 'cache_ext:invalidate', '{"tags": ["t1"], "keys": ["cache:k2", "nothing", 5], "patterns": ["*3", "[", 7]}');
soon(sub { cached($node) eq 'cache:k4 cache:k5' && cached($other) eq 'cache:k4 cache:k5' }, 'an application tells all of them');
$client->do('PUBLISH', 'cache_ext:invalidate', $_) for 'garbage', '[]', '"x"', '{}', '{"tags": 1}', '{"all": "true"}', '{"tags": ["' . ('x' x 5000) . '"]}', "\xff\xfe", '{"keys": ["\\u0000"]}';
$client->do('PUBLISH', 'cache_ext:invalidate', '{"keys": ["cache:k4"]}');
soon(sub { cached($node) eq 'cache:k5' }, 'whatever else is on the channel');
fill($node);
$client->do('PUBLISH', 'cache_ext:invalidate', $_) for '{"keys": ["\\u0000", "cache:k1"]}', '{"keys": ["\\ud800", "cach\\u0065:k2"]}', "{\"tags\": [\"\xff\", \"t3\"]}";
soon(sub { cached($node) eq 'cache:k4 cache:k5' }, 'a name that can be none here hides no other');
$client->do('PUBLISH', 'cache_ext:invalidate', '{"patterns": ["' . ('*' x 5000) . 'k4"]}');
soon(sub { cached($node) eq '' }, 'nor is a pattern left out that is too long');
run(q(CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'));
$node->safe_psql('latin', "CREATE EXTENSION cache_ext; SELECT update_redis_settings(jsonb_build_object('redis_enabled', true, 'redis_subscribe', true, 'redis_url', '" . $redis->url . "'))");
$node->poll_query_until('latin', q(SELECT s.complete AND s2.listening AND s2.backlog_rows = 0 FROM cache_ext_internal.redis_state s, cache_redis_status s2));
has_heard($node, 'latin');
$node->safe_psql('latin', q(SELECT set_cached_data('cache:k' || i, '1', p_cache_tags => ARRAY['t' || i, E'\u00e4' || i]) FROM generate_series(1, 5) i));
$client->do('PUBLISH', 'cache_ext:invalidate', "{\"tags\": [\"\xe6\x97\xa5\", \"t1\", \"\\u65e5\", \"\xc3\xa42\", \"\\u00e43\"]}");
soon(sub { $node->safe_psql('latin', q(SELECT string_agg(cache_key, ' ' ORDER BY cache_key) FROM query_cache)) eq 'cache:k4 cache:k5' }, 'nor one in characters that the database has not');
$node->safe_psql('postgres', 'DROP DATABASE latin WITH (FORCE)');
$messages = $client->do('XLEN', 'cache_ext:stream');
$client->do('PUBLISH', 'cache_ext:invalidate', '{"keys": ["cache:k4"]}');
sleep 0.5;
is($client->do('XLEN', 'cache_ext:stream'), $messages, 'and nobody says it again');
$client->do('PUBLISH', 'cache_ext:invalidate', '{"all": true}');
soon(sub { cached($node) eq '' && cached($other) eq '' }, 'all is all');

fill($other);
is($other->safe_psql('postgres', q(SELECT count(*) FROM query_cache)), '5', 'filled again');
$redis->stop('KILL');
soon(sub { cached($other) eq '' }, 'when the connection is lost nothing is known');
fill($other);
$redis->start;
$client = $redis->client;
soon(sub { cached($other) eq '' }, 'nor of the time until it is back');
$other->stop;

# --- a cluster ---------------------------------------------------------------------------------------------

my @ports = map { PostgreSQL::Test::Cluster::get_free_port() } 1 .. 3;
my @members = map {
    my $port = $_;
    RedisServer->new(args => [ '--port', $port, '--bind', '127.0.0.1', '--cluster-enabled', 'yes', '--cluster-port', PostgreSQL::Test::Cluster::get_free_port() ])->start
} @ports;
my $made = run_log([ 'redis-cli', '--cluster', 'create', (map { "127.0.0.1:$_" } @ports), '--cluster-yes' ]);
SKIP: {
    skip 'this redis-cli makes no cluster', 8 unless $made;
    my $do = sub {
        my (@words) = @_;
        my ($out, $err) = ('', '');
        run_log([ 'redis-cli', '-c', '-p', $ports[0], @words ], '>', \$out, '2>', \$err);
        chomp $out;
        return $out;
    };
    soon(sub { $do->('CLUSTER', 'INFO') =~ /cluster_state:ok/ }, 'a cluster of three');
    connect_to_redis($node, redis_url => 'redis://' . join(',', map { "127.0.0.1:$_" } @ports), redis_subscribe => JSON::PP::false);
    $do->('SET', "db_query:c$_", 'x') for 1 .. 30;
    $do->('SADD', 'tag:many', map { "db_query:c$_" } 1 .. 10);
    run(q(SELECT invalidate_cache_by_tags('{many}'), invalidate_cache_by_pattern('db_query:c2?'), invalidate_cache_key('db_query:c11')));
    soon(sub { join(' ', grep { $do->('EXISTS', "db_query:c$_") eq '1' } 1 .. 30) eq '12 13 14 15 16 17 18 19 30' }, 'keys, tags and patterns over all slots');
    run(q(SELECT set_cached_data('db_query:w' || i, to_jsonb(i), p_cache_tags => '{w,x}') FROM generate_series(1, 9) i));
    soon(sub { !grep { $do->('GET', "db_query:w$_") ne "$_" } 1 .. 9 }, 'values over all slots');
    soon(sub { $do->('SCARD', 'tag:w') eq '9' }, 'with their tags');
    run(q(SELECT invalidate_cache_by_tags('{x}')));
    soon(sub { !grep { $do->('EXISTS', "db_query:w$_") ne '0' } 1 .. 9 }, 'and gone with them');
    cmp_ok($do->('XLEN', 'cache_ext:stream'), '>=', 2, 'the stream is there, too');
    # A server of it comes back with an older state; another one knows the number of the last message.
    $do->('SET', "db_query:o$_", 'x') for 1 .. 30;
    $node->poll_query_until('postgres', 'SELECT backlog_rows = 0 FROM cache_redis_status');
    my ($keeper) = grep { grep { /sequence/ } @{ $members[$_]->do('KEYS', '*') } } 0 .. 2;
    my ($other_one) = grep { $_ != $keeper } 0 .. 2;
    my ($key) = grep { /db_query:o/ } @{ $members[$other_one]->do('KEYS', '*') };
    $members[$other_one]->do('SAVE');
    run(qq(SELECT invalidate_cache_key('$key')));
    soon(sub { !$members[$other_one]->do('EXISTS', $key) }, 'a key of a server that is not the one that counts');
    $node->poll_query_until('postgres', 'SELECT backlog_rows = 0 FROM cache_redis_status');
    $members[$other_one]->stop('KILL');
    $members[$other_one]->start;
    soon(sub { !(eval { $members[$other_one]->do('EXISTS', $key) } // 1) }, 'but not for long');
}

$node->stop;
done_testing();
