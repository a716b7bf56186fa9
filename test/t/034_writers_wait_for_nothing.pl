# It takes nothing from the writer: sixteen sessions write disjoint rows of the same watched tables in opposite orders, with many tags in
# opposite orders, beside readers that fill what they invalidate. No deadlock, no error, no lock and no wait that the same load has not without the triggers.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = 6;
my $writers = 16;
my $node = new_node('main', conf => <<'CONF');
max_connections = 40
fsync = off
shared_buffers = 64MB
deadlock_timeout = 10ms
log_lock_waits = on
log_line_prefix = '%a: '
CONF

# Four tables, forty rows for each writer in each. The groups are shared by all, so the tags are too.
my $tables = '';
for my $n (1 .. 4) {
    $tables .= <<"SQL";
CREATE TABLE w$n (id int PRIMARY KEY, owner int NOT NULL, grp int NOT NULL, n bigint NOT NULL) WITH (fillfactor = 50);
INSERT INTO w$n SELECT i, i / 40, i % 20, i FROM generate_series(0, 40 * $writers - 1) i;
SQL
}
my $triggers = '';
for my $n (1 .. 4) {
    $triggers .= <<"SQL";
CREATE TRIGGER a_row AFTER INSERT OR UPDATE OR DELETE ON w$n
    FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation('w$n:{grp}', 'group:{grp}');
CREATE TRIGGER b_statement AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON w$n
    FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('w$n', 'all');
CREATE TRIGGER c_transition AFTER UPDATE ON w$n REFERENCING OLD TABLE AS old NEW TABLE AS new
    FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('bulk:{grp}');
SQL
}
$node->safe_psql('postgres', "CREATE EXTENSION cache_ext; $tables");

my $dir = PostgreSQL::Test::Utils::tempdir;
sub script { my ($name, $text) = @_; append_to_file("$dir/$name", $text); return "$dir/$name"; }

# Whoever has an even number goes through the tables and the groups upwards, the others downwards.
my $write = script('write.sql', <<'SQL');
\set down :client_id % 2
\set from random(0, 19)
\set end random(1, 5)
BEGIN;
\if :down = 1
UPDATE w4 SET n = n + 1 WHERE owner = :client_id AND grp >= :from;
UPDATE w3 SET n = n + 1 WHERE id = :client_id * 40 + 39 - :from;
SAVEPOINT a;
UPDATE w3 SET n = n + 1 WHERE id = :client_id * 40 + :from;
UPDATE w2 SET n = n + 1 WHERE owner = :client_id AND grp < :from;
RELEASE SAVEPOINT a;
UPDATE w1 SET n = n + 1 WHERE owner = :client_id;
\else
UPDATE w1 SET n = n + 1 WHERE owner = :client_id;
UPDATE w2 SET n = n + 1 WHERE owner = :client_id AND grp < :from;
SAVEPOINT a;
UPDATE w3 SET n = n + 1 WHERE id = :client_id * 40 + :from;
UPDATE w3 SET n = n + 1 WHERE id = :client_id * 40 + 39 - :from;
RELEASE SAVEPOINT a;
UPDATE w4 SET n = n + 1 WHERE owner = :client_id AND grp >= :from;
\endif
\if :calls = 1
\if :down = 1
SELECT invalidate_cache_by_tags(ARRAY(SELECT 'group:' || g FROM generate_series(19, 0, -1) g));
SELECT invalidate_cache_key('k' || g) FROM generate_series(19, 0, -1) g;
\else
SELECT invalidate_cache_by_tags(ARRAY(SELECT 'group:' || g FROM generate_series(0, 19) g));
SELECT invalidate_cache_key('k' || g) FROM generate_series(0, 19) g;
\endif
\if :from = 0
SELECT invalidate_cache_by_pattern('w1*');
\endif
SELECT set_cached_data('w1:' || :from, to_jsonb((SELECT sum(n) FROM w1 WHERE grp = :from)), p_cache_tags => ARRAY['w1:' || :from, 'group:' || :from, 'all']);
\endif
\if :end = 1
ROLLBACK;
\else
COMMIT;
\endif
SQL
my $read = script('read.sql', <<'SQL');
\set g random(0, 19)
\set t random(1, 4)
SELECT get_or_set_cached_data('tracked:' || :t || ':' || :g, 'SELECT sum(n) FROM w' || :t || ' WHERE grp = $1', p_params => jsonb_build_array(:g));
SELECT get_or_set_cached_data('w' || :t || ':' || :g, 'SELECT sum(n) FROM w' || :t || ' WHERE grp = $1', NULL,
    ARRAY['w' || :t || ':' || :g, 'bulk:' || :g, 'group:' || :g, 'w' || :t, 'all'], jsonb_build_array(:g));
SQL

# Looks at the writers' locks and waits again and again.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE sample (what text, n bigint);
CREATE PROCEDURE sample(until timestamptz) LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMP TABLE seen (what text);
    WHILE clock_timestamp() < until LOOP
        PERFORM pg_stat_clear_snapshot();
        INSERT INTO seen
            SELECT 'rounds' UNION ALL
            SELECT DISTINCT concat_ws(' ', 'lock', l.locktype, l.mode, CASE WHEN l.granted THEN 'granted' ELSE 'waiting' END,
                CASE WHEN l.locktype IN ('relation', 'extend') THEN coalesce(l.relation::regclass::text, l.relation::text) END)
            FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'writer'
                -- A session that is just connecting holds its database.
                AND NOT (l.locktype = 'object' AND l.classid = 'pg_database'::regclass)
            UNION ALL
            SELECT coalesce('wait ' || wait_event_type || ' ' || wait_event, 'wait none') FROM pg_stat_activity
            WHERE application_name = 'writer' AND state = 'active';
        PERFORM pg_sleep(0.002);
    END LOOP;
    TRUNCATE sample;
    INSERT INTO sample SELECT what, count(*) FROM seen GROUP BY what;
    DROP TABLE seen;
END $$;
SQL

# Runs the load, and samples it meanwhile. Returns what was seen.
sub load {
    my ($with) = @_;
    my $at = -s $node->logfile;
    my %seen = (locks => {}, waits => {}, samples => 0);
    my ($deadlocks) = $node->safe_psql('postgres', q(SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'));
    my ($writer_said, $reader_said) = ('', '');
    my @common = ('-n', '-M', 'simple', '-T', $seconds, '-h', $node->host, '-p', $node->port, 'postgres');
    local $ENV{PGAPPNAME} = 'writer';
    my $writing = IPC::Run::start([ 'pgbench', '-c', $writers, '-j', 4, '-D', "calls=$with", '-f', $write, @common ], '<', \'', '>&', \$writer_said);
    $ENV{PGAPPNAME} = 'reader';
    my $reading = IPC::Run::start([ 'pgbench', '-c', 3, '-j', 1, '-f', $read, @common ], '<', \'', '>&', \$reader_said);
    $ENV{PGAPPNAME} = 'sampler';
    $node->safe_psql('postgres', "CALL sample(clock_timestamp() + interval '$seconds seconds')");
    for my $line (split /\n/, $node->safe_psql('postgres', 'SELECT what, n FROM sample')) {
        my ($kind, $what, $n) = $line =~ /^(lock|wait|rounds) ?(.*)\|(\d+)$/;
        $seen{rounds} = $n if $kind eq 'rounds';
        $seen{ $kind . 's' }{$what} = $n if $kind ne 'rounds';
        $seen{samples} += $n if $kind eq 'wait';
    }
    $writing->finish;
    $reading->finish;
    $seen{writer_status} = $writing->result(0);
    $seen{reader_status} = $reading->result(0);
    $seen{said} = $writer_said . $reader_said;
    ($seen{transactions}) = $writer_said =~ /transactions actually processed: (\d+)/;
    $seen{deadlocks} = $node->safe_psql('postgres', q(SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres')) - $deadlocks;
    $seen{log} = slurp_file($node->logfile, $at);
    return \%seen;
}

my $without = load(0);
$node->safe_psql('postgres', $triggers);
my $with = load(1);

is($with->{writer_status} . $with->{reader_status}, '00', 'no session had an error') or diag($with->{said});
unlike($with->{log}, qr/ERROR|FATAL|PANIC|WARNING/, 'nor was one logged');
cmp_ok($with->{transactions}, '>', 500, 'the writers came to something');
cmp_ok($node->safe_psql('postgres', q(SELECT hits > 100 AND sets > 100 AND invalidations > 1000 FROM get_cache_metrics())), 'eq', 't', 'and so did the cache')
  or diag($node->safe_psql('postgres', 'SELECT get_cache_stats()'));
is($with->{deadlocks}, 0, 'no deadlock');

# Locks: nothing that is not taken without the triggers too.
my $extension = q(SELECT objid::regclass FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND classid = 'pg_class'::regclass AND deptype = 'e');
my %own = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', $extension);
cmp_ok(scalar(keys %own), '>', 0, 'the extension has relations');
my @locks = sort keys %{ $with->{locks} };
cmp_ok(scalar(grep { /^transactionid/ } @locks), '>', 0, 'locks were sampled');
is(join("\n", grep { / waiting/ && !/^extend / } @locks), '', 'no writer waited for a heavyweight lock');
is(join("\n", grep { !/^(relation|transactionid|virtualxid|extend) / } @locks), '', 'none took one of another kind than a writer takes');
# A session looks up whose entries it uses as it would in a catalog: once, with the lock of a reader, which it gives back at once.
is(join("\n", grep { my ($relation) = /^relation .* (\S+)$/; $relation && $own{$relation} && !(/^relation AccessShareLock granted / && $with->{locks}{$_} < 3 + $with->{rounds} / 100) } @locks),
    '', 'nor one on what is the extension\'s, but for a moment at the beginning');
my %without = map { $_ => 1 } keys %{ $without->{locks} };
# What is planned or looked up anew now and then takes short locks on catalogs; the modes on tables are the writers' own.
is(join("\n", grep { /^relation / && !$without{$_} && !/AccessShareLock/ } @locks), '', 'nor a stronger one on any table than without the triggers');
note(join "\n", 'locks seen with the triggers only:', grep { !$without{$_} } @locks);
is(() = $with->{log} =~ /^writer: .*still waiting for (?!ExclusiveLock on extension)/gm, 0, 'nor did the server log a wait') or diag($with->{log});

# Waits: of an event that the extension could have made, below one sample in a hundred.
for my $seen ($without, $with) {
    note(sprintf '%s the triggers: %d transactions, %d rounds, %d samples of active writers: %s', $seen == $with ? 'with' : 'without', $seen->{transactions}, $seen->{rounds}, $seen->{samples},
        join ', ', map { sprintf '%s %.1f%%', $_, 100 * $seen->{waits}{$_} / $seen->{samples} } sort { $seen->{waits}{$b} <=> $seen->{waits}{$a} } keys %{ $seen->{waits} });
}
cmp_ok($with->{samples}, '>', 200, 'writers were sampled');
# Those of the server's own for its pages and its log grow with what a transaction does; these are what an extension waits by.
my @waits = grep { /^(Extension|Lock|BufferPin|Timeout|Activity) |AddinShmem|cache_ext|DynamicSharedMemory|DSM/i && $_ ne 'Lock extend' } sort keys %{ $with->{waits} };
is(join("\n", grep { $with->{waits}{$_} > $with->{samples} / 100 } @waits), '', 'and waited for nothing of the extension\'s');

$node->stop;
done_testing();
