# A standby whose transaction ids are beyond half of their 32 bits, where the process that replays the log, which has no snapshots, must not take those that run for finished.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', conf => "cache_ext.wal_log_invalidations = on\nwal_level = replica\nmax_connections = 20\nmax_wal_senders = 4\n");
for my $next (2_000_000_000, 3_000_000_000) {
    $primary->command_ok(['vacuumdb', '--all', '--freeze', '--quiet'], 'everything is frozen');
    $primary->stop;
    command_ok(['pg_resetwal', '-x', $next, '-u', $next - 1000, $primary->data_dir], "ids go on at $next");
    # The part of the commit log that the next id is in.
    my $part = $primary->data_dir . sprintf('/pg_xact/%04X', $next >> 20);
    open(my $file, '>', $part) or die "$part: $!";
    binmode $file;
    print $file "\0" x 262144;
    close $file;
    $primary->start;
}
install($primary);
$primary->safe_psql('postgres', 'CHECKPOINT');
$primary->backup('first');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'first', has_streaming => 1);
$standby->start;
ok($standby->poll_query_until('postgres', $FILL), 'a standby fills');

sub caught_up {
    my $end = $primary->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
    $standby->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$end'") or die 'the standby does not catch up';
}

$primary->safe_psql('postgres', q(BEGIN; UPDATE t SET n = n + 1; PREPARE TRANSACTION 'p'));
# So many that the process that replays them has to make room for them.
$primary->safe_psql('postgres', join('', map { "SELECT invalidate_cache_by_tags('{o$_}');\n" } 1 .. 1500));
caught_up();
value($standby, q(SELECT get_cached_data('q')));
is(value($standby, $FILL), 'f', 'what is prepared is not finished');
$primary->safe_psql('postgres', q(COMMIT PREPARED 'p'));
caught_up();
like(look($standby), qr/^(miss\||(\d+)\|\2$)/, 'nothing stale is served');
ok($standby->poll_query_until('postgres', $FILL), 'and the standby fills again');
like(look($standby), qr/^(\d+)\|\1$/, 'with what is true');
$standby->stop;
$primary->stop;
done_testing();
