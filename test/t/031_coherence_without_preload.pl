# The same promises where the library is not preloaded: the first session makes the shared memory, and who never used the cache tells it all the same.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', no_preload => 1, conf => "max_connections = 20\n");
install($node);

is(look($node), 'miss|30', 'empty at first');
# The first fill may wait for transactions that were under way when the memory was made.
ok(fill($node) && look($node) eq '30|30', 'filled');
my $fresh = $node->background_psql('postgres');
$fresh->query_safe('UPDATE t SET n = n + 1 WHERE id = 1');
is(look($node), 'miss|31', 'a session that never used the cache invalidates');
ok(fill($node), 'filled again');
$fresh->query_safe('BEGIN; UPDATE t SET n = n + 1 WHERE id = 1');
is(look($node), '31|31', 'not before it commits');
is($fresh->query_safe($LOOK), 'miss|32', 'but for itself');
$fresh->query_safe('ROLLBACK');
is(look($node), '31|31', 'and not when it rolls back');

my $old = $node->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($old->query_safe($LOOK), '31|31', 'an old snapshot hits');
$fresh->query_safe('UPDATE t SET n = n + 1 WHERE id = 1');
ok(fill($node), 'filled with what is new');
is($old->query_safe($LOOK), 'miss|31', 'which the old snapshot does not get');
$_->quit for $old, $fresh;

my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe('BEGIN; UPDATE t SET n = n + 100 WHERE id = 1');
kill 'KILL', $pid;
eval { $session->quit };
$node->poll_query_until('postgres', 'SELECT true');
is(look($node), 'miss|32', 'empty after a crash');
ok(fill($node) && look($node) eq '32|32', 'and filled again');

# --- many at once make the extension, and the memory
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE fresh');
my @runs;
for my $i (1 .. 12) {
    my ($out, $err) = ('', '');
    push @runs, { out => \$out, err => \$err, handle => IPC::Run::start(
        [ 'psql', '-XqAt', '-d', $node->connstr('fresh'), '-c', 'CREATE EXTENSION IF NOT EXISTS cache_ext',
            '-c', "SELECT set_cached_data('k$i', '1')", '-c', "SELECT get_cached_data('k$i')" ], '<', \'', '>', \$out, '2>', \$err) };
}
my ($created, $errors) = (0, '');
for my $run (@runs) {
    $run->{handle}->finish;
    $created++ if ${ $run->{out} } eq "t\n1\n";
    # Losing the race for the extension's name is the server's own error.
    $errors .= ${ $run->{err} } =~ s/^(NOTICE:.*|ERROR:  (duplicate key value|extension "cache_ext" already exists|schema "cache_ext_internal" already exists|function "?cache_ext.*|function .* already exists).*|DETAIL:.*)\n//mgr;
}
note("$created of 12 sessions had both at once");
cmp_ok($created, '>=', 1, 'at least one session created the extension and used it');
unlike($errors, qr/PANIC|FATAL|server closed|crash/i, 'none was ended by it');
is(value($node, q(SELECT count(*) FROM pg_extension WHERE extname = 'cache_ext'), 'fresh'), '1', 'there is one extension');
is(value($node, q(SELECT set_cached_data('k', '1')), 'fresh'), 't', 'and it works');
is(value($node, q(SELECT get_cached_data('k')), 'fresh'), '1', 'for everybody');

# --- as many sessions as the server takes
my @sessions;
while (@sessions < 16) {
    push @sessions, $node->background_psql('fresh');
    my $i = @sessions;
    $sessions[-1]->query_safe("SELECT set_cached_data('s$i', '$i', p_cache_tags => '{s}')");
}
is(join(',', map { $sessions[0]->query_safe("SELECT get_cached_data('s$_')") } 1 .. @sessions), join(',', 1 .. @sessions), 'all sessions share the entries');
$sessions[-1]->query_safe(q(SELECT invalidate_cache_by_tags('{s}')));
is($sessions[0]->query_safe(q(SELECT count(get_cached_data('s' || i)) FROM generate_series(1, 16) i)), '0', 'and the last one invalidates them all');
$_->quit for @sessions;

# --- many sessions at once
my ($stdout, $stderr);
{
    local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'fresh', CHECKER_SECONDS => 5, CHECKER_SESSIONS => 10);
    IPC::Run::run([ "$FindBin::RealBin/../checker/run" ], '<', \'', '>', \$stdout, '2>', \$stderr);
}
is($? >> 8, 0, 'the randomized checker finds no violation') or diag("$stdout$stderr");
note($stdout);

$node->stop;
done_testing();
