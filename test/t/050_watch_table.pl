# Watches where a trigger is easily missed: rows that logical replication applies, and a database that was dumped and restored.
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node;

sub start {
    my ($name, $preload) = @_;
    $node = PostgreSQL::Test::Cluster->new($name);
    $node->init(allows_streaming => 'logical');
    $node->append_conf('postgresql.conf', "shared_preload_libraries = '$preload'\n");
    $node->start;
}

my @tags = qw(all p:1 p:2 p:3 other);

# The entries that are gone after `what` has happened.
sub gone {
    my ($database, $what) = @_;
    $node->safe_psql($database, join ';', map { "SELECT set_cached_data('$_', '1', p_cache_tags => ARRAY['$_'])" } @tags);
    is($node->safe_psql($database, "SELECT count(*) FROM query_cache"), scalar @tags, 'filled');
    ref $what ? $what->() : $node->safe_psql($database, $what);
    return join ' ', grep { $node->safe_psql($database, "SELECT cache_exists('$_')") eq 'f' } @tags;
}

# --- logical replication, from one database to another
my $tables = q(
    CREATE TABLE plain (id int PRIMARY KEY, n int);
    CREATE TABLE templates (id int PRIMARY KEY, n int);
    CREATE TABLE mixed (id int PRIMARY KEY, n int);
    CREATE TABLE conditions (id int PRIMARY KEY, n int);
    CREATE TABLE cascades (id int PRIMARY KEY, n int);
    CREATE TABLE parts (id int, n int, PRIMARY KEY (id, n)) PARTITION BY RANGE (n);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
    CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
    CREATE TABLE later (id int PRIMARY KEY, n int);
);
my @watched = qw(plain templates mixed conditions cascades parts);
my $row_triggers = q(SELECT string_agg(format('%s %s', tgrelid::regclass, tgenabled), ', ' ORDER BY tgrelid::regclass::text)
    FROM pg_trigger WHERE tgname LIKE 'cache_ext_watch_%_row');
sub applied {
    my ($sql) = @_;
    return sub { $node->safe_psql('origin', $sql); $node->wait_for_catchup('s'); };
}

sub replicate {
    $node->safe_psql('postgres', 'CREATE DATABASE origin');
    $node->safe_psql('postgres', 'CREATE DATABASE copy');
    $node->safe_psql('origin', $tables . join '', map { "INSERT INTO $_ VALUES (1, 1);" } @watched);
    $node->safe_psql('origin', q(CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root)));
    $node->safe_psql('origin', q(SELECT pg_create_logical_replication_slot('s', 'pgoutput')));
    $node->safe_psql('copy', $tables . q(
        CREATE EXTENSION cache_ext;
        SELECT watch_table('plain', ARRAY['all']);
        SELECT watch_table('templates', ARRAY['p:{id}']);
        SELECT watch_table('mixed', ARRAY['all', 'p:{id}']);
        SELECT watch_table('conditions', ARRAY['all', 'p:{id}'], 'old.n IS DISTINCT FROM new.n AND current_user = ''postgres''');
        SELECT watch_table('cascades', ARRAY['p:{id}'], p_cascade => 'SELECT ''p:'' || n FROM changed');
        SELECT watch_table('parts', ARRAY['all', 'p:{n}'], 'new.n > 5');
    ));
    is($node->safe_psql('copy', $row_triggers), 'mixed A, templates A', 'no subscription, no triggers for what it applies');
    my $from = $node->connstr('origin');
    is(gone('copy', sub {
        $node->safe_psql('copy', "CREATE SUBSCRIPTION s CONNECTION \$c\$$from\$c\$ PUBLICATION p WITH (create_slot = false, slot_name = 's')");
        $node->wait_for_subscription_sync($node, 's', 'copy');
    }), 'all p:1', 'the initial copy');
    is($node->safe_psql('copy', $row_triggers), 'cascades R, conditions R, mixed A, parts_1 R, parts_2 R, plain R, templates A', 'the subscription brought them');

    is(gone('copy', applied('INSERT INTO plain VALUES (2, 2)')), 'all', 'plain tags: an insert');
    is(gone('copy', applied('UPDATE plain SET n = 3')), 'all', 'an update');
    is(gone('copy', applied('DELETE FROM plain WHERE id = 2')), 'all', 'a delete');
    is(gone('copy', applied('TRUNCATE plain')), 'all', 'a truncate');
    is(gone('copy', applied('INSERT INTO templates VALUES (2, 2)')), 'p:2', 'templates: an insert');
    is(gone('copy', applied('UPDATE templates SET id = 3 WHERE id = 2')), 'p:2 p:3', 'an update');
    is(gone('copy', applied('DELETE FROM templates WHERE id = 3')), 'p:3', 'a delete');
    is(gone('copy', applied('TRUNCATE templates')), "@tags", 'a truncate');
    is(gone('copy', applied('UPDATE mixed SET n = 3')), 'all p:1', 'both');
    is(gone('copy', applied('UPDATE conditions SET n = n')), '', 'a condition that does not hold');
    is(gone('copy', applied('UPDATE conditions SET n = n + 1')), 'all p:1', 'a condition that holds');
    is(gone('copy', applied('UPDATE cascades SET n = 3')), 'p:1 p:3', 'a cascade');
    is(gone('copy', applied('INSERT INTO cascades VALUES (5, 2)')), 'p:2', 'a cascade of an insert');
    is(gone('copy', applied('INSERT INTO parts VALUES (7, 3)')), 'all p:3', 'a partition: broader than the condition, which needs both sides of what moves');
    is(gone('copy', applied('UPDATE parts SET n = 2 WHERE n = 1')), '', 'within a partition it is held against the condition');
    is(gone('copy', applied('UPDATE parts SET n = 12 WHERE n = 2')), 'all p:2', 'from one partition to another');

    # Watches that are made when the subscription is there.
    $node->safe_psql('copy', q(SELECT watch_table('later', ARRAY['other']); SELECT watch_table('parts_2', ARRAY['other']);));
    is(gone('copy', applied('INSERT INTO later VALUES (1, 1)')), 'other', 'watched afterwards');
    is(gone('copy', applied('INSERT INTO parts VALUES (8, 18)')), 'all other', 'a partition that is watched too, by the name of the whole');
    $node->safe_psql('copy', q(SELECT unwatch_table('parts_2'); CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (20) TO (30);));
    $node->safe_psql('origin', 'CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (20) TO (30)');
    is(gone('copy', applied('INSERT INTO parts VALUES (9, 21)')), 'all', 'a partition that came later');

    # Tables that come to the publication later, and to the subscription: watched before that, and by the names of partitions.
    my $more = q(CREATE TABLE added (id int PRIMARY KEY, n int);
        CREATE TABLE leaves (id int PRIMARY KEY, n int) PARTITION BY RANGE (id);
        CREATE TABLE leaves_1 PARTITION OF leaves FOR VALUES FROM (0) TO (10););
    $node->safe_psql('origin', $more . 'CREATE PUBLICATION q FOR TABLE leaves');
    $node->safe_psql('copy', $more . q(SELECT watch_table('added', ARRAY['all']); SELECT watch_table('leaves', ARRAY['other'])));
    $node->safe_psql('copy', 'ALTER SUBSCRIPTION s REFRESH PUBLICATION');
    $node->wait_for_subscription_sync($node, 's', 'copy');
    is(gone('copy', applied('INSERT INTO added VALUES (1, 1)')), 'all', 'added by a refresh');
    is(gone('copy', applied('UPDATE added SET n = 2')), 'all', 'an update of it');
    is(gone('copy', applied('DELETE FROM added')), 'all', 'a delete');
    $node->safe_psql('copy', 'ALTER SUBSCRIPTION s SET PUBLICATION q');
    $node->wait_for_subscription_sync($node, 's', 'copy');
    is(gone('copy', applied('INSERT INTO leaves VALUES (1, 1)')), 'other', 'a partition that is published by its own name');

    # It comes back while a transaction that watches is under way.
    $node->safe_psql('copy', 'ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s');
    is($node->safe_psql('copy', $row_triggers), 'mixed A, templates A', 'they went with the subscription');
    $node->poll_query_until('origin', q(SELECT active = false FROM pg_replication_slots WHERE slot_name = 's'))
        or die 'the slot is still in use';
    $node->safe_psql('copy', q(SELECT unwatch_table('added')));
    my $watching = $node->background_psql('copy', on_error_stop => 1);
    $watching->query_safe(q(BEGIN; SELECT watch_table('added', ARRAY['p:2'])));
    my $subscribing = $node->background_psql('copy', on_error_stop => 1);
    $subscribing->query_until(qr/begun/, "\\echo begun\nCREATE SUBSCRIPTION s CONNECTION \$c\$$from\$c\$ PUBLICATION p WITH (create_slot = false, slot_name = 's', copy_data = false);\n");
    $node->poll_query_until('copy', q(SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND locktype = 'object')) or die 'nobody waits';
    $watching->query_safe('COMMIT');
    $watching->quit;
    $subscribing->quit;
    is(gone('copy', applied('INSERT INTO added VALUES (5, 5)')), 'p:2', 'a watch that was made meanwhile');
    $node->safe_psql('copy', 'ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s; DROP TABLE added, leaves, later, parts_3');
}
start('main', '');
replicate();
$node->stop;
start('preloaded', 'cache_ext');
replicate();

# --- dump and restore
$node->safe_psql('postgres', 'CREATE ROLE keeper');
$node->safe_psql('copy', q(
    CREATE SCHEMA elsewhere;
    CREATE TABLE elsewhere.mapping (id int, other int);
    INSERT INTO elsewhere.mapping VALUES (1, 3);
    GRANT USAGE ON SCHEMA elsewhere TO keeper;
    GRANT SELECT ON elsewhere.mapping TO keeper;
    GRANT TRIGGER ON cascades TO keeper;
    GRANT EXECUTE ON FUNCTION watch_table TO keeper;
    SET ROLE keeper;
    SET search_path = elsewhere, public;
    SELECT watch_table('cascades', ARRAY['p:{id}', 'it''s \ "quoted"'], E'new.n <> 5 -- a comment\n', 'SELECT ''p:'' || other FROM mapping JOIN changed USING (id)');
    RESET ROLE;
    RESET search_path;
    CREATE TABLE base (id int);
    CREATE TABLE child () INHERITS (base);
    SELECT watch_table('base', ARRAY['all', 'p:{id}']);
    ALTER TABLE plain DISABLE TRIGGER ALL;
));
my $triggers = q(SELECT tgrelid::regclass, tgname, tgenabled, tgfoid::regproc, tgargs, tgtype FROM pg_trigger WHERE tgname LIKE 'cache%' ORDER BY tgrelid::regclass::text, 2);
my $watches = 'SELECT watched_table::text, tags, when_condition, cascade_query, owner, enabled FROM cache_watches ORDER BY 1';
my $seen = $node->safe_psql('copy', $watches);
for my $how (['plain', 'one stream'], ['custom', 'in parallel'], ['custom', 'with a subscription']) {
    my ($format, $name) = @$how;
    $node->safe_psql('copy', q(CREATE SUBSCRIPTION kept CONNECTION 'dbname=none' PUBLICATION p WITH (connect = false, slot_name = NONE)))
        if $name eq 'with a subscription';
    my $before = $node->safe_psql('copy', $triggers);
    my $file = $node->basedir . "/dump.$format";
    $node->safe_psql('postgres', 'DROP DATABASE IF EXISTS restored');
    $node->safe_psql('postgres', 'CREATE DATABASE restored');
    command_ok(['pg_dump', '-d', $node->connstr('copy'), '-F', substr($format, 0, 1), '-f', $file], "$name: dumped");
    command_ok($format eq 'plain' ? ['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('restored'), '-f', $file]
        : ['pg_restore', '-e', '-j', '2', '-d', $node->connstr('restored'), $file], "$name: restored without an error");
    is($node->safe_psql('restored', $triggers), $before, "$name: the triggers are the same");
    is($node->safe_psql('restored', $watches), $seen, "$name: the watches are the same");
    is($node->safe_psql('restored', 'SELECT count(*) FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())'),
        $name eq 'with a subscription' ? 1 : 0, "$name: subscriptions");
    $node->safe_psql('restored', 'DELETE FROM parts; DELETE FROM cascades; DELETE FROM conditions');
    is(gone('restored', 'INSERT INTO plain VALUES (8, 8)'), '', "$name: what was disabled is");
    is(gone('restored', 'INSERT INTO templates VALUES (2, 2)'), 'p:2', "$name: templates");
    is(gone('restored', 'INSERT INTO parts_2 VALUES (7, 12), (3, 11)'), 'all', "$name: a partition by name");
    is(gone('restored', 'INSERT INTO cascades VALUES (1, 5), (2, 5)'), '', "$name: a condition that does not hold");
    is(gone('restored', 'UPDATE cascades SET n = 6'), 'p:1 p:2 p:3', "$name: a cascade with its owner's rights and search_path");
    is(gone('restored', 'INSERT INTO child VALUES (2)'), 'all p:2', "$name: a table that inherits");
    $node->safe_psql('restored', 'CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (20) TO (30)');
    is(gone('restored', 'INSERT INTO parts_3 VALUES (1, 21)'), 'all', "$name: a partition that comes later");
    $node->safe_psql('restored', q(SELECT watch_table('parts', ARRAY['other'])));
    is(gone('restored', 'INSERT INTO parts_2 VALUES (7, 13)'), 'other', "$name: watching again replaces");
    $node->safe_psql('restored', "SELECT unwatch_table('$_')") for @watched, 'base';
    is($node->safe_psql('restored', $triggers), '', "$name: unwatched");
}

# A table that is dumped alone keeps its watch, where the extension is.
$node->safe_psql('postgres', 'CREATE DATABASE alone');
$node->safe_psql('alone', 'CREATE EXTENSION cache_ext');
my $alone = $node->basedir . '/alone.sql';
command_ok(['pg_dump', '-d', $node->connstr('copy'), '-t', 'mixed', '-f', $alone], 'one table dumped');
command_ok(['psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('alone'), '-f', $alone], 'and restored');
is(gone('alone', 'UPDATE mixed SET n = 9'), 'all p:1', 'with its watch');
is(gone('alone', 'DROP TABLE mixed'), "@tags", 'which goes with it');
$node->safe_psql('alone', 'DROP EXTENSION cache_ext');
is($node->safe_psql('alone', 'SELECT count(*) FROM pg_event_trigger'), '0', 'and the extension with all that it has');
$node->stop;
done_testing();
