# Storage usage over time: the background worker computes and folds it, a dump and a crash leave it right, rows that logical replication applies count.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $user = '00000000-0000-4000-8000-000000000001';
my $table = 'CREATE TABLE objects (id int PRIMARY KEY, bucket_id text, name text, owner_id text, metadata jsonb)';
my $usage = "SELECT total_bytes, file_count FROM get_user_storage_usage('$user')";
my $truth = "SELECT coalesce(sum((metadata ->> 'size')::bigint), 0), count(*) FROM objects WHERE owner_id = '$user'";
my $deltas = 'SELECT count(*) FROM cache_ext_internal.storage_deltas';

sub agrees {
    my ($node, $database, $what) = @_;
    is($node->safe_psql($database, $usage), $node->safe_psql($database, $truth), $what);
}

# Statements, each a transaction of its own.
sub uploads {
    my ($node, $first, $last) = @_;
    $node->safe_psql('postgres', join '', map { "INSERT INTO objects VALUES ($_, 'b', '$_', '$user', '{\"size\": $_}');\n" } $first .. $last);
}

for my $preload ('cache_ext', '') {
    my $how = $preload ? 'preloaded' : 'not preloaded';
    my $node = PostgreSQL::Test::Cluster->new($preload ? 'preloaded' : 'plain');
    $node->init(allows_streaming => 'logical');
    $node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\nautovacuum = off\n");
    $node->start;
    $node->safe_psql('postgres', "CREATE EXTENSION cache_ext; $table; INSERT INTO objects SELECT n, 'b', n, '$user', '{\"size\": 1000}' FROM generate_series(-10, 0) n");
    $node->safe_psql('postgres', "SELECT enable_storage_usage_cache('objects')");
    agrees($node, 'postgres', "$how: right before it is computed");
    ok($node->poll_query_until('postgres', "SELECT is_cached FROM get_user_storage_usage('$user')"), "$how: the worker computes what there is");
    agrees($node, 'postgres', "$how: right after it was");

    uploads($node, 1, 300);
    agrees($node, 'postgres', "$how: right with many differences");
    ok($node->poll_query_until('postgres', "SELECT ($deltas) < 256"), "$how: the worker folds them");
    agrees($node, 'postgres', "$how: right after they are folded");
    ok($node->poll_query_until('postgres', "SELECT file_count > 250 FROM storage_usage WHERE user_id = '$user'"), "$how: and writes the application's table");
    is($node->safe_psql('postgres', "SELECT is_cached FROM get_user_storage_usage('$user')"), 't', "$how: nothing had to be added up");

    $node->stop('immediate');
    $node->start;
    agrees($node, 'postgres', "$how: right after a crash");
    is($node->safe_psql('postgres', "SELECT is_cached FROM get_user_storage_usage('$user')"), 't', "$how: without computing it anew");
    unlike(slurp_file($node->logfile), qr/was wrong and is corrected/, "$how: it never was wrong");
    if (!$preload) {
        $node->stop;
        next;
    }

    # A dump has the triggers and the settings, but nothing that was computed.
    $node->safe_psql('postgres', 'CREATE DATABASE restored');
    my $dump = $node->basedir . '/dump.sql';
    command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'dumped');
    command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $dump ], 'restored');
    agrees($node, 'restored', 'right where it was restored');
    $node->safe_psql('restored', "DELETE FROM objects WHERE id > 100");
    agrees($node, 'restored', 'right after a change there');
    $node->safe_psql('restored', 'SELECT refresh_storage_usage_cache()');
    is($node->safe_psql('restored', "SELECT is_cached FROM get_user_storage_usage('$user')"), 't', 'computed there');
    $node->safe_psql('restored', "UPDATE objects SET metadata = '{\"size\": 7}' WHERE id < 50");
    agrees($node, 'restored', 'right after another change');

    # What a subscription applies is counted by row.
    $node->safe_psql('postgres', 'CREATE DATABASE subscriber');
    $node->safe_psql('subscriber', "CREATE EXTENSION cache_ext; $table; SELECT enable_storage_usage_cache('objects'); SELECT refresh_storage_usage_cache()");
    $node->safe_psql('postgres', $_) for 'CREATE PUBLICATION p FOR TABLE objects', "SELECT pg_create_logical_replication_slot('s', 'pgoutput')";
    my $source = $node->connstr . ' dbname=postgres';
    $node->safe_psql('subscriber', "CREATE SUBSCRIPTION s CONNECTION '$source' PUBLICATION p WITH (create_slot = false, slot_name = 's')");
    $node->wait_for_subscription_sync($node, 's', 'subscriber');
    $node->safe_psql('postgres', "UPDATE objects SET metadata = '{\"size\": 3}' WHERE id = 5; DELETE FROM objects WHERE id = 6");
    uploads($node, 1001, 1003);
    $node->wait_for_catchup('s');
    is($node->safe_psql('subscriber', $usage), $node->safe_psql('postgres', $truth), 'what was copied and applied is counted');
    agrees($node, 'subscriber', 'right at the subscriber');
    $node->safe_psql('postgres', 'TRUNCATE objects');
    $node->wait_for_catchup('s');
    is($node->safe_psql('subscriber', $usage), '0|0', 'TRUNCATE too');
    $node->safe_psql('subscriber', 'DROP SUBSCRIPTION s');
    $node->stop;
}

done_testing();
