# Coherence where sessions and servers end in the middle of things.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main');
install($node);

# Waits until the session with this process id is gone, or waits for something.
sub until_gone { $node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $_[0]") or die 'it does not end'; }
sub until_waits { $node->poll_query_until('postgres', "SELECT wait_event = '$_[1]' FROM pg_stat_activity WHERE pid = $_[0]") or die 'it does not wait'; }
sub pid_of { return $_[0]->query_safe('SELECT pg_backend_pid()'); }
sub fill_tag { return value($node, "SELECT set_cached_data('$_[0]', '1', p_cache_tags => '{$_[0]}')") eq 't' && value($node, "SELECT get_cached_data('$_[0]')") eq '1'; }

# --- a session that is ended between its stamp and its commit
for my $stop (qw(registered committing)) {
    ok(fill($node), "$stop: filled");
    my $holder = $node->background_psql('postgres');
    $holder->query_safe('SELECT pg_advisory_lock(7771)');
    my $writer = $node->background_psql('postgres', on_error_stop => 0);
    my $pid = pid_of($writer);
    $writer->query_until(qr/^/, "BEGIN; UPDATE t SET n = n + 100 WHERE id = 1; SET LOCAL cache_ext.debug_stop_at = $stop; COMMIT;\n");
    until_waits($pid, 'advisory');
    like(look($node), qr/^(30|miss)\|30$/, "$stop: others see what was before");
    value($node, "SELECT pg_terminate_backend($pid)");
    until_gone($pid);
    $holder->quit;
    eval { $writer->quit };
    like(look($node), qr/^(30|miss)\|30$/, "$stop: and after it was ended");
    ok(fill($node), "$stop: what it had stamped can be filled");
    is(look($node), '30|30', "$stop: and is served");
    many($node, 1500, 'u');
    ok(fill_tag('u'), "$stop: the clock goes on: what is invalidated later can be filled");
}

# --- a commit that waits for a standby: written down, not visible yet
{
    ok(fill($node), 'synchronous: filled');
    ok(fill_tag('w'), 'synchronous: another, which nobody invalidates');
    $node->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'");
    $node->reload;
    $node->poll_query_until('postgres', q(SELECT current_setting('synchronous_standby_names') = 'nobody'));
    local $ENV{PGOPTIONS} = '-c synchronous_commit=local';
    my $writer = $node->background_psql('postgres', on_error_stop => 0);
    my $pid = pid_of($writer);
    $writer->query_until(qr/^/, "SET synchronous_commit = on; UPDATE t SET n = n + 100 WHERE id = 1;\n");
    until_waits($pid, 'SyncRep');
    is(look($node), 'miss|30', 'synchronous: not served while it waits');
    $node->safe_psql('postgres', $FILL);
    is(look($node), 'miss|30', 'synchronous: nor filled');
    is(value($node, q(SELECT get_cached_data('w'))), '1', 'synchronous: others are served');
    ok(fill_tag('x'), 'synchronous: and filled');
    many($node, 1500, 'u');
    note('a tag that is invalidated while a commit waits can ' . (fill_tag('u') ? '' : 'not ') . 'be filled meanwhile');
    value($node, "SELECT pg_cancel_backend($pid)");
    $node->poll_query_until('postgres', "SELECT state = 'idle' FROM pg_stat_activity WHERE pid = $pid") or die 'it does not end';
    is(look($node), 'miss|130', 'synchronous: visible, and nothing old is served');
    ok(fill($node) && look($node) eq '130|130', 'synchronous: filled again');
    ok(fill_tag('u'), 'synchronous: and so is what was invalidated meanwhile');
    $writer->quit;
    $node->append_conf('postgresql.conf', "synchronous_standby_names = ''");
    $node->reload;
    $node->poll_query_until('postgres', q(SELECT current_setting('synchronous_standby_names') = ''));
}

# --- the ring is overrun while an old snapshot is held
{
    ok(fill($node) && fill_tag('w'), 'overrun: filled');
    my $old = $node->background_psql('postgres');
    $old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
    is($old->query_safe($LOOK), '130|130', 'overrun: the old snapshot hits');
    $node->safe_psql('postgres', 'UPDATE t SET n = n + 1 WHERE id = 2');
    many($node, 3000, 'u');
    is($old->query_safe($LOOK), 'miss|130', 'overrun: then misses');
    ok(fill($node) && look($node) eq '131|131', 'overrun: new ones hit what is new');
    is($old->query_safe($LOOK), 'miss|130', 'overrun: which the old one does not get');
    $old->query_safe($FILL);
    is(look($node), '131|131', 'overrun: what it fills does not replace it');
    note('the old snapshot gets what nobody has invalidated: ' . ($old->query_safe(q(SELECT get_cached_data('w'))) || 'no'));
    $old->query_safe('COMMIT');
    is($old->query_safe($LOOK), '131|131', 'overrun: its next transaction hits');
    $old->quit;
}

# --- 5,000 short invalidating transactions beside a long one that has written
{
    my $writer = $node->background_psql('postgres');
    $writer->query_safe('BEGIN; UPDATE t SET n = n + 1 WHERE id = 1');
    ok(fill($node), 'long writer: what it will invalidate can be filled until then');
    many($node, 5000, 'u');
    is(look($node), '131|131', 'long writer: and is served');
    ok(fill_tag('u'), 'long writer: what the short ones invalidate can be filled');
    ok(fill_tag('v'), 'long writer: and what nobody does');
    my $session = $node->background_psql('postgres');
    my $in_one = 0;
    for my $i (1 .. 20) {
        $in_one++ if $session->query_safe(q(SELECT invalidate_cache_by_tags('{s}')) ) ne '' && $session->query_safe(q(SELECT set_cached_data('s', '1', p_cache_tags => '{s}'))) eq 't';
    }
    is($in_one, 20, 'long writer: a session fills what it has just invalidated itself');
    $session->query_safe('BEGIN');
    $session->query_safe('SELECT count(*) FROM t');
    many($node, 2, 's');
    note('what is invalidated since a READ COMMITTED transaction began can be filled in it: '
          . $session->query_safe(q(SELECT set_cached_data('s', '1', p_cache_tags => '{s}'))));
    $session->query_safe('COMMIT');
    $session->quit;
    $writer->query_safe('COMMIT');
    is(look($node), 'miss|132', 'long writer: its own is gone when it commits');
    ok(fill($node) && look($node) eq '132|132', 'long writer: and filled again');
    $writer->quit;
}

# --- a lease of a transaction that has written is good for nobody
{
    $node->safe_psql('postgres', 'UPDATE t SET n = n + 1 WHERE id = 1');
    my $writer = $node->background_psql('postgres');
    $writer->query_safe('BEGIN; UPDATE t SET n = n + 1000 WHERE id = 1');
    my $lease = $writer->query_safe(q(SELECT lease FROM get_cached_entry('k')));
    isnt($lease, '', 'lease of a writer: there is one');
    is(value($node, "SELECT set_cached_data('k', '1133', p_cache_tags => '{t}', p_lease => '$lease')"), 'f', 'lease of a writer: but nothing is stored for it');
    $writer->query_safe('ROLLBACK');
    is(value($node, "SELECT set_cached_data('k', '1133', p_cache_tags => '{t}', p_lease => '$lease')"), 'f', 'lease of a writer: also after the rollback');
    is(look($node), 'miss|133', 'lease of a writer: nothing wrong is served');
    $writer->quit;
}

# --- a prepared transaction whose session is gone, and a restart over it
{
    ok(fill($node), 'prepared: filled');
    $node->safe_psql('postgres', q(BEGIN; UPDATE t SET n = n + 1 WHERE id = 1; PREPARE TRANSACTION 'p'));
    is(look($node), 'miss|133', 'prepared: not served');
    $node->safe_psql('postgres', $FILL);
    is(look($node), 'miss|133', 'prepared: nor filled');
    $node->restart;
    $node->safe_psql('postgres', $FILL);
    is(look($node), 'miss|133', 'prepared: nor after a restart');
    $node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
    is(look($node), 'miss|134', 'prepared: nothing old is served when it is over');
    ok(fill($node) && look($node) eq '134|134', 'prepared: and the cache works again');
}

# --- crashes
{
    my $session = $node->background_psql('postgres', on_error_stop => 0);
    my $pid = pid_of($session);
    $session->query_safe('BEGIN; UPDATE t SET n = n + 100 WHERE id = 1');
    $session->query_safe(q(SELECT set_cached_data('k', '-1', p_cache_tags => '{t}')));
    kill 'KILL', $pid;
    eval { $session->quit };
    $node->poll_query_until('postgres', 'SELECT true');
    is(look($node), 'miss|134', 'after a crash the cache is empty');
    ok(fill($node) && look($node) eq '134|134', 'and works');
    $node->safe_psql('postgres', 'UPDATE t SET n = n - 1 WHERE id = 1');
    is(look($node), 'miss|133', 'and is coherent');

    ok(fill($node), 'filled before an immediate stop');
    $node->stop('immediate');
    $node->start;
    is(look($node), 'miss|133', 'after an immediate stop the cache is empty');
    ok(fill($node) && look($node) eq '133|133', 'and works');
}

# --- databases do not know each other's entries
{
    $node->safe_psql('postgres', 'CREATE DATABASE two');
    install($node, 'two');
    is(look($node, 'two'), 'miss|30', 'the same key in another database is another entry');
    ok(fill($node, 'two'), 'which is filled for itself');
    is(look($node), '133|133', 'and leaves the first one alone');
    $node->safe_psql('two', 'UPDATE t SET n = n + 1 WHERE id = 1');
    is(look($node, 'two'), 'miss|31', 'an invalidation reaches its own database');
    is(look($node), '133|133', 'and no other');
    ok(fill($node, 'two'), 'filled again');
    $node->safe_psql('postgres', 'CREATE DATABASE three TEMPLATE two');
    is(look($node, 'three'), 'miss|31', 'a copy of a database starts empty');
    $node->safe_psql('two', 'DROP EXTENSION cache_ext CASCADE; CREATE EXTENSION cache_ext');
    is(value($node, q(SELECT get_cached_data('k') IS NULL), 'two'), 't', 'so does an extension that is created again');
}

$node->stop;
done_testing();
