# The randomized checker, in little memory so that entries are evicted all the time; and the proof that it notices: with a rule of the protocol broken, it
# finds a violation.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "cache_ext.memory = 1MB\nmax_connections = 50\nfsync = off\ntrack_commit_timestamp = on\n");

# Runs it for some seconds in a database of its own; its exit status and what it said.
my $runs = 0;
sub check {
    my ($seconds, $options) = @_;
    my $database = 'checker' . ++$runs;
    $node->safe_psql('postgres', "CREATE DATABASE $database");
    local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => $database, CHECKER_SECONDS => $seconds, PGOPTIONS => $options);
    my $said;
    IPC::Run::run([ "$FindBin::RealBin/../checker/run" ], '<', \'', '>&', \$said);
    return ($? >> 8, $said);
}

my ($status, $said) = check(10, '');
is($status, 0, 'no violation') or diag($said);
like($said, qr/, [1-9]\d* entries evicted/, 'though entries were evicted');
like($said, qr/^[1-9]\d* sessions were killed, [1-9]\d* prepared transactions ended by another session, [1-9]\d* snapshots exported$/m, 'sessions killed, transactions prepared and snapshots exported');
note($said);

for my $rule (qw(stamp_late birth_at_set no_ring)) {
    for my $attempt (1 .. 15) {
        ($status, $said) = check(10, "-c cache_ext.debug_break=$rule");
        last if $status != 0;
    }
    is($status, 1, "a violation with $rule") or diag($said);
    like($said, qr/^VIOLATION .*: the sum of .* but the cache says .*\n  read by .*\n  computed by .*\n/m, "which is told with its history");
    note($said);
}

$node->stop;
done_testing();
