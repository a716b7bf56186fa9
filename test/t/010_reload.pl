# The reload file: entries come back after a clean restart, and after nothing else.
use strict;
use warnings FATAL => 'all';
use File::Copy qw(copy);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'cache_ext'
max_prepared_transactions = 2
restart_after_crash = on
CONF
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION cache_ext; CREATE ROLE tester; GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO tester');

my $file = $node->data_dir . '/pg_stat/cache_ext.reload';

sub fill {
    $node->safe_psql('postgres', q(SELECT set_cached_data('k', '"value"', '1 day', '{t,u}')));
}
sub cached { return $node->safe_psql('postgres', q(SELECT get_cached_data('k'))); }

# Starts the server and returns what it says about the file.
sub start_and_look {
    my $at = -s $node->logfile;
    $node->start;
    ok(!-e $file, 'the file is gone once the server is up');
    my $log = slurp_file($node->logfile, $at);
    my ($message) = $log =~ /(cache_ext starts .*)/;
    my ($detail) = $log =~ /cache_ext starts .*\n.*DETAIL:  (.*)/;
    return join ' ', grep { defined } $message, $detail;
}

# --- it comes back
fill();
$node->safe_psql('postgres', q(SET ROLE tester; SELECT set_cached_data('own', '"private"', '1 day', '{p}')));
$node->safe_psql('postgres', q(SELECT set_cached_data('short', '1', '1 day', '{gone}')));
$node->safe_psql('postgres', q(SELECT set_cached_data('large', to_jsonb(repeat('abc', 100000) || md5('x')), '1 day')));
$node->safe_psql('postgres', q(SELECT get_cached_data('k'))) for 1 .. 3;
$node->safe_psql('postgres', q(SELECT invalidate_cache_by_tags('{gone}')));
$node->safe_psql('postgres', q(SELECT set_cache_policy('grace:', p_grace => '1 day')));
$node->safe_psql('postgres', q(SELECT set_cached_data('grace:k', '1', p_cache_tags => '{grace}')));
$node->safe_psql('postgres', q(SELECT expire_cache_by_tags('{grace}')));
my $describe = q(SELECT cache_data, cache_tags, created_at, expires_at, hit_count FROM get_cached_entry('k'));
my $before = $node->safe_psql('postgres', $describe);
for my $mode (qw(fast smart)) {
    $node->stop($mode);
    is((stat $file)[2] & 07777, 0600, "$mode: the file is the server's alone");
    is(start_and_look(), 'cache_ext starts with 4 entries from before the restart', "$mode: entries come back");
    my ($old) = $before =~ /^(.*)\|\d+$/;
    like($node->safe_psql('postgres', $describe), qr/^\Q$old\E\|[3-9]$/, "$mode: value, tags, times and hits are the same");
    is($node->safe_psql('postgres', q(SET ROLE tester; SELECT get_cached_data('own'))), '"private"', "$mode: a private entry");
    is($node->safe_psql('postgres', q(SELECT get_cached_data('own'))), '', "$mode: which stays private");
    is($node->safe_psql('postgres', q(SELECT get_cached_data('short'))), '', "$mode: what was invalidated stays so");
    is($node->safe_psql('postgres', q(SELECT cache_data, is_stale FROM get_cached_entry('grace:k'))), '1|t', "$mode: what is stale, within its grace");
    is($node->safe_psql('postgres', q(SELECT get_cached_data('large') = to_jsonb(repeat('abc', 100000) || md5('x')))), 't', "$mode: a large value");
}
$node->safe_psql('postgres', q(SELECT invalidate_cache_by_tags('{u}')));
is(cached(), '', 'what came back can be invalidated');
$node->safe_psql('postgres', q(SELECT invalidate_cache_by_tags('{grace}')));
is($node->safe_psql('postgres', q(SELECT cache_data FROM get_cached_entry('grace:k'))), '', 'what is stale too');

# --- and what a result depends on is watched again
$node->safe_psql('postgres', 'CREATE TABLE read (v int); CREATE TABLE unread (v int)');
ok($node->poll_query_until('postgres', q(SELECT get_or_set_cached_data('sum', 'SELECT sum(v) FROM read', '1 day') IS NOT NULL AND cache_exists('sum'))), 'kept');
$node->stop;
start_and_look();
my $there = q(SELECT cache_exists('sum'), (SELECT cache_tags FROM get_cached_entry('sum')));
is($node->safe_psql('postgres', $there), 't|{}', 'a result that depends on a table comes back');
$node->safe_psql('postgres', 'INSERT INTO unread VALUES (1)');
is($node->safe_psql('postgres', $there), 't|{}', 'does not depend on others');
$node->safe_psql('postgres', 'INSERT INTO read VALUES (1)');
is($node->safe_psql('postgres', $there), 'f|', 'and goes when the table is written');
ok($node->poll_query_until('postgres', q(SELECT get_or_set_cached_data('sum', 'SELECT sum(v) FROM read', '1 day') IS NOT NULL AND cache_exists('sum'))), 'kept again');
$node->stop;
start_and_look();
$node->safe_psql('postgres', 'GRANT SELECT ON read TO tester');
is($node->safe_psql('postgres', $there), 'f|', 'or its definition or privileges change');

# --- a smaller region takes what fits
$node->safe_psql('postgres', q(SELECT count(set_cached_data('n' || n, to_jsonb((SELECT string_agg(md5(n || ':' || i), '') FROM generate_series(1, 100) i)), '1 day')) FROM generate_series(1, 2000) n));
fill();
$node->stop;
$node->append_conf('postgresql.conf', "cache_ext.memory = '2MB'");
like(start_and_look(), qr/starts with \d+ entries/, 'a smaller region');
is(cached(), '"value"', 'keeps the newest');
cmp_ok($node->safe_psql('postgres', q(SELECT count(get_cached_data('n' || n)) FROM generate_series(1, 2000) n)), '<', 1000, 'and not the oldest');

# --- no clean shutdown
fill();
$node->stop('immediate');
ok(!-e $file, 'an immediate shutdown writes no file');
$node->start;
is(cached(), '', 'and starts empty');

fill();
my @children = split /\n/, $node->safe_psql('postgres', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
$node->kill9;
ok(!-e $file, 'nor does a postmaster that is killed');
# Its children, which notice that it is gone, hold the shared memory for a moment longer.
select(undef, undef, undef, 0.02) while kill 0, @children;
for (1 .. 600) { last if $node->start(fail_ok => 1); select(undef, undef, undef, 0.1); }
is(cached(), '', 'and starts empty');

fill();
$node->psql('postgres', q(SELECT pg_backend_pid() AS pid \gset
\setenv PID :pid
\! kill -9 $PID
SELECT 1));
$node->poll_query_until('postgres', 'SELECT true');
is(cached(), '', 'a crash empties the cache');
ok(!-e $file, 'and writes no file');

# --- copies
fill();
$node->stop;
my $backup = $node->backup_dir . '/cold';
mkdir $node->backup_dir;
system_or_bail('cp', '-a', $node->data_dir, $backup);
my $clone = PostgreSQL::Test::Cluster->new('clone');
$clone->init_from_backup($node, 'cold');
system_or_bail('cp', '-p', $file, $clone->data_dir . '/pg_stat/');
chmod 0600, $clone->data_dir . '/pg_stat/cache_ext.reload';
$clone->start;
is($clone->safe_psql('postgres', q(SELECT get_cached_data('k'))), '', 'a copied data directory starts empty');
like(slurp_file($clone->logfile), qr/or the data directory is a copy/, 'and says why');
ok(!-e $clone->data_dir . '/pg_stat/cache_ext.reload', 'its file is removed');
$clone->stop('immediate');
like(start_and_look(), qr/starts with/, 'the original has its entries');
is(cached(), '"value"', 'and serves them');

$node->stop;
copy($file, "$file.kept");
$node->start;
$node->stop;
copy("$file.kept", $file);
chmod 0600, $file;
like(start_and_look(), qr/starts empty.*another state/, 'a file of an earlier shutdown is not believed');

# --- recovery
sub try_with {
    my ($name, $content, $conf) = @_;
    fill();
    $node->stop;
    append_to_file($node->data_dir . "/$name", $content);
    $node->append_conf('postgresql.conf', $conf) if $conf;
    like(start_and_look(), qr/starts empty.*about to recover/, "$name: not believed");
    if ($name eq 'standby.signal') {
        $node->stop;
        ok(!-e $file, 'a standby writes no file');
        unlink $node->data_dir . '/standby.signal';
        $node->start;
    }
    is(cached(), '', "$name: starts empty");
}
try_with('recovery.signal', '', "restore_command = 'false'");
$node->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
try_with('standby.signal', '');

fill();
$node->stop;
# A label that cannot be read ends the start; what counts is what was believed before that.
append_to_file($node->data_dir . '/backup_label', "nonsense\n");
my $at = -s $node->logfile;
ok(!$node->start(fail_ok => 1), 'backup_label: no start with one that makes no sense');
like(slurp_file($node->logfile, $at), qr/starts empty.*\n.*about to recover/, 'backup_label: not believed');
ok(!-e $file, 'backup_label: the file is gone');
unlink $node->data_dir . '/backup_label';
$node->start;
is(cached(), '', 'backup_label: starts empty');

# --- damage
sub damaged {
    my ($what, $change) = @_;
    fill();
    $node->stop;
    my $bytes = slurp_file($file);
    $change->(\$bytes);
    unlink $file;
    append_to_file($file, $bytes);
    chmod 0600, $file;
    like(start_and_look(), qr/starts empty.*damaged/, "$what: not believed");
    is(cached(), '', "$what: starts empty");
    fill();
    is(cached(), '"value"', "$what: and works");
}
damaged('truncated', sub { my $b = shift; $$b = substr($$b, 0, length($$b) - 1) });
damaged('cut in half', sub { my $b = shift; $$b = substr($$b, 0, length($$b) / 2) });
damaged('empty', sub { my $b = shift; $$b = '' });
damaged('a flipped bit in the value', sub { my $b = shift; substr($$b, index($$b, 'value'), 1) ^= "\x01" });
damaged('a flipped bit at the end', sub { my $b = shift; substr($$b, -1, 1) ^= "\x80" });
damaged('noise', sub { my $b = shift; $$b = join '', map { chr int rand 256 } 1 .. 5000 });

fill();
$node->stop;
chmod 0644, $file;
like(start_and_look(), qr/starts empty.*private file/, 'a file that others may read is not believed');

# --- prepared transactions
fill();
$node->safe_psql('postgres', q(BEGIN; SELECT invalidate_cache_by_tags('{t}'); PREPARE TRANSACTION 'p'));
$node->stop;
ok(!-e $file, 'no file while a prepared transaction may still invalidate');
$node->start;
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
is(cached(), '', 'what it invalidated does not come back');

fill();
$node->safe_psql('postgres', q(BEGIN; SELECT invalidate_cache_by_tags('{other}'); PREPARE TRANSACTION 'p'));
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
$node->stop;
like(start_and_look(), qr/starts with/, 'a prepared transaction that is over does not matter');
is(cached(), '"value"', 'entries come back');

# --- an interrupted write
$node->stop;
append_to_file("$file.tmp", 'half');
$node->start;
ok(!-e "$file.tmp", 'what a write left half done is removed');
is(cached(), '"value"', 'and does no harm');

$node->stop;
done_testing();
