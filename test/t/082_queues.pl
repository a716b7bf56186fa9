# Queues: under a snapshot that is held they stay small and fast; each item is taken once whatever ends in a rollback or a crash, while tables change and items are moved.
use strict;
use warnings FATAL => 'all';
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

sub node {
    my ($name, $conf) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init;
    $node->append_conf('postgresql.conf', "$conf\nlog_statement = none\nautovacuum = off\nsynchronous_commit = off\nmax_prepared_transactions = 5\nrestart_after_crash = on");
    $node->start;
    $node->safe_psql('postgres', 'CREATE EXTENSION cache_ext');
    return $node;
}

# A transaction that holds a snapshot until `release`.
sub hold {
    my ($node, $what) = @_;
    my ($in, $out, $err) = ('', '', '');
    my $h = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', "BEGIN ISOLATION LEVEL REPEATABLE READ; $what SELECT pg_sleep(3600)" ], \$in, \$out, \$err);
    $node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND pid <> pg_backend_pid() AND wait_event = 'PgSleep'));
    return $h;
}

sub release {
    my ($node, $h) = @_;
    $node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)%' AND pid <> pg_backend_pid()));
    $h->finish;
}

my $size = q(SELECT sum(pg_total_relation_size(c)) FROM unnest(ARRAY['0', '1', '2']) AS n, LATERAL CAST('cache_ext_internal.queue_items_' || n AS regclass) AS c);
my $moves = 'SELECT last_value / 4 FROM cache_ext_internal.queue_state';

# Seconds that so many items take to go through, one by one.
sub pass_through {
    my ($node, $count) = @_;
    my $begin = time;
    $node->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1..$count LOOP PERFORM enqueue('q', '{\"do\": \"something that takes a few words to say\"}'); COMMIT;
        IF dequeue('q') IS NULL THEN RAISE 'nothing there'; END IF; COMMIT; END LOOP; END \$\$");
    return time - $begin;
}

for my $preload (1, 0) {
    my $node = node($preload ? 'main' : 'plain', $preload ? "shared_preload_libraries = 'cache_ext'" : '');
    my $as = $preload ? 'preloaded' : 'not preloaded';

    # --- 250,000 items pass one by one under a held snapshot; the transaction that holds it has written, too
    my $h = hold($node, 'CREATE TABLE held(); ');
    my $first = pass_through($node, 10_000);
    # Some that nobody takes are in the way, in one table after the other.
    for my $i (1 .. 8) {
        $node->safe_psql('postgres', "SELECT count(enqueue('stuck', to_jsonb(i))) FROM generate_series($i * 10 - 9, $i * 10) i");
        pass_through($node, 10_000);
    }
    pass_through($node, 50_000) for 1 .. 3;
    my $last = pass_through($node, 10_000);
    # What else runs on the machine may slow them down now and then; what has been left behind would each time.
    for (1 .. 5) {
        last if $last < 5 * $first + 1;
        my $once_more = pass_through($node, 10_000);
        $last = $once_more if $once_more < $last;
    }
    cmp_ok($last, '<', 5 * $first + 1, "$as: the last of 250,000 items are as fast as the first");
    note("first 10,000: $first s, last: $last s, size: " . $node->safe_psql('postgres', $size));
    # As much as three tables take before they are left, and what is added until the worker has come; all that went through would be more than 45 MB.
    ok($node->poll_query_until('postgres', "SELECT ($size) < 30000000"), "$as: and leave little behind");
    cmp_ok($node->safe_psql('postgres', $moves), '>', 0, "$as: what nobody takes is moved out of the way");

    # --- a backlog goes likewise: who takes does not look at what is gone, again and again
    my $begin = time;
    $node->safe_psql('postgres', q(DO $$ BEGIN FOR i IN 1..100 LOOP PERFORM count(enqueue('b', to_jsonb(n))) FROM generate_series(1, 500) n; COMMIT; END LOOP;
        FOR i IN 1..50000 LOOP IF dequeue('b') IS NULL THEN RAISE 'nothing there'; END IF; COMMIT; END LOOP; END $$));
    cmp_ok(time - $begin, '<', 60, "$as: a backlog of 50,000 items is taken one by one");
    note('backlog: ' . (time - $begin) . ' s');
    is($node->safe_psql('postgres', q(SELECT queue_length('b'), queue_length('q'), queue_length('stuck'))), '0|0|80', "$as: nothing is left of what was taken, and all of the rest");
    release($node, $h);
    is($node->safe_psql('postgres', q(SELECT string_agg(dequeue('stuck')::text, ',') FROM generate_series(1, 80)) . q( i)), join(',', 1 .. 80), "$as: in its order, wherever it was moved");

    # --- many at once, with rollbacks and a crash
    $node->safe_psql('postgres', 'CREATE SEQUENCE number; CREATE TABLE added (n bigint); CREATE TABLE taken (n bigint); SET synchronous_commit = on;
        CREATE FUNCTION add(boolean) RETURNS void LANGUAGE plpgsql AS $$ DECLARE m bigint := nextval($q$number$q$); BEGIN
            INSERT INTO added VALUES (m); PERFORM enqueue($q$w$q$, jsonb_build_object($q$n$q$, m, $q$filler$q$, repeat($q$x$q$, 500)));
            IF NOT $1 THEN RAISE EXCEPTION USING ERRCODE = $q$P0001$q$, MESSAGE = $q$rollback$q$; END IF; EXCEPTION WHEN raise_exception THEN NULL; END $$;
        CREATE FUNCTION take(boolean) RETURNS void LANGUAGE plpgsql AS $$ DECLARE d jsonb; BEGIN d := dequeue($q$w$q$);
            IF d IS NOT NULL THEN INSERT INTO taken VALUES ((d ->> $q$n$q$)::bigint); END IF;
            IF NOT $1 THEN RAISE EXCEPTION USING ERRCODE = $q$P0001$q$, MESSAGE = $q$rollback$q$; END IF; EXCEPTION WHEN raise_exception THEN NULL; END $$');
    my $dir = PostgreSQL::Test::Utils::tempdir();
    append_to_file("$dir/add", "SELECT add(random() < 0.8);\n");
    append_to_file("$dir/take", "BEGIN;\nSELECT take(random() < 0.8);\nSELECT take(random() < 0.8);\n\\set end random(1, 10)\n\\if :end > 3\nCOMMIT;\n\\else\nROLLBACK;\n\\endif\n");
    my @bench = ('pgbench', '-n', '-c', 6, '-j', 2, '-f', "$dir/add\@2", '-f', "$dir/take\@1", '-h', $node->host, '-p', $node->port);
    $h = hold($node, '');
    IPC::Run::run([ @bench, '-t', 2000, 'postgres' ], '>', \my $out, '2>', \my $err);
    like($out, qr/number of transactions actually processed: 12000/, "$as: nobody gets an error") or diag($err);
    is($err =~ s/^pgbench \(\d.*\n//r, '', "$as: nor a warning");
    release($node, $h);
    my $run = IPC::Run::start([ @bench, '-T', 30, 'postgres' ], '>', "$dir/out", '2>', "$dir/err");
    my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM added');
    $node->poll_query_until('postgres', "SELECT count(*) > $before + 2000 FROM added");
    $node->stop('immediate');
    $run->finish;
    $node->start;
    $node->safe_psql('postgres', q(DO $$ DECLARE d jsonb; BEGIN LOOP d := dequeue('w'); EXIT WHEN d IS NULL; INSERT INTO taken VALUES ((d ->> 'n')::bigint); END LOOP; END $$));
    is($node->safe_psql('postgres', q(SELECT (SELECT count(*) > 1000 FROM taken), (SELECT count(*) FROM (TABLE added EXCEPT ALL TABLE taken) x), (SELECT count(*) FROM (TABLE taken EXCEPT ALL TABLE added) x))),
        't|0|0', "$as: what was added and committed was taken once, across a crash");
    is($node->safe_psql('postgres', q(SELECT queue_length('w'))), '0', "$as: and is gone");

    if ($preload) {
        # --- a dump has the items
        $node->safe_psql('postgres', q(SELECT enqueue('d', '"first"'), enqueue('d', '"second"')));
        $node->safe_psql('postgres', 'CREATE DATABASE copy');
        my ($dump) = run_command([ 'pg_dump', '-d', $node->connstr('postgres') ]);
        append_to_file("$dir/dump", $dump);
        $node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', "$dir/dump" ], 'a dump can be restored');
        is($node->safe_psql('copy', q(SELECT enqueue('d', '"third"') > 0, dequeue('d'), dequeue('d'), dequeue('d'))), 't|"first"|"second"|"third"', 'with the items, and new ones come after them');
    }
    $node->stop;
    unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, "$as: nothing crashed by itself");
}

done_testing();
