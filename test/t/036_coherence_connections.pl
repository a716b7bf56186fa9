# Coherence in the ways in which a transaction may begin, go on and end: imported snapshots, pipelines, commits that do not wait for the disk, and commits
# that hang waiting for a standby.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_node('main', conf => "max_connections = 50\n");
install($node);
my $n = 30;
sub wrote { $n += $_[0] // 1; }
sub pid_of { return $_[0]->query_safe('SELECT pg_backend_pid()'); }
sub until_waits { $node->poll_query_until('postgres', "SELECT wait_event = '$_[1]' FROM pg_stat_activity WHERE pid = $_[0]") or die 'it does not wait'; }
sub fill_tag { return value($node, "SELECT set_cached_data('$_[0]', '1', p_cache_tags => '{$_[0]}')") eq 't' && value($node, "SELECT get_cached_data('$_[0]')") eq '1'; }
sub pgbench {
    my ($script, @options) = @_;
    my ($said, $file) = ('', PostgreSQL::Test::Utils::tempdir . '/script.sql');
    append_to_file($file, $script);
    IPC::Run::run([ 'pgbench', '-n', '-c', 1, @options, '-f', $file, '-h', $node->host, '-p', $node->port, 'postgres' ], '<', \'', '>&', \$said);
    return ($? >> 8, $said);
}

# --- snapshots that are exported and imported
{
    ok(fill($node), 'import: filled');
    my ($exporter, $importer, $writer) = map { $node->background_psql('postgres') } 1 .. 3;
    $exporter->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
    my $id = $exporter->query_safe('SELECT pg_export_snapshot()');
    is($importer->query_safe($LOOK), '30|30', 'import: a hit before');
    $node->safe_psql('postgres', 'UPDATE t SET n = n + 1 WHERE id = 1');
    wrote();
    ok(fill($node), 'import: filled with what is new');
    # The importer has seen the new state, and then goes back.
    is($importer->query_safe($LOOK), '31|31', 'import: which is served');
    $importer->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$id'");
    is($importer->query_safe($LOOK), 'miss|30', 'import: not under the older snapshot');
    is($importer->query_safe(q(SELECT (get_cached_entry('k')).cache_data IS NULL AND NOT cache_exists('k') AND get_cached_data('k') IS NULL)), 't', 'import: in no way of reading');
    is($importer->query_safe(q(SELECT get_or_set_cached_data('k', 'SELECT truth()', NULL, '{t}'))), '30', 'import: get or set computes what that snapshot sees');
    is($importer->query_safe(q(SELECT get_or_set_cached_data('sum', 'SELECT sum(n) AS sum FROM t'))), '[{"sum": 30}]', 'import: so where dependencies are found');
    my $lease = $importer->query_safe(q(SELECT lease FROM get_cached_entry('k')));
    $importer->query_safe($FILL);
    like($importer->query_safe($LOOK), qr/^(miss|30)\|30$/, 'import: its own set is its own');
    is(look($node), '31|31', 'import: others are served the newer one');
    is($exporter->query_safe($LOOK), 'miss|30', 'import: the exporter is not');
    $importer->query_safe('COMMIT');
    is(look($node), '31|31', 'import: what the older snapshot computed does not replace it');
    is(value($node, q(SELECT get_or_set_cached_data('sum', 'SELECT sum(n) AS sum FROM t'))), '[{"sum": 31}]', 'import: nor is it there where there was none');
    is($importer->query_safe($LOOK), '31|31', 'import: the same session is back in its own time');
    is(value($node, "SELECT set_cached_data('k', '30', p_cache_tags => '{t}', p_lease => '$lease')"), 'f', 'import: its lease is as old as its snapshot');

    # filled by nobody else since: what the importer leaves must not be served
    $node->safe_psql('postgres', 'UPDATE t SET n = n + 1 WHERE id = 1');
    wrote();
    $importer->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$id'");
    is($importer->query_safe($LOOK), 'miss|30', 'import: a miss');
    $importer->query_safe($FILL);
    $importer->query_safe('COMMIT');
    is(look($node), 'miss|32', 'import: its late fill is served to nobody');
    $importer->query_safe($LOOK);
    $importer->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$id'");
    $importer->query_safe($LOOK);
    $importer->query_safe('ROLLBACK');
    is($importer->query_safe(q(SELECT set_cached_data('k', '30', p_cache_tags => '{t}'))), 'f', 'import: nor a value that its transaction computed and the next one sets');
    is(look($node), 'miss|32', 'import: which nobody is served, though an earlier miss of the session was later in this sense');
    $exporter->query_safe('COMMIT');

    # of a transaction that has written
    ok(fill($node), 'import of a writer: filled');
    $writer->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; UPDATE t SET n = n + 100 WHERE id = 1');
    $id = $writer->query_safe('SELECT pg_export_snapshot()');
    $importer->query_safe("BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '$id'");
    is($importer->query_safe($LOOK), '32|32', 'import of a writer: its writes are not in its snapshot');
    is($writer->query_safe($LOOK), 'miss|132', 'import of a writer: they are its own');
    $writer->query_safe('COMMIT');
    wrote(100);
    # The entry is dead, or still right for this one; either will do.
    like($importer->query_safe($LOOK), qr/^(miss|32)\|32$/, 'import of a writer: nor when it has committed');
    ok(fill($node), 'import of a writer: filled anew');
    is($importer->query_safe($LOOK), 'miss|32', 'import of a writer: what is new is not for the snapshot');
    $importer->query_safe('COMMIT');
    is(look($node), "$n|$n", 'import of a writer: and is for all others');
    $_->quit for $exporter, $importer, $writer;
}

# --- pipelines: what is sent up to the next sync is one transaction
{
    $node->safe_psql('postgres', 'CREATE TABLE seen (id serial, what text)');
    my $see = "INSERT INTO seen (what) $LOOK;";
    my $put = q(SELECT set_cached_data('k', truth(), p_cache_tags => '{t}'););
    my $write = 'UPDATE t SET n = n + 1 WHERE id = 1;';
    my $seen = sub { value($node, q(SELECT string_agg(what, ' ' ORDER BY id) FROM seen)) };
    for my $mode (qw(extended prepared)) {
        $node->safe_psql('postgres', 'TRUNCATE seen');
        ok(fill($node), "pipeline, $mode: filled");
        my ($status, $said) = pgbench("\\startpipeline\n$see\n$write\n$see\n$put\n$see\n\\endpipeline\n$see\n", '-t', 1, '-M', $mode);
        is($status, 0, "pipeline, $mode: runs") or diag($said);
        my $old = $n;
        wrote();
        is($seen->(), "$old|$old miss|$n $n|$n $n|$n", "pipeline, $mode: reads its own writes, and what it sets");
        is(look($node), "$n|$n", "pipeline, $mode: and others do when it is over");

        # each statement with a sync of its own
        $node->safe_psql('postgres', 'TRUNCATE seen');
        ($status) = pgbench(join("\n", map { "\\startpipeline\n$_\n\\endpipeline" } $see, $write, $see, $put, $see) . "\n", '-t', 1, '-M', $mode);
        is($status, 0, "pipeline, $mode: runs with a sync after each");
        $old = $n;
        wrote();
        is($seen->(), "$old|$old miss|$n $n|$n", "pipeline, $mode: each is a transaction of its own");

        # a pipeline that fails: nothing of it has happened
        $node->safe_psql('postgres', 'TRUNCATE seen');
        ($status, $said) = pgbench("\\startpipeline\n$write\n$put\n$see\nSELECT 1 / 0;\n$put\n\\endpipeline\n", '-t', 1, '-M', $mode);
        isnt($status, 0, "pipeline, $mode: an error in it");
        like($said, qr/division by zero/, "pipeline, $mode: which is told");
        is(look($node), "$n|$n", "pipeline, $mode: leaves no trace");

        # a transaction of its own within, then a write outside
        $node->safe_psql('postgres', 'TRUNCATE seen');
        ($status) = pgbench("\\startpipeline\nBEGIN;\n$write\nSAVEPOINT a;\n$write\n$put\nROLLBACK TO SAVEPOINT a;\n$see\nCOMMIT;\n$see\n\\endpipeline\n$see\n", '-t', 1, '-M', $mode);
        is($status, 0, "pipeline, $mode: runs with a transaction in it");
        wrote();
        is($seen->(), "miss|$n miss|$n miss|$n", "pipeline, $mode: with a savepoint that is rolled back");
    }
}

# --- commits that do not wait for the disk
{
    my $writer = $node->background_psql('postgres');
    $writer->query_safe('SET synchronous_commit = off');
    my $wrong = 0;
    for my $i (1 .. 50) {
        $writer->query_safe('UPDATE t SET n = n + 1 WHERE id = 1');
        wrote();
        $wrong++ if look($node) ne "miss|$n";
        $wrong++ if $writer->query_safe($FILL) ne 't' || look($node) ne "$n|$n";
    }
    is($wrong, 0, 'synchronous_commit = off: an invalidation counts from the commit on, a fill too');
    ok(fill($node), 'synchronous_commit = off: filled');
    $writer->query_safe('BEGIN; UPDATE t SET n = n + 1 WHERE id = 1; COMMIT');
    $node->stop('immediate');
    $node->start;
    eval { $writer->quit };
    # The commit may be lost in the crash; what was cached is in any case.
    my $look = look($node);
    like($look, qr/^miss\|\d+$/, 'synchronous_commit = off: after a crash that may have lost a commit nothing is served');
    ($n) = $look =~ /(\d+)$/;
    ok(fill($node) && look($node) eq "$n|$n", 'synchronous_commit = off: and the cache works');
}

# --- a commit that hangs, waiting for a standby that does not come: it is written down, and not visible
sub hang {
    my ($standby) = @_;
    $node->append_conf('postgresql.conf', "synchronous_standby_names = '$standby'");
    $node->reload;
    $node->poll_query_until('postgres', "SELECT current_setting('synchronous_standby_names') = '$standby'") or die;
}
{
    local $ENV{PGOPTIONS} = '-c synchronous_commit=local';
    for my $end (qw(released ended)) {
        ok(fill($node) && fill_tag('w'), "hanging commit, $end: filled");
        my $old = $node->background_psql('postgres');
        $old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
        is($old->query_safe($LOOK), "$n|$n", "hanging commit, $end: an old snapshot hits");
        hang('nobody');
        my @writers = map { $node->background_psql('postgres', on_error_stop => 0) } 1, 2;
        my @pids = map { pid_of($_) } @writers;
        $writers[0]->query_until(qr/^/, "SET synchronous_commit = on; UPDATE t SET n = n + 100 WHERE id = 1;\n");
        $writers[1]->query_until(qr/^/, "SET synchronous_commit = on; UPDATE t SET n = n + 1000 WHERE id = 2;\n");
        until_waits($_, 'SyncRep') for @pids;

        # Nobody sees it, in the table or in the cache.
        my $session = $node->background_psql('postgres');
        my ($served, $filled, $refilled, $wrong, $rounds) = (0, 0, 0, 0, 100);
        for my $i (1 .. $rounds) {
            $wrong++ if $session->query_safe($LOOK) ne "miss|$n";
            $session->query_safe($FILL);
            $wrong++ if $old->query_safe($LOOK) !~ /^(miss|$n)\|$n$/;
            # tags that nobody invalidates: what was cached is served, what was not is filled
            $served++ if $session->query_safe(q(SELECT get_cached_data('w'))) eq '1';
            $filled++ if $session->query_safe("SELECT set_cached_data('u$i', '$i', p_cache_tags => '{u$i}')") eq 't'
              && $session->query_safe("SELECT get_cached_data('u$i')") eq $i;
            # tags that others invalidate, in transactions that do not hang
            $session->query_safe(q(SELECT invalidate_cache_by_tags('{v}')));
            my $accepted = $session->query_safe("SELECT set_cached_data('v', '$i', p_cache_tags => '{v}')");
            my $got = $session->query_safe(q(SELECT coalesce(get_cached_data('v')::text, 'miss')));
            $refilled++ if $got eq $i;
            $wrong++ if $got ne $i && $got ne 'miss';
        }
        is($wrong, 0, "hanging commit, $end: neither its effect nor anything stale is served");
        is($served, $rounds, "hanging commit, $end: tags that nobody invalidates are served as before");
        # But for one that by chance shares a cell of the table of tags with what was invalidated.
        cmp_ok($filled, '>=', $rounds - 3, "hanging commit, $end: and filled");
        note("hanging commit: of what others invalidated meanwhile, $refilled of $rounds fills were served");
        many($node, 1500, 'v');
        is($session->query_safe(q(SELECT get_cached_data('w'))), '1', "hanging commit, $end: also after many others");
        ok(fill_tag('x'), "hanging commit, $end: and filled");

        my $since = time;
        if ($end eq 'released') {
            hang('');
        } else {
            value($node, "SELECT pg_terminate_backend($_)") for @pids;
        }
        $node->poll_query_until('postgres', "SELECT truth() = '" . ($n + 1100) . "'") or die 'they do not end';
        wrote(1100);
        is($session->query_safe($LOOK), "miss|$n", "hanging commit, $end: visible, and nothing old is served");
        like($old->query_safe($LOOK), qr/^miss\|/, "hanging commit, $end: an old snapshot misses");
        ok(fill($node), "hanging commit, $end: filled");
        is($session->query_safe($LOOK), "$n|$n", "hanging commit, $end: and served");
        like($old->query_safe($LOOK), qr/^miss\|/, "hanging commit, $end: not to an old snapshot");
        ok(fill_tag('v'), "hanging commit, $end: so is what others invalidated meanwhile");
        note(sprintf 'all of it %.2f s after the release', time - $since);
        $old->query_safe('COMMIT');
        is($old->query_safe($LOOK), "$n|$n", "hanging commit, $end: whose next transaction hits");
        hang('');
        eval { $_->quit } for @writers, $session, $old;
    }
}

# --- the randomized checker where no commit waits for the disk
{
    my $said;
    local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'postgres', PGOPTIONS => '-c synchronous_commit=off', CHECKER_SECONDS => 5);
    IPC::Run::run([ "$FindBin::RealBin/../checker/run" ], '<', \'', '>&', \$said);
    is($? >> 8, 0, 'synchronous_commit = off: the randomized checker finds no violation') or diag($said);
}

$node->stop;
done_testing();
