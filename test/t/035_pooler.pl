# Through PgBouncer, which gives each transaction whichever server session is free: fills across sessions by the lease token, and what a miss of one client
# leaves in a server session that another one uses next.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($pgbouncer) = grep { -x } (map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/local/sbin');
plan skip_all => 'there is no pgbouncer here (tools/setup installs it)' unless defined $pgbouncer;

my $node = new_node('main');
install($node);

# One pool has a single server session, which all clients share; the other has three.
my $dir = PostgreSQL::Test::Utils::tempdir_short;
my $port = 6432;
my $server = sprintf 'host=%s port=%s dbname=postgres user=%s', $node->host, $node->port, getpwuid($<) // 'postgres';
append_to_file("$dir/users", '"' . (getpwuid($<) // 'postgres') . qq(" ""\n));
append_to_file("$dir/pgbouncer.ini", <<"INI");
[databases]
one = $server pool_size=1
three = $server pool_size=3
load = ${\($server =~ s/dbname=postgres/dbname=load/r)} pool_size=4
[pgbouncer]
pool_mode = transaction
listen_addr =
listen_port = $port
unix_socket_dir = $dir
auth_type = trust
auth_file = $dir/users
logfile = $dir/pgbouncer.log
pidfile =
ignore_startup_parameters = extra_float_digits,options
max_client_conn = 100
server_idle_timeout = 0
INI
my ($said, $pooler) = ('');
$pooler = IPC::Run::start([ $pgbouncer, '-q', "$dir/pgbouncer.ini" ], '<', \'', '>&', \$said);

# One statement or several of a client that comes and goes; its answer.
sub client {
    my ($pool, $statement) = @_;
    my ($out, $err);
    my $psql = IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', "host=$dir port=$port dbname=$pool", '-c', $statement ], '<', \'', '>', \$out, '2>', \$err);
    die "$statement: $err" unless $psql;
    chomp $out;
    return $out;
}
# A client that stays.
sub stays { return $node->background_psql('postgres', extra_params => [ '-d', "host=$dir port=$port dbname=$_[0]" ]); }

for my $attempt (1 .. 100) {
    last if eval { client('one', 'SELECT 1') };
    select(undef, undef, undef, 0.1);
}
my $pid = client('one', 'SELECT pg_backend_pid()');
is(client('one', 'SELECT pg_backend_pid()'), $pid, 'clients share a server session');

my $lease_of = q(SELECT lease FROM get_cached_entry('k'));
sub fill_with { my ($pool, $value, $lease) = @_; return client($pool, "SELECT set_cached_data('k', '$value', p_cache_tags => '{t}', p_lease => '$lease')"); }
my $n = 30;
sub write_directly { $node->safe_psql('postgres', 'UPDATE t SET n = n + 1 WHERE id = 1'); $n++; }

# --- by the token, from one server session to another
{
    my ($a, $b) = (stays('three'), stays('three'));
    my $get = $a->query_safe('SELECT pg_backend_pid()');
    my $lease = client('three', $lease_of);
    # With this transaction on it, the server session that knows the miss is not free.
    $a->query_safe('BEGIN');
    my $held = $a->query_safe('SELECT pg_backend_pid()');
    $b->query_safe('BEGIN');
    my $other = $b->query_safe('SELECT pg_backend_pid()');
    isnt($other, $held, 'there are several server sessions');
    is($b->query_safe("SELECT set_cached_data('k', '$n', p_cache_tags => '{t}', p_lease => '$lease')"), 't', 'a token is good in another session');
    $b->query_safe('COMMIT');
    is(look($node), "$n|$n", 'and what it brings is served');
    is(client('three', $LOOK), "$n|$n", 'through the pooler too');

    write_directly();
    is($b->query_safe($LOOK), "miss|$n", 'until it is invalidated');
    $lease = client('three', $lease_of);
    write_directly();
    for my $pool ('one', 'three', 'three', 'three') {
        is(fill_with($pool, $n - 1, $lease), 'f', "a late fill by token is refused ($pool)") for 1 .. 2;
    }
    is($b->query_safe("SELECT set_cached_data('k', '" . ($n - 1) . "', p_cache_tags => '{t}', p_lease => '$lease')"), 'f', 'in a third session');
    is(look($node), "miss|$n", 'and nothing is served');
    $lease = client('three', $lease_of);
    is(fill_with('one', $n, $lease), 't', 'a new token is good');
    is(look($node), "$n|$n", 'and its value is served');
    $a->query_safe('COMMIT');
    $_->quit for $a, $b;
}

# --- a miss that nobody answered, in a session that another client is given
{
    write_directly();
    client('one', q(SELECT get_cached_data('k')));
    write_directly();
    is(client('one', "SELECT set_cached_data('k', '$n', p_cache_tags => '{t}')"), 'f', 'another client\'s set answers the old miss: refused, though it were right');
    is(look($node), "miss|$n", 'a miss');
    is(client('one', "SELECT set_cached_data('k', '$n', p_cache_tags => '{t}')"), 't', 'the next set is accepted');
    is(look($node), "$n|$n", 'and served');

    # nor is it another key's
    client('one', q(SELECT get_cached_data('another')));
    write_directly();
    my $fresh = stays('one');
    $fresh->query_safe('BEGIN');
    $fresh->query_safe(q(SELECT get_cached_data('k')));
    is($fresh->query_safe($FILL), 't', 'get and set in one transaction need no token');
    $fresh->query_safe('COMMIT');
    is(look($node), "$n|$n", 'and are served');

    # a transaction that is given a session with an old miss of its key errs to a miss too
    write_directly();
    client('one', q(SELECT get_cached_data('k')));
    write_directly();
    $fresh->query_safe('BEGIN');
    $fresh->query_safe(q(SELECT get_cached_data('k')));
    is($fresh->query_safe($FILL), 'f', 'where a client before left a miss, it is the older one that counts');
    $fresh->query_safe('COMMIT');
    is(look($node), "miss|$n", 'a miss');
    $fresh->quit;
}

# --- two clients compute one key at once in one server session: each with its token
{
    my $early = client('one', $lease_of);
    my $old = $n;
    write_directly();
    my $later = client('one', $lease_of);
    is(fill_with('one', $n, $later), 't', 'the later computation is stored');
    is(fill_with('one', $old, $early), 'f', 'the earlier one is refused');
    is(look($node), "$n|$n", 'and the later one served');
    write_directly();
    $early = client('one', $lease_of);
    $old = $n;
    client('one', $lease_of);
    is(fill_with('one', $n, $early), 't', 'whoever is first');
    write_directly();
    is(fill_with('one', $old, $early), 'f', 'a token is as old as its miss, however often it is used');
    is(look($node), "miss|$n", 'so nothing old is served');
}

# --- get or set needs none of this
{
    my $query = q(SELECT get_or_set_cached_data('sum', 'SELECT truth()', NULL, '{t}') = truth());
    is(join(',', map { write_directly(); (client('one', $query), client('three', $query)) } 1 .. 5), join(',', ('t') x 10), 'get or set through the pooler');
}

# --- many clients on few server sessions, beside writers that come directly
{
    my $checker = "$FindBin::RealBin/../checker";
    $node->safe_psql('postgres', 'CREATE DATABASE load');
    $node->psql('load', slurp_file("$checker/setup.sql"), on_error_die => 1);
    my ($through, $direct, $status) = ('', '');
    local %ENV = (%ENV, PGOPTIONS => '-c deadlock_timeout=10ms');
    my @mix = ('-n', '-M', 'simple', '-T', 8, '--random-seed=1', '--max-tries=20', '-D', 'tracked=1', '-D', 'prepared=0', '-D', 'who=pooled', '-D', 'killed=0');
    my $writing = IPC::Run::start([ 'pgbench', '-c', 3, '-j', 1, @mix, '-f', "$checker/write.sql", '-h', $node->host, '-p', $node->port, 'load' ], '<', \'', '>&', \$direct);
    IPC::Run::run([ 'pgbench', '-c', 12, '-j', 2, @mix, '-f', "$checker/mail.sql\@4", '-f', "$checker/compute.sql\@2", '-f', "$checker/look.sql\@4", '-h', $dir, '-p', $port, 'load' ],
        '<', \'', '>&', \$through);
    $status = $?;
    $writing->finish;
    is($status, 0, 'clients of the pooler found no violation and no error') or diag($through);
    is($writing->result(0), 0, 'nor did the writers') or diag($direct);
    my ($fills, $hits) = split /\|/, $node->safe_psql('load', 'SELECT (SELECT last_value FROM checker.fills), (SELECT last_value FROM checker.hits)');
    note("$fills sets by token accepted, $hits hits");
    cmp_ok($fills, '>', 50, 'sets by token were accepted');
    cmp_ok($hits, '>', 50, 'and hit');
}

$pooler->signal('INT');
$pooler->finish;
$node->stop;
done_testing();
