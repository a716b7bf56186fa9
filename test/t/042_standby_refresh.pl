# Where a refresh on a standby is in the way of replay, it is the statement that is ended, not the session: there a subtransaction would be too much.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = new_node('primary', conf => "cache_ext.wal_log_invalidations = on\nwal_level = replica\n");
install($primary);
$primary->safe_psql('postgres', q(SELECT set_cache_policy('s:', '1 hour', '1 hour'); CREATE TABLE old AS SELECT 1 AS n));
$primary->backup('first');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'first', has_streaming => 1);
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = 0\nhot_standby_feedback = off\ncache_ext.refresh_pause = 1h");
$standby->start;
ok($standby->poll_query_until('postgres', $FILL), 'the standby fills');

sub ask { my ($query) = @_; return "SELECT get_or_set_cached_data('s:1', '$query', NULL, '{s}')"; }
is(value($standby, ask('SELECT 1 AS v')), '[{"v": 1}]', 'computed');
is(value($standby, ask('SELECT 2 AS v')), '[{"v": 1}]', 'and kept');
is(value($standby, q(SELECT expire_cache_by_tags('{s}'))), '1', 'it is in its grace');

my $reader = $standby->background_psql('postgres', on_error_stop => 0);
my $pid = $reader->query_safe('SELECT pg_backend_pid()');
$reader->query_until(qr/begun/, "\\echo begun\n" . ask('SELECT pg_sleep(180)::text, n FROM old') . ";\n\\echo over\n");
ok($standby->poll_query_until('postgres', "SELECT wait_event = 'PgSleep' FROM pg_stat_activity WHERE pid = $pid"), 'it is refreshed');
$primary->safe_psql('postgres', 'DELETE FROM old; INSERT INTO old VALUES (2)');
$primary->safe_psql('postgres', 'VACUUM old');
ok($standby->poll_query_until('postgres', "SELECT wait_event IS DISTINCT FROM 'PgSleep' FROM (SELECT) x LEFT JOIN pg_stat_activity ON pid = $pid"), 'which is ended by a conflict');
is(value($standby, "SELECT count(*) FROM pg_stat_activity WHERE pid = $pid"), '1', 'the session lives on');
like(slurp_file($standby->logfile), qr/ERROR: .*canceling statement due to conflict with recovery/, 'and is told');
is(value($standby, ask('SELECT 1 / 0 AS v')), '[{"v": 1}]', 'nobody else tries at once');
$reader->quit;

$standby->stop;
$primary->stop;
done_testing();
