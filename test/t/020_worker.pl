# The launcher and the workers: what they do, and that they are in nobody's way.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Entries of which one will have expired, one is invalid and one stays, in a database.
sub fill {
    my ($node, $database) = @_;
    $node->safe_psql($database, q(
        SELECT set_cached_data('expired', '1', '200 ms');
        SELECT set_cached_data('dead', '1', '1 day', '{t}');
        SELECT set_cached_data('stays', '1', '1 day');
        SELECT invalidate_cache_by_tags('{t}')));
}

# Waits until the worker has swept a database; the query uses the cache, so that it works on demand too.
sub swept {
    my ($node, $database) = @_;
    return $node->poll_query_until($database, q(
        SELECT get_cached_data('nothing') IS NULL AND sum(expired_entries) = 1 AND sum(dead_entries) = 1
        FROM cache_cleanup_log WHERE source = 'worker'));
}

sub launcher { return $_[0]->safe_psql('postgres', q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'cache_ext launcher')); }

# --- with preloading
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'\ncache_ext.cleanup_interval = 1s\nautovacuum = off");
$node->start;
ok($node->poll_query_until('postgres', q(SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cache_ext launcher' AND datname IS NULL)),
    'the launcher is in no database');
is($node->safe_psql('postgres', q(SELECT application_name FROM pg_stat_activity WHERE backend_type = 'cache_ext launcher')),
    'cache_ext launcher', 'and has a name');
for my $database (qw(one two three)) {
    $node->safe_psql('postgres', "CREATE DATABASE $database");
    $node->safe_psql($database, 'CREATE EXTENSION cache_ext');
    fill($node, $database);
}
ok(swept($node, $_), "a worker sweeps database $_") for qw(one two three);
is($node->safe_psql('one', q(SELECT count(*) FROM query_cache)), '1', 'what is alive stays')
    if $node->safe_psql('one', q(SELECT to_regclass('query_cache') IS NOT NULL)) eq 't';
is($node->safe_psql('one', q(SELECT get_cached_data('stays'))), '1', 'and is served');
is($node->safe_psql('one', q(SELECT string_agg(remaining_entries::text, ',') FROM cache_cleanup_log WHERE source = 'worker' AND dead_entries = 1)),
    '1', 'the log tells what remains');

# --- nobody is hindered: databases come and go while workers sweep at every moment
$node->append_conf('postgresql.conf', "log_min_messages = 'debug1'");
$node->reload;
my $failures = 0;
for my $round (1 .. 12) {
    for my $database (qw(one two)) {
        $node->safe_psql($database, q(SELECT set_cached_data('n' || n, '1', '1 ms') FROM generate_series(1, 2000) n));
    }
    my ($status, undef, $error) = $node->psql('postgres', "CREATE DATABASE copy$round TEMPLATE one");
    $failures++, diag($error) if $status != 0;
    is($node->safe_psql("copy$round", q(SELECT get_cached_data('stays') IS NULL)), 't', 'a copy starts empty') if $round == 1;
    $node->safe_psql("copy$round", q(SELECT set_cached_data('n' || n, '1', '1 ms') FROM generate_series(1, 2000) n));
    ($status, undef, $error) = $node->psql("copy$round", 'DROP EXTENSION cache_ext; CREATE EXTENSION cache_ext') if $round % 3 == 0;
    $failures++, diag($error) if $status != 0;
    ($status, undef, $error) = $node->psql('postgres', "DROP DATABASE copy$round");
    $failures++, diag($error) if $status != 0;
}
is($failures, 0, 'DROP DATABASE, CREATE DATABASE … TEMPLATE, DROP EXTENSION all pass');

$node->safe_psql('one', q(SELECT set_cached_data('old', '1', '1 day')));
$node->safe_psql('one', q(DROP EXTENSION cache_ext; CREATE EXTENSION cache_ext));
is($node->safe_psql('one', q(SELECT get_cached_data('old') IS NULL AND get_cached_data('stays') IS NULL)), 't', 'a re-created extension starts empty');

# --- a log that cannot be written to
fill($node, 'one');
ok(swept($node, 'one'), 'the new extension is swept');
$node->safe_psql('one', q(ALTER TABLE cache_cleanup_log ADD CONSTRAINT none CHECK (dead_entries < 0) NOT VALID));
my ($status, $out, $error) = $node->psql('one', 'SELECT cleanup_expired_cache()');
is($status, 0, 'a log that refuses rows does not stop the function');
like($error, qr/WARNING:  could not write to "cache_cleanup_log"/, 'which warns');
my $at = -s $node->logfile;
fill($node, 'one');
$node->wait_for_log(qr/WARNING:  could not write to "cache_cleanup_log"/, $at);
ok(1, 'nor the worker');

# --- a launcher that is ended comes back, and meanwhile sessions do without
my $pid = launcher($node);
is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)"), 't', 'the launcher can be ended');
ok($node->poll_query_until('postgres', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'cache_ext launcher' AND pid <> $pid"),
    'and comes back');
$node->safe_psql('two', 'TRUNCATE cache_cleanup_log');
fill($node, 'two');
ok(swept($node, 'two'), 'and works');

# --- memory of databases that are gone
$node->safe_psql('three', q(SELECT set_cached_data('n' || n, '1', '1 day') FROM generate_series(1, 100) n));
$node->safe_psql('postgres', 'DROP DATABASE three');
$node->stop;
like(slurp_file($node->data_dir . '/pg_stat/cache_ext.reload'), qr/stays/, 'entries are kept over a restart')
    if -e $node->data_dir . '/pg_stat/cache_ext.reload';
$node->start;
$node->stop;

# --- no background worker to be had
for my $limit (0, 1) {
    $node->append_conf('postgresql.conf', "max_worker_processes = $limit");
    $node->start;
    $node->safe_psql('two', 'TRUNCATE cache_cleanup_log');
    fill($node, 'two');
    is($node->safe_psql('two', q(SELECT get_cached_data('stays'))), '1', "max_worker_processes = $limit: nothing fails");
    if ($limit == 0) {
        $node->poll_query_until('two', q(SELECT get_cached_data('expired') IS NULL));
        is($node->safe_psql('two', q(SELECT cleanup_expired_cache())), '2', 'and the function cleans up');
    } else {
        ok($node->poll_query_until('two', q(WITH c AS (SELECT cleanup_expired_cache() AS n) SELECT n = 0 AND get_cached_data('expired') IS NULL FROM c)),
            'the launcher sweeps by itself');
    }
    $node->stop;
}
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'nothing crashed');

# --- without preloading
my $plain = PostgreSQL::Test::Cluster->new('plain');
$plain->init;
$plain->append_conf('postgresql.conf', "cache_ext.cleanup_interval = 1s");
$plain->start;
$plain->safe_psql('postgres', 'CREATE EXTENSION cache_ext');
fill($plain, 'postgres');
ok(swept($plain, 'postgres'), 'without preloading a session starts the worker');
is(launcher($plain), '', 'and there is no launcher');
$plain->safe_psql('postgres', q(SELECT set_cached_data('k', '1', '1 day')));
$plain->restart;
is($plain->safe_psql('postgres', q(SELECT get_cached_data('k') IS NULL)), 't', 'nothing is kept over a restart');
$plain->append_conf('postgresql.conf', "max_worker_processes = 0");
$plain->restart;
fill($plain, 'postgres');
$plain->safe_psql('postgres', q(SELECT get_cached_data('stays'))) for 1 .. 3;
is($plain->safe_psql('postgres', q(SELECT get_cached_data('stays'))), '1', 'without background workers nothing fails');
$plain->stop;

done_testing();
