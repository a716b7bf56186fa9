# What a subscription writes is tracked like everything else, without triggers: its apply worker runs no statement, only changes. Initial copy, each kind of
# change, transactions that are streamed, prepared and rolled back, and where changes are not counted.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "wal_level = logical\nlogical_decoding_work_mem = 64kB\nmax_worker_processes = 16\n";
my $publisher = new_node('publisher', conf => $conf, no_preload => 1);
my $subscriber = new_node('subscriber', conf => $conf);

my $tables = <<'SQL';
CREATE TABLE plain (id int PRIMARY KEY, n int);
CREATE TABLE parts (id int, n int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (1000000);
CREATE TABLE other (id int PRIMARY KEY);
SQL
$publisher->safe_psql('postgres', "$tables INSERT INTO plain VALUES (1, 10), (2, 20); INSERT INTO parts VALUES (1, 1), (200, 2)");
$subscriber->safe_psql('postgres', <<"SQL");
CREATE EXTENSION cache_ext;
$tables
CREATE VIEW sums AS SELECT (SELECT sum(n) FROM plain) AS plain, (SELECT sum(n) FROM parts) AS parts;
CREATE PROCEDURE keep() LANGUAGE plpgsql AS \$\$
BEGIN
    FOR i IN 1 .. 5000 LOOP
        PERFORM get_or_set_cached_data('sums', 'SELECT plain, parts FROM sums');
        COMMIT;
        EXIT WHEN cache_exists('sums');
    END LOOP;
END \$\$;
SQL

sub cached { return $subscriber->safe_psql('postgres', q(SELECT cache_exists('sums'))); }
sub agrees {
    return $subscriber->safe_psql('postgres',
        q(SELECT get_or_set_cached_data('sums', 'SELECT plain, parts FROM sums') = jsonb_agg(sums) FROM sums));
}
sub keep { $subscriber->safe_psql('postgres', 'CALL keep()'); return cached(); }
sub reason { return $subscriber->safe_psql('postgres', q(SELECT concat_ws(' ', reason, name, status) FROM explain_invalidation('sums'))); }

# After each change by the publisher: gone, because of that table; and what is computed then is right.
sub changes {
    my ($name, $change, $because) = @_;
    is(keep(), 't', "$name: kept before");
    $publisher->safe_psql('postgres', $change);
    $publisher->wait_for_catchup('sub');
    is(cached(), 'f', "$name: gone");
    is(reason(), $because, "$name: it is known why") if defined $because;
    is(agrees(), 't', "$name: right");
}

is(keep(), 't', 'kept before there is a subscription');
$publisher->safe_psql('postgres', 'CREATE PUBLICATION pub FOR TABLE plain, parts, other');
my $connection = $publisher->connstr . ' dbname=postgres';
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION pub WITH (streaming = on, two_phase = on)");
# While the initial copy runs, never wrong.
for (1 .. 20) { is(agrees(), 't', 'right while it copies') or last; }
$subscriber->wait_for_subscription_sync($publisher, 'sub');
is(agrees(), 't', 'right after the initial copy');
is($subscriber->safe_psql('postgres', 'SELECT plain FROM sums'), '30', 'the rows are there');
# From here on prepared transactions are sent as such.
$subscriber->poll_query_until('postgres', q(SELECT subtwophasestate = 'e' FROM pg_subscription));

changes('INSERT', 'INSERT INTO plain VALUES (3, 30)', 'relation plain committed');
changes('UPDATE', 'UPDATE plain SET n = n + 1 WHERE id = 1', 'relation plain committed');
changes('DELETE', 'DELETE FROM plain WHERE id = 2', 'relation plain committed');
changes('a partition', 'INSERT INTO parts VALUES (300, 3)', 'relation parts_high committed');
changes('from one partition to another', 'UPDATE parts SET id = 400 WHERE id = 1');
changes('TRUNCATE', 'TRUNCATE plain', 'relation plain committed');
changes('savepoints', 'BEGIN; SAVEPOINT a; INSERT INTO plain VALUES (5, 5); ROLLBACK TO a; INSERT INTO plain VALUES (6, 6); COMMIT');
changes('a streamed transaction', 'INSERT INTO plain SELECT i, i FROM generate_series(1000, 4000) i');

is(keep(), 't', 'kept before what changes nothing of it');
$publisher->safe_psql('postgres', 'INSERT INTO other VALUES (1)');
$publisher->wait_for_catchup('sub');
is(cached(), 't', 'another table changes nothing');
$publisher->safe_psql('postgres', 'BEGIN; INSERT INTO plain SELECT i, i FROM generate_series(10000, 14000) i; ROLLBACK; INSERT INTO other VALUES (2)');
$publisher->wait_for_catchup('sub');
is(agrees(), 't', 'right after a streamed transaction that was rolled back');

# Prepared on both sides: until it is over nobody is served what it changes.
is(keep(), 't', 'kept before PREPARE');
$publisher->safe_psql('postgres', q(BEGIN; INSERT INTO plain VALUES (7, 70); PREPARE TRANSACTION 'p'));
$publisher->wait_for_catchup('sub');
$subscriber->poll_query_until('postgres', 'SELECT count(*) = 1 FROM pg_prepared_xacts');
is(cached(), 'f', 'in quarantine while it is prepared');
is(reason(), 'relation plain in progress', 'and it is known by whom');
is(agrees(), 't', 'right while it is prepared');
$publisher->safe_psql('postgres', q(COMMIT PREPARED 'p'));
$publisher->wait_for_catchup('sub');
$subscriber->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_prepared_xacts');
is(agrees(), 't', 'right after COMMIT PREPARED');

# Where nothing is counted, everything counts as written.
$subscriber->safe_psql('postgres', 'ALTER SYSTEM SET track_counts = off');
$subscriber->reload;
$subscriber->poll_query_until('postgres', q(SELECT current_setting('track_counts') = 'off'));
# The worker may have read its settings, or not: either way.
changes('track_counts = off', 'UPDATE plain SET n = n + 1 WHERE id = 6');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION sub DISABLE');
$subscriber->poll_query_until('postgres', 'SELECT count(*) = 0 FROM pg_stat_subscription WHERE pid IS NOT NULL');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION sub ENABLE');
changes('track_counts = off in a new worker', 'UPDATE plain SET n = n + 1 WHERE id = 6', 'definition committed');

# Beside a reader. Each answer is held against the table.
$subscriber->safe_psql('postgres', 'ALTER SYSTEM RESET track_counts');
$subscriber->reload;
$subscriber->poll_query_until('postgres', q(SELECT current_setting('track_counts') = 'on'));
my ($looks, $hits, $wrong) = (0, 0, 0);
for (1 .. 150) {
    $publisher->safe_psql('postgres', 'UPDATE plain SET n = n + 1 WHERE id = 6; UPDATE parts SET n = n + 1 WHERE id = 200');
    # Before the worker has applied it, meanwhile, or after.
    for (1 .. 1 + $_ % 3) {
        my $seen = $subscriber->safe_psql('postgres', <<'SQL');
SELECT concat(kept, '|', agrees)
FROM (SELECT cache_exists('sums') AS kept, get_or_set_cached_data('sums', 'SELECT plain, parts FROM sums') = jsonb_agg(sums) AS agrees FROM sums OFFSET 0) x
SQL
        $looks++;
        $hits++ if $seen =~ /^t/;
        $wrong++ if $seen !~ /\|t$/;
    }
}
note("$looks looks, $hits hits");
is($wrong, 0, 'never stale beside the apply worker');
cmp_ok($hits, '>', 0, 'with hits among it');
$publisher->wait_for_catchup('sub');
is(agrees(), 't', 'right in the end');

$subscriber->stop;
$publisher->stop;
done_testing();
