# I9: what a standby's own region gives equals the truth under the standby's own snapshots, at every moment; and where it is not told of everything it gives nothing.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $logging = "cache_ext.wal_log_invalidations = on\n";
my $primary = new_node('primary', conf => $logging . "wal_level = replica\ncheckpoint_timeout = 30s\n");
install($primary);
$primary->backup('first');

# A standby of a node, from the backup.
sub standby {
    my ($name, $of, %options) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init_from_backup($primary, $options{backup} // 'first', has_streaming => 1);
    $node->append_conf('postgresql.conf', 'primary_conninfo = \'' . $of->connstr . " application_name=$name'\n") if $of != $primary;
    $node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
    $node->start;
    return $node;
}

sub caught_up {
    my ($node, $of) = @_;
    my $end = ($of // $primary)->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
    $node->poll_query_until('postgres', "SELECT pg_last_wal_replay_lsn() >= '$end'") or die 'the standby does not catch up';
}

# Until a set is accepted: it is told of everything, and whatever was under way then is over.
sub follows { my ($node) = @_; return $node->poll_query_until('postgres', $FILL); }

my $standby = standby('standby', $primary);
ok(follows($standby), 'a standby fills');
is(look($standby), '30|30', 'and serves');

# --- each kind of invalidation arrives
my @kinds = (
    ['a trigger', 'UPDATE t SET n = n + 1 WHERE id = 1'],
    ['a tag', q(SELECT invalidate_cache_by_tags('{t}'))],
    ['a key', q(SELECT invalidate_cache_key('k'))],
    ['a pattern', q(SELECT invalidate_cache_by_pattern('k*'))],
    ['everything', 'SELECT emergency_clear_cache(current_database())'],
    ['TRUNCATE', 'BEGIN; TRUNCATE t; INSERT INTO t VALUES (1, 10), (2, 20); COMMIT'],
    ['a savepoint that is kept', 'BEGIN; SAVEPOINT a; UPDATE t SET n = n + 1; RELEASE a; COMMIT'],
    ['a thousand tags', q(SELECT invalidate_cache_by_tags(array_agg('t' || n) || '{t}') FROM generate_series(1, 63) n; SELECT count(*) FROM generate_series(1, 50) r, LATERAL invalidate_cache_by_tags((SELECT array_agg('x' || r || '_' || n) FROM generate_series(1, 60) n)))],
);
for my $kind (@kinds) {
    my ($what, $query) = @$kind;
    ok(follows($standby), "filled before $what");
    like(look($standby), qr/^(\d+)\|\1$/, 'and served');
    $primary->safe_psql('postgres', $query);
    caught_up($standby);
    like(look($standby), qr/^miss\|/, "$what reaches the standby");
}
ok(follows($standby), 'filled again');
$primary->safe_psql('postgres', 'BEGIN; UPDATE t SET n = 1000; ROLLBACK; BEGIN; SAVEPOINT a; UPDATE t SET n = 1000; ROLLBACK TO a; INSERT INTO t VALUES (3, 0); ROLLBACK');
caught_up($standby);
like(look($standby), qr/^(\d+)\|\1$/, 'what is rolled back does not');
is(value($standby, q(SELECT invalidate_cache_key('k'))), 't', 'a standby invalidates for itself');
like(look($standby), qr/^miss/, 'at once');

# --- an old snapshot on the standby sees neither the future nor fills the past
ok(follows($standby), 'filled');
my $old = $standby->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
my $before = look($standby);
$primary->safe_psql('postgres', 'UPDATE t SET n = n + 100');
caught_up($standby);
ok(follows($standby), 'filled anew');
my $after = look($standby);
isnt($after, $before, 'with what is new');
like($old->query_safe($LOOK), qr/^miss\|/, 'the old snapshot misses');
$old->query_safe($FILL);
is(look($standby), $after, 'and what it computes does not get in');
$old->query_safe('COMMIT');
$old->quit;

# --- a transaction that is prepared there holds up nobody here
$primary->safe_psql('postgres', q(BEGIN; UPDATE t SET n = n + 1; PREPARE TRANSACTION 'p'));
caught_up($standby);
like(look($standby), qr/^miss\|/, 'what a prepared transaction invalidated is in quarantine');
is(value($standby, $FILL), 'f', 'and not filled');
$primary->safe_psql('postgres', q(SELECT invalidate_cache_by_tags('{u}')));
caught_up($standby);
ok($standby->poll_query_until('postgres', q(SELECT set_cached_data('u', '1', p_cache_tags => '{u}'))), 'other tags are, though invalidated meanwhile');
$primary->safe_psql('postgres', q(COMMIT PREPARED 'p'));
caught_up($standby);
ok(follows($standby), 'it is over');
like(look($standby), qr/^(\d+)\|\1$/, 'and what it wrote is served');

# --- the ring is overrun
many($primary, 3000, 'many');
caught_up($standby);
like(look($standby), qr/^(\d+)\|\1$/, 'an entry outlives three thousand registrations');
$primary->safe_psql('postgres', 'UPDATE t SET n = n + 1');
caught_up($standby);
ok(follows($standby), 'and is filled after them');

# --- nothing of a tracked query: the relations that it reads are written elsewhere
is(value($standby, q(SELECT get_or_set_cached_data('tracked', 'SELECT sum(n) AS n FROM t', '1 hour') IS NOT NULL AND get_cached_data('tracked') IS NULL)), 't',
    'what depends on relations is computed and not kept');

# --- under load: every answer of the standby equals what its own snapshot sees
$primary->safe_psql('postgres', 'CREATE TABLE account (id int PRIMARY KEY, n int NOT NULL); INSERT INTO account SELECT n, 0 FROM generate_series(1, 8) n;
CREATE TRIGGER account_changed AFTER INSERT OR UPDATE OR DELETE ON account FOR EACH ROW EXECUTE FUNCTION trigger_cache_invalidation(\'account:{id}\')');
my $writes = $primary->basedir . '/writes.sql';
append_to_file($writes, "\\set a random(1, 8)\n\\set b random(1, 8)\nBEGIN;\nUPDATE account SET n = n + 1 WHERE id = :a;\nSAVEPOINT s;\nUPDATE account SET n = n + 10 WHERE id = :b;\n"
    . "\\if random(1, 3) = 1\nROLLBACK TO s;\n\\endif\nCOMMIT;\n");
my $reads = $primary->basedir . '/reads.sql';
append_to_file($reads, <<'SQL');
\set a random(1, 8)
SELECT set_config('check.a', :a::text, false);
DO $$
DECLARE
    cached jsonb;
    truth int;
    a int := current_setting('check.a');
BEGIN
    FOR i IN 1 .. 20 LOOP
        SELECT get_cached_data('account:' || a), (SELECT n FROM account x WHERE x.id = a) INTO cached, truth;
        IF cached IS NULL THEN
            PERFORM set_cached_data('account:' || a, (SELECT to_jsonb(n) FROM account WHERE id = a), '1 hour', ARRAY['account:' || a]);
        ELSIF cached <> to_jsonb(truth) THEN
            RAISE EXCEPTION 'VIOLATION: account % is %, cached %', a, truth, cached;
        END IF;
    END LOOP;
END
$$;
SQL
caught_up($standby);
my $load = IPC::Run::start(['pgbench', '-n', '-c', 4, '-T', 20, '--max-tries=100', '-f', $writes, '-h', $primary->host, '-p', $primary->port, 'postgres'],
    '>', \my $written, '2>', \my $written_err);
my ($checked, $checked_err) = ('', '');
my $hits = value($standby, q(SELECT hits FROM get_cache_metrics()));
IPC::Run::run(['pgbench', '-n', '-c', 4, '-T', 15, '-f', $reads, '-h', $standby->host, '-p', $standby->port, 'postgres'], '>', \$checked, '2>', \$checked_err);
$load->finish;
unlike($checked_err, qr/VIOLATION/, 'under load no answer of the standby differs from the truth') or diag($checked_err);
unlike($checked . $checked_err, qr/aborted|FATAL/, 'and no session fails') or diag($checked_err);
$hits = value($standby, q(SELECT hits FROM get_cache_metrics())) - $hits;
cmp_ok($hits, '>', 100, "of $hits hits");

# The same load finds a rule that is broken: what is invalidated is logged after the commit.
$primary->append_conf('postgresql.conf', "cache_ext.debug_break = 'stamp_late'");
$primary->reload;
# When it does is a matter of chance.
for my $try (1 .. 10) {
    $load = IPC::Run::start(['pgbench', '-n', '-c', 4, '-T', 12, '--max-tries=100', '-f', $writes, '-h', $primary->host, '-p', $primary->port, 'postgres'],
        '>', \$written, '2>', \$written_err);
    ($checked, $checked_err) = ('', '');
    IPC::Run::run(['pgbench', '-n', '-c', 4, '-T', 10, '-f', $reads, '-h', $standby->host, '-p', $standby->port, 'postgres'], '>', \$checked, '2>', \$checked_err);
    $load->finish;
    last if $checked_err =~ /VIOLATION/;
}
like($checked_err, qr/VIOLATION/, 'which it finds where a rule is broken');
$primary->append_conf('postgresql.conf', "cache_ext.debug_break = 'nothing'");
$primary->reload;

# --- the log can be read
my $inspected = $primary->safe_psql('postgres', q(CREATE EXTENSION IF NOT EXISTS pg_walinspect;
    BEGIN; SELECT invalidate_cache_by_tags('{readable}'), invalidate_cache_key('a kéy'); COMMIT; SELECT pg_current_wal_flush_lsn()));
my ($lsn) = $inspected =~ m{([0-9A-F]+/[0-9A-F]+)\s*$};
like($primary->safe_psql('postgres', "SELECT description FROM pg_get_wal_records_info('$lsn'::pg_lsn - 4000, '$lsn') WHERE resource_manager = 'cache_ext'"),
    qr/tag "readable", key of all "a k\\xc3\\xa9y"/, 'pg_walinspect shows what a record says');

command_like(['pg_waldump', '-p', $primary->data_dir . '/pg_wal', '-s', $primary->safe_psql('postgres', 'SELECT redo_lsn FROM pg_control_checkpoint()'), '-e', $lsn],
    qr/rmgr: custom187 /, 'pg_waldump, which knows no library, shows its number');

# --- restart in the middle of replay, a standby of a standby
$primary->backup('second');
my $second = standby('second', $standby, backup => 'second');
ok(follows($second), 'a standby of a standby fills');
$load = IPC::Run::start(['pgbench', '-n', '-c', 2, '-T', 12, '--max-tries=100', '-f', $writes, '-h', $primary->host, '-p', $primary->port, 'postgres'],
    '>', \$written, '2>', \$written_err);
for my $mode (qw(immediate fast)) {
    $standby->stop($mode);
    $standby->start;
    ($checked, $checked_err) = ('', '');
    IPC::Run::run(['pgbench', '-n', '-c', 2, '-T', 3, '-f', $reads, '-h', $_->host, '-p', $_->port, 'postgres'], '>', \$checked, '2>', \$checked_err),
        unlike($checked_err, qr/VIOLATION/, 'after a restart in the middle of it (' . $mode . '), on ' . $_->name) for $standby, $second;
}
$load->finish;
$primary->safe_psql('postgres', 'CHECKPOINT');
ok(follows($standby), 'it fills again') or diag(value($standby, 'SELECT pg_last_wal_replay_lsn()'));

# --- turned off and on again
$primary->append_conf('postgresql.conf', 'cache_ext.wal_log_invalidations = off');
$primary->reload;
ok($standby->poll_query_until('postgres', q(SELECT get_cached_data('k') IS NULL AND NOT set_cached_data('k', truth(), p_cache_tags => '{t}'))), 'turned off, the standbys do without');
$primary->safe_psql('postgres', 'UPDATE t SET n = n + 1');
caught_up($standby);
is(value($standby, $FILL), 'f', 'and go on doing without');
$primary->append_conf('postgresql.conf', 'cache_ext.wal_log_invalidations = on');
$primary->reload;
ok(follows($standby), 'turned on again they fill');
like(look($standby), qr/^(\d+)\|\1$/, 'and serve what is true');
$standby->append_conf('postgresql.conf', 'cache_ext.wal_log_invalidations = off');
$standby->reload;
ok($standby->poll_query_until('postgres', q(SELECT get_cached_data('k') IS NULL)), 'a standby that has it off does without');
$standby->append_conf('postgresql.conf', 'cache_ext.wal_log_invalidations = on');
$standby->reload;
ok(follows($standby), 'and with it again');

# --- a snapshot from before logging was turned on, under a statement from after it: what it computes gets nowhere
$primary->append_conf('postgresql.conf', 'cache_ext.wal_log_invalidations = off');
$primary->reload;
ok($standby->poll_query_until('postgres', q(SELECT NOT set_cached_data('z', '1'))), 'turned off');
$primary->safe_psql('postgres', q(BEGIN; UPDATE t SET n = n + 7; PREPARE TRANSACTION 'silent'));
caught_up($standby);
my $cursor = $standby->background_psql('postgres');
$cursor->query_safe('BEGIN');
$cursor->query_safe('DECLARE c CURSOR FOR SELECT truth()');
my $past = value($standby, 'SELECT truth()');
$primary->append_conf('postgresql.conf', 'cache_ext.wal_log_invalidations = on');
$primary->reload;
$primary->poll_query_until('postgres', q(SELECT count(*) > 0 FROM pg_get_wal_records_info((SELECT redo_lsn FROM pg_control_checkpoint()), pg_current_wal_flush_lsn()) WHERE resource_manager = 'cache_ext' AND record_type = 'ON'));
$primary->safe_psql('postgres', q(COMMIT PREPARED 'silent'));
caught_up($standby);
like($cursor->query_safe($LOOK), qr/^miss\|/, 'a miss under the new snapshot');
is($cursor->query_safe('FETCH c'), $past, 'the cursor gives the past');
is($cursor->query_safe("SELECT set_cached_data('k', '$past', p_cache_tags => '{t}')"), 'f', 'which is not kept');
$cursor->query_safe('COMMIT');
$cursor->quit;
like(look($standby), qr/^(miss\||(\d+)\|\2$)/, 'and not served');
ok(follows($standby), 'then it fills');

# --- promotion, with a transaction prepared before it
$primary->safe_psql('postgres', q(BEGIN; UPDATE t SET n = n + 5; PREPARE TRANSACTION 'q'));
$primary->safe_psql('postgres', q(SELECT set_cached_data('kept', '1')));
caught_up($standby);
is(value($standby, q(SELECT set_cached_data('kept', '1', p_cache_tags => '{kept}'))), 't', 'something is cached before the promotion');
$primary->stop('immediate');
$standby->promote;
is(value($standby, q(SELECT get_cached_data('kept'))), '1', 'what was cached is served after the promotion');
like(look($standby), qr/^miss/, 'what the prepared transaction invalidated is not');
is(value($standby, $FILL), 'f', 'nor filled');
$standby->safe_psql('postgres', q(COMMIT PREPARED 'q'));
ok(follows($standby), 'until it is over');
like(look($standby), qr/^(\d+)\|\1$/, 'and then it is true');
$standby->safe_psql('postgres', 'UPDATE t SET n = n + 1');
like(look($standby), qr/^miss/, 'writes invalidate there');
caught_up($second, $standby);
ok(follows($second), 'and at the standby that follows it');
$standby->safe_psql('postgres', 'UPDATE t SET n = n + 1');
caught_up($second, $standby);
like(look($second), qr/^miss/, 'which is told');

# --- promotion of one that was told nothing, with a transaction prepared meanwhile
$standby->append_conf('postgresql.conf', 'cache_ext.wal_log_invalidations = off');
$standby->reload;
ok($second->poll_query_until('postgres', q(SELECT NOT set_cached_data('z', '1'))), 'nothing is told');
$standby->safe_psql('postgres', q(BEGIN; UPDATE t SET n = n + 5; PREPARE TRANSACTION 'r'));
caught_up($second, $standby);
$standby->stop('fast');
$second->promote;
is(value($second, $FILL), 'f', 'nothing is filled while a transaction of which it was not told may end');
$second->safe_psql('postgres', q(COMMIT PREPARED 'r'));
ok(follows($second), 'until it is over');
like(look($second), qr/^(\d+)\|\1$/, 'and then it is true');
$second->stop;
done_testing();
