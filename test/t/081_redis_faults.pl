# Nothing that was committed is lost on its way to Redis, whatever is killed: the process that sends, the database server, Redis with and without its
# data; Redis stopped, full, read-only; the connection cut, slow, garbled. Writers change rows and invalidate what belongs to them, readers keep copies
# in Redis as an application does; when all is quiet again no copy is older than its row. And a follower of the stream has missed nothing.
#
# CACHE_EXT_FAULTS: how many faults (24). CACHE_EXT_FAULT: of which kinds, a regular expression (all).
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use IPC::Open2;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;
use Time::HiRes qw(sleep time);

if (my $why = RedisServer::missing()) { plan skip_all => $why; }

my $faults = $ENV{CACHE_EXT_FAULTS} || 24;
my $seed = $ENV{CACHE_EXT_SEED} || time ^ $$;
srand $seed;
note "CACHE_EXT_SEED=" . int($seed);

# Reading and writing move on through the rows, so that what has gone wrong is not mended by what comes later.
my $rows_a_second = 60;
my $rows = 1000 + int($faults * 0.9 * $rows_a_second);
my $began = time;
sub some_row { return 1 + (int((time - $began) * $rows_a_second) + int rand 40) % $rows; }
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cache_ext'
restart_after_crash = on
max_connections = 60
checkpoint_timeout = 30s
max_wal_size = 64MB
fsync = off
cache_ext.redis_timeout = 100ms
CONF
$node->start;
my $redis = RedisServer->new(args => [ '--maxmemory', '24mb', '--maxmemory-policy', 'noeviction' ])->start->start_proxy;
$node->safe_psql('postgres', "CREATE EXTENSION cache_ext; CREATE TABLE item (id int PRIMARY KEY, version bigint NOT NULL);
    INSERT INTO item SELECT i, 1 FROM generate_series(1, $rows) i;
    CREATE FUNCTION some_row() RETURNS int VOLATILE LANGUAGE sql RETURN
        1 + (floor((extract(epoch FROM clock_timestamp()) - $began) * $rows_a_second) + floor(random() * 40))::int % $rows;
    SELECT update_redis_settings(jsonb_build_object('redis_url', '" . $redis->proxy_url . "', 'redis_enabled', true))");

# --- who takes part ------------------------------------------------------------------------------------------

my $dir = PostgreSQL::Test::Utils::tempdir;
my @processes;
my $main = $$;
END { kill 'KILL', @processes if $main && $$ == $main; }

# Runs code in a process of its own, until the test ends it.
sub process {
    my ($code) = @_;
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        open STDERR, '>>', "$dir/stderr";
        $SIG{PIPE} = 'IGNORE';
        $SIG{TERM} = sub { POSIX::_exit(0) };
        eval { $code->(); 1 } or print STDERR "process $$: $@";
        POSIX::_exit(0);
    }
    push @processes, $pid;
    return $pid;
}

# What belongs to a row is invalidated by its key, by its tag or by a pattern.
append_to_file("$dir/write.sql", <<"SQL");
\\set end random(1, 8)
BEGIN;
SELECT some_row() AS id \\gset
UPDATE item SET version = version + 1 WHERE id = :id RETURNING CASE id % 3
    WHEN 0 THEN invalidate_cache_key('db_query:k:' || id)::text
    WHEN 1 THEN invalidate_cache_by_tags(ARRAY['item' || id])::text
    ELSE invalidate_cache_by_pattern('db_query:p:' || id || ':*')::text END;
\\if :end = 1
ROLLBACK;
\\else
COMMIT;
\\endif
SQL

# They begin anew when the server is there again.
sub writer {
    my $pgbench;
    $SIG{TERM} = sub { kill 'TERM', $pgbench if $pgbench; POSIX::_exit(0) };
    for (;;) {
        $pgbench = fork;
        if ($pgbench == 0) {
            open STDOUT, '>', '/dev/null';
            open STDERR, '>', '/dev/null';
            exec 'pgbench', '-n', '-c', 4, '-j', 1, '-T', 600, '-R', 400, '-f', "$dir/write.sql", '-h', $node->host, '-p', $node->port, '-U', 'postgres', 'postgres';
        }
        waitpid $pgbench, 0;
        sleep 0.05;
    }
}

# The versions of rows, as the database has them; undef: it has gone.
my ($psql_in, $psql_out, $psql_pid);
sub versions {
    my (@ids) = @_;
    if (!$psql_pid) {
        $psql_pid = open2($psql_out, $psql_in, 'psql', '-XAtq', '-d', $node->connstr('postgres'));
    }
    # A query that fails prints nothing; what follows it does.
    print $psql_in 'SELECT string_agg(concat_ws(\' \', id, version), \' \') FROM item WHERE id IN (' . join(',', @ids) . ");\n\\echo done\n";
    $psql_in->flush;
    my $line = readline $psql_out;
    if (!defined $line || $line !~ /^\d+ / || readline($psql_out) ne "done\n") {
        kill 'KILL', $psql_pid;
        close $psql_in;
        close $psql_out;
        waitpid $psql_pid, 0;
        ($psql_in, $psql_out, $psql_pid) = ();
        return;
    }
    return { split ' ', $line };
}

sub key_of { my ($id) = @_; return $id % 3 == 0 ? "db_query:k:$id" : $id % 3 == 1 ? "db_query:t:$id" : "db_query:p:$id:x"; }

# A reader takes a lease in place of the value, before it looks into the database, and puts the value only where its lease still is: so that what is
# deleted in between is not put. A key and its place in the tag's set are made in one step.
my $lease = q(if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', 500) if KEYS[2] then redis.call('SADD', KEYS[2], KEYS[1]) end return 1);
my $put = q(if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[2]) if KEYS[2] then redis.call('SADD', KEYS[2], KEYS[1]) end return 1);

sub reader {
    my $tries = 0;
    for (;;) {
        my $done = eval {
            my $client = $redis->client;
            for (;;) {
                my @ids = map { some_row() } 1 .. 10;
                my %leased;
                for my $id (@ids) {
                    my @keys = (key_of($id), $id % 3 == 1 ? "tag:item$id" : ());
                    my $token = "lease:$$:" . ++$tries;
                    my $done = eval { $client->do('EVAL', $lease, scalar @keys, @keys, $token) };
                    die $@ if !defined $done && $@ !~ /OOM|READONLY|LOADING|MISCONF/;
                    $leased{$id} = $token if $done;
                }
                sleep 0.01 if !%leased;
                my $versions = %leased ? versions(keys %leased) : {};
                last if !$versions;
                sleep rand 0.02;
                for my $id (keys %leased) {
                    my @keys = (key_of($id), $id % 3 == 1 ? "tag:item$id" : ());
                    my $done = eval { $client->do('EVAL', $put, scalar @keys, @keys, $leased{$id}, $versions->{$id}) };
                    die $@ if !defined $done && $@ !~ /OOM|READONLY|LOADING|MISCONF/;
                }
            }
            1;
        };
        sleep 0.02;
    }
}

# Follows the stream with copies of its own: forgets what a message names, and everything where a number is missing. Tells its findings
# when it finds "report" in Redis.
sub follower {
    my %copy;
    my ($after, $number, %count) = ('$', 0);
        for (;;) {
        eval {
            my $client = $redis->client;
            if ($after eq '$') {
                my $last = $client->do('XREVRANGE', 'cache_ext:stream', '+', '-', 'COUNT', 1);
                $after = @$last ? $last->[0][0] : '0-0';
                ($number) = @$last ? $last->[0][1][1] =~ /"sequence": (\d+)/ : 0;
            }
            for (;;) {
                my $versions = versions(map { some_row() } 1 .. 5);
                @copy{ keys %$versions } = values %$versions if $versions;
                for (;;) {
                    my $got = $client->do('XREAD', 'COUNT', 1000, 'STREAMS', 'cache_ext:stream', $after);
                    last if !$got;
                    for my $message (@{ $got->[0][1] }) {
                        $after = $message->[0];
                        my $json = $message->[1][1];
                        my ($sequence) = $json =~ /"sequence": (\d+)/;
                        $count{messages}++;
                        # Where Redis has lost its newest messages, their numbers may come again: that is no gap that a follower need not see.
                        $count{back}++ if $sequence <= $number;
                        if ($sequence != $number + 1 || $json =~ /"all": true/) {
                            $count{ $json =~ /"all": true/ ? 'everything' : 'gaps' }++;
                            %copy = ();
                        }
                        $number = $sequence;
                        delete $copy{$_} for $json =~ /"(?:db_query:k:|item|db_query:p:)(\d+)/g;
                    }
                }
                if (my $asked = $client->do('GET', 'report')) {
                    my $text = join "\n", (map { "count $_ $count{$_}" } sort keys %count), (map { "copy $_ $copy{$_}" } sort keys %copy);
                    $client->do('DEL', 'report');
                    $client->do('SET', 'reported', $text);
                }
                sleep 0.01;
            }
        };
        print STDERR "follower: $@" if $@;
        sleep 0.02;
    }
}

# --- the faults ----------------------------------------------------------------------------------------------

my %done;
my $pushers = q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'cache_ext pusher');
# Where the server is not there psql ends before it was told what to do, of which IPC::Run may die.
sub quiet_psql { my ($sql) = @_; my $out; eval { $node->psql('postgres', $sql, stdout => \$out, stderr => \my $error, on_error_stop => 0) }; return $out // ''; }
sub until_there { for (1 .. 3000) { return if quiet_psql('SELECT true') eq 't'; sleep 0.05; } die 'the server does not come back'; }

my %fault = (
    'the sender terminated' => sub { quiet_psql("SELECT pg_terminate_backend(pid) FROM ($pushers) p") },
    'the sender killed' => sub { my $pid = quiet_psql($pushers); kill 'KILL', $pid if $pid =~ /^\d+$/; until_there() },
    'the server stopped at once' => sub { $node->stop('immediate'); $node->start; },
    'Redis killed, its data lost' => sub { $redis->stop('KILL'); $redis->forget; sleep rand 0.3; $redis->start; },
    'Redis killed, an older state restored' => sub {
        eval { $redis->do('SAVE') };
        sleep rand 1;
        $redis->stop('KILL');
        $redis->start;
    },
    'Redis stopped as it should be, its data kept' => sub { eval { $redis->do('SAVE') }; $redis->stop; sleep rand 0.3; $redis->start; },
    'Redis held by SIGSTOP' => sub { $redis->signal('STOP'); sleep rand 0.6; $redis->signal('CONT'); },
    'Redis full' => sub {
        eval { $redis->do('CONFIG', 'SET', 'maxmemory', '1mb') };
        sleep rand 0.6;
        eval { $redis->do('CONFIG', 'SET', 'maxmemory', '24mb') };
    },
    'Redis read-only' => sub {
        eval { $redis->do('REPLICAOF', '127.0.0.1', '1') };
        sleep rand 0.6;
        eval { $redis->do('REPLICAOF', 'NO', 'ONE') };
    },
    'Redis emptied' => sub { eval { $redis->do('FLUSHALL') } },
    'connections cut' => sub { for (1 .. 5) { $redis->proxy('cut'); sleep rand 0.1; } },
    'connections cut, for writes at their start' => sub { for (1 .. 20) { $redis->proxy('cut'); sleep rand 0.005; } },
    'connections held' => sub { $redis->proxy('hold'); sleep rand 0.6; $redis->proxy('pass'); },
    'connections slow' => sub { $redis->proxy('slow'); sleep rand 0.6; $redis->proxy('pass'); },
    'connections crumbling' => sub { $redis->proxy('crumble'); sleep rand 0.3; $redis->proxy('pass'); },
    'answers garbled' => sub { for (1 .. 5) { $redis->proxy('garble'); sleep rand 0.1; } },
    'clients killed by Redis' => sub { eval { $redis->do('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') } },
);

process(\&writer);
process(\&reader) for 1 .. 2;
process(\&follower);

# Each kind as often as the others; they come two at a time now and then.
my @kinds = $ENV{CACHE_EXT_FAULT} ? grep { /$ENV{CACHE_EXT_FAULT}/ } sort keys %fault : sort keys %fault;
my @next;
my $started = time;
for (1 .. $faults) {
    @next = sort { rand() <=> 0.5 } @kinds if !@next;
    my $kind = shift @next;
    $done{$kind}++;
    $fault{$kind}->();
    sleep rand 0.5;
}
note sprintf '%d faults in %.0f s', $faults, time - $started;

# --- and when all is quiet -----------------------------------------------------------------------------------

$redis->proxy('pass');
kill 'TERM', $processes[0];
waitpid $processes[0], 0;
my $quiet = q(SELECT state = 'up' AND backlog_rows = 0 AND (SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'pgbench') FROM cache_redis_status);
ok($node->poll_query_until('postgres', $quiet), 'when all is well again everything is sent') or diag($node->safe_psql('postgres', 'SELECT * FROM cache_redis_status', extra_params => ['-x']));
# The last that was sent may have been that everything goes. The readers replace no copy that is there.
becomes_true(sub { @{ $redis->do('KEYS', 'db_query:*') } >= 100 });
kill 'TERM', @processes[ 1 .. 2 ];
waitpid $_, 0 for @processes[ 1 .. 2 ];

my %truth = split /[|\n]/, $node->safe_psql('postgres', 'SELECT id, version FROM item');
my $changes = 0;
$changes += $_ - 1 for values %truth;
my $client = $redis->client;
my ($copies, @stale) = (0);
for my $id (sort { $a <=> $b } keys %truth) {
    my $value = $client->do('GET', key_of($id));
    next if !defined $value || $value =~ /^lease/;
    $copies++;
    push @stale, "row $id: $value in Redis, $truth{$id} in the database" if $value < $truth{$id};
}
is(join("\n", @stale), '', 'no copy in Redis is older than its row');
cmp_ok($copies, '>', 20, 'there are copies');
cmp_ok($changes, '>', 10 * $faults, 'and there were changes');
my @orphans = grep { my $id = $_; my $value = $client->do('GET', key_of($id)); defined $value && !$client->do('SISMEMBER', "tag:item$id", key_of($id)) } grep { $_ % 3 == 1 } keys %truth;
is("@orphans", '', 'no copy is in Redis that its tag does not lead to');

sleep 0.1;
$client->do('DEL', 'reported');
$client->do('SET', 'report', 'now');
my $report;
becomes_true(sub { defined($report = $client->do('GET', 'reported')) });
my %copy = ($report // '') =~ /^copy (\d+) (\d+)$/mg;
my %count = ($report // '') =~ /^count (\w+) (\d+)$/mg;
# What it had not acknowledged is said again, with the same number.
my $went_back = 0;
$went_back += $done{$_} // 0 for 'Redis killed, an older state restored', 'Redis killed, its data lost';
cmp_ok($count{back} // 0, '<=', $went_back, 'the numbers in the stream go up, unless Redis went back');
is(join(' ', grep { $copy{$_} < $truth{$_} } sort { $a <=> $b } keys %copy), '', 'whoever follows the stream has missed nothing');
cmp_ok(scalar(keys %copy), '>', 5, 'and has copies of its own');
cmp_ok($count{messages} // 0, '>', 2 * $faults, 'by messages');
note join ', ', map { "$_ $count{$_}" } sort keys %count;
note join "\n", map { "$done{$_} times $_" } sort keys %done;
note sprintf '%d changes, %d copies', $changes, $copies;
kill 'KILL', $processes[3];
waitpid $processes[3], 0;

# What the server said is about Redis or about the faults.
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP|signal 11|signal 6/, 'the server did not crash by itself');
is(join("\n", grep { /(WARNING|ERROR):/ && !/terminating connection|administrator command|crash|the database system is/ } split /\n/, $log), '', 'and no session was told of any of it');

note slurp_file("$dir/stderr") if -e "$dir/stderr" && !Test::More->builder->is_passing;
$node->stop;
done_testing();
