# No statement fails because of the extension that does not fail without it. The same statements, drawn from the same seed, are run by many sessions at once
# on a server without the library, where the functions are stubs that compute, and on one that preloads it; every error that the second one gives must be
# one that the first gives too.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sessions = 8;
my $statements = 700;
my $seed = $ENV{CHECKER_SEED} // int(rand(2**31));
note("seed $seed");

my $conf = <<'CONF';
max_connections = 40
fsync = off
deadlock_timeout = 20ms
log_statement = none
log_line_prefix = '%p: '
log_error_verbosity = verbose
CONF
my %nodes = (without => new_node('without', no_preload => 1, conf => $conf), with => new_node('with', conf => $conf));

my $common = <<'SQL';
CREATE TABLE stays (id int, n int);
INSERT INTO stays SELECT i, i FROM generate_series(1, 20) i;
-- Reads a table that may have gone, or changed, or come, by the time.
CREATE FUNCTION maybe(name text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    result bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %I', name) INTO result;
    RETURN result;
EXCEPTION WHEN undefined_table THEN
    RETURN (SELECT count(*) FROM stays);
END $$;
CREATE FUNCTION static_0() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT count(*) FROM d0, stays);
EXCEPTION WHEN undefined_table OR undefined_column THEN
    RETURN 0;
END $$;
-- Drops within a savepoint that is rolled back or not.
CREATE FUNCTION drops(name text, fails boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE format('DROP TABLE IF EXISTS %I CASCADE', name);
        IF fails THEN RAISE 'no'; END IF;
    EXCEPTION WHEN raise_exception THEN
        NULL;
    END;
END $$;
CREATE FUNCTION invalidates() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM invalidate_cache_by_tags(ARRAY[tg_table_name]);
    RETURN NULL;
END $$;
SQL
$nodes{with}->safe_psql('postgres', "CREATE EXTENSION cache_ext; $common");
$nodes{without}->safe_psql('postgres', <<"SQL");
CREATE FUNCTION get_or_set_cached_data(key text, query text, duration interval DEFAULT NULL, tags text[] DEFAULT NULL) RETURNS jsonb LANGUAGE plpgsql AS \$\$
DECLARE
    result jsonb;
BEGIN
    EXECUTE format('SELECT jsonb_agg(to_jsonb(q)) FROM (%s) q', query) INTO result;
    RETURN result;
END \$\$;
CREATE FUNCTION get_cached_data(key text) RETURNS jsonb LANGUAGE sql STABLE AS 'SELECT NULL::jsonb';
CREATE FUNCTION set_cached_data(key text, value jsonb, duration interval DEFAULT NULL, p_cache_tags text[] DEFAULT NULL) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION invalidate_cache_by_tags(tags text[]) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
$common
SQL

# What a session does: a list of scripts, each a statement or a transaction.
my @makers = (
    sub { my $t = shift; "CREATE TABLE IF NOT EXISTS $t (id int, n int);" },
    sub { my $t = shift; "CREATE TABLE $t (id int, n int);" },
    sub { my $t = shift; "CREATE TABLE $t AS SELECT * FROM stays;" },
    sub { my $t = shift; "DROP TABLE IF EXISTS $t;" },
    sub { my $t = shift; "DROP TABLE IF EXISTS $t CASCADE;" },
    sub { my $t = shift; "DROP TABLE IF EXISTS $t, stays_not, d0, d1;" },
    sub { my $t = shift; "DROP TABLE $t;" },
    sub { my $t = shift; "BEGIN; DROP TABLE IF EXISTS $t; CREATE TABLE $t (id int, n int); INSERT INTO $t VALUES (1, 1); COMMIT;" },
    sub { my $t = shift; "BEGIN; SAVEPOINT a; DROP TABLE IF EXISTS $t; ROLLBACK TO a; SELECT maybe('$t'); COMMIT;" },
    sub { my ($t, $r) = @_; "SELECT drops('$t', " . ($r % 2 ? 'true' : 'false') . ');' },
    sub { my ($t, $r) = @_; "INSERT INTO $t VALUES ($r, $r);" },
    sub { my $t = shift; "UPDATE stays SET n = n + 1 WHERE id = 1; SELECT get_or_set_cached_data('stays', 'SELECT sum(n) FROM stays');" },
    sub { my $t = shift; "TRUNCATE $t;" },
    sub { my $t = shift; "ALTER TABLE $t ADD COLUMN IF NOT EXISTS more int;" },
    sub { my $t = shift; "ALTER TABLE IF EXISTS $t ALTER n TYPE bigint;" },
    sub { my $t = shift; "ALTER TABLE IF EXISTS $t RENAME TO ${t}_was; DROP TABLE IF EXISTS ${t}_was;" },
    sub { my $t = shift; "CREATE INDEX ON $t (n);" },
    sub { my $t = shift; "CREATE OR REPLACE VIEW v_$t AS SELECT count(*) AS c FROM $t;" },
    sub { my $t = shift; "DROP VIEW IF EXISTS v_$t;" },
    sub { my $t = shift; "GRANT SELECT ON $t TO PUBLIC;" },
    sub { my $t = shift; "CREATE TRIGGER changed AFTER INSERT OR UPDATE OR TRUNCATE ON $t FOR EACH STATEMENT EXECUTE FUNCTION invalidates();" },
    sub { my $t = shift; "CREATE TEMP TABLE IF NOT EXISTS own_$t AS SELECT * FROM stays; DROP TABLE IF EXISTS own_$t;" },
    sub { my $t = shift; "CREATE OR REPLACE FUNCTION f_$t() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM stays';" },
    sub { my $t = shift; "DROP FUNCTION IF EXISTS f_$t();" },
    (sub { my $t = shift; "SELECT get_or_set_cached_data('maybe:$t', \$\$SELECT maybe('$t')\$\$);" }) x 4,
    (sub { my $t = shift; "SELECT get_or_set_cached_data('static', 'SELECT static_0()');" }) x 2,
    (sub { my $t = shift; "SELECT get_or_set_cached_data('count:$t', 'SELECT count(*) FROM $t');" }) x 4,
    (sub { my $t = shift; "SELECT get_or_set_cached_data('view:$t', 'SELECT * FROM v_$t');" }) x 2,
    sub { my $t = shift; "SELECT get_or_set_cached_data('function:$t', 'SELECT f_$t()');" },
    sub { my $t = shift; "SELECT get_or_set_cached_data('join:$t', 'SELECT count(*) FROM $t JOIN stays USING (id) JOIN pg_class c ON c.oid = stays.id');" },
    sub { my $t = shift; "BEGIN; SELECT get_or_set_cached_data('in:$t', \$\$SELECT maybe('$t'), static_0()\$\$); INSERT INTO stays VALUES (100, 1); DROP TABLE IF EXISTS $t; COMMIT;" },
    sub { my $t = shift; "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM stays; SELECT get_or_set_cached_data('old:$t', \$\$SELECT maybe('$t')\$\$); COMMIT;" },
    sub { my $t = shift; "BEGIN; SELECT set_cached_data('s', '1', NULL, '{$t,stays}'); SELECT maybe('$t'); SELECT get_cached_data('s'); COMMIT;" },
    sub { my $t = shift; "VACUUM $t;" },
);

sub draw {
    my ($session) = @_;
    srand($seed + $session);
    my $script = '';
    for (1 .. $statements) {
        my $table = 'd' . int(rand(4));
        $script .= $makers[ int(rand(@makers)) ]->($table, int(rand(1000))) . "\n";
    }
    return $script;
}

# The errors of a server's log since a place in it: code and text, with names and numbers taken out; how often; and how the first one read.
sub errors_of {
    my ($log) = @_;
    my (%count, %example);
    while ($log =~ /^(\d+: (?:ERROR|FATAL|PANIC):  (\w+): (.*(?:\n\t.*)*)(?:\n\d+: (?:LOCATION|CONTEXT|DETAIL|HINT|STATEMENT).*(?:\n\t.*)*)*)/mg) {
        my ($all, $code, $text) = ($1, $2, $3);
        $text =~ s/"[^"]*"|\b(v_|f_)?[de]\d(_was)?\b/…/g;
        $text =~ s/\d+/N/g;
        # Where in the server's code, so that one place is not taken for another.
        my ($where) = $all =~ /LOCATION:  (\w+)/;
        my $what = "$code $text" . ($code eq 'XX000' ? " in $where" : '');
        $count{$what}++;
        $example{$what} //= $all;
    }
    return (\%count, \%example);
}

# Runs a script for each session, all at once. Returns what they said.
my $dir = PostgreSQL::Test::Utils::tempdir;
my $runs = 0;
sub at_once {
    my ($node, @scripts) = @_;
    my @running;
    for my $script (@scripts) {
        my $file = "$dir/" . ++$runs;
        append_to_file($file, $script);
        # What it says goes to a file, since nobody would read it while another one is waited for.
        push @running, { said => "$file.said", handle => IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-f', $file, '-o', '/dev/null' ], '<', \'', '2>', "$file.said") };
    }
    $_->{handle}->finish for @running;
    return @running;
}

my (%seen, %example);
for my $kind (qw(without with)) {
    my $node = $nodes{$kind};
    my $at = -s $node->logfile;
    my @runs = at_once($node, map { draw($_) } 1 .. $sessions);
    is(join(',', map { $_->{handle}->result(0) } @runs), join(',', (0) x $sessions), "$kind the library: every session came to its end")
      or diag(map { slurp_file($_->{said}) =~ /^(.*FATAL.*|.*PANIC.*|.*server closed.*)$/m } @runs);
    ($seen{$kind}, $example{$kind}) = errors_of(slurp_file($node->logfile, $at));
    note("$kind the library: ", join ', ', map { "$seen{$kind}{$_} × $_" } sort keys %{ $seen{$kind} });
}
cmp_ok(scalar(keys %{ $seen{without} }), '>', 5, 'the statements do fail, in several ways');

# Races of the server's own, which a run may meet and another may not.
my @known = (
    qr/^23505 duplicate key value violates unique constraint/,    # two create the same
    qr/^40P01 /,                                                  # deadlock
    qr/^40001 /,
    qr/^42P07 /, qr/^42P01 /, qr/^42703 /, qr/^42883 /, qr/^42710 /, qr/^42809 /, qr/^42P16 /,    # there is one already, none (any more), or another one
    qr/^2BP01 /,                                                  # something depends on it
    qr/^25P02 /,                                                  # after another error in a transaction
    # two change or drop the same, in commands that look it up before they lock it
    qr/^XX000 tuple concurrently (deleted|updated) in simple_heap_/,
    qr/^XX000 cache lookup failed for relation N in ExecGrant_Relation/,
    qr/^XX000 cache lookup failed for function N in get_func_prokind/,
    qr/^XX000 cache lookup failed for relation N in RangeVarCallback/,
);
sub own { return grep { my $error = $_; !$seen{without}{$error} && !grep { $error =~ $_ } @known } sort keys %{ $_[0] }; }

# What one run without it did not meet another may.
sub again {
    my $at = -s $nodes{without}->logfile;
    at_once($nodes{without}, @_);
    my ($count) = errors_of(slurp_file($nodes{without}->logfile, $at));
    $seen{without}{$_} += $count->{$_} for keys %$count;
}
for (1 .. 10) { last if !own($seen{with}); again(map { draw($_) } 1 .. $sessions); }
my @own = own($seen{with});
is(join("\n", map { "$seen{with}{$_} × $_: $example{with}{$_}" } @own), '', 'no error with the library that there is not without it');
unlike(slurp_file($nodes{with}->logfile), qr/PANIC|WARNING(?!:  42P01: skipping vacuum)/, 'and no warning');

# Many sessions drop the same names, which is where most of the server's own look-ups race.
{
    my $at = -s $nodes{with}->logfile;
    my $script = join '', map { my $t = 'e' . $_ % 3; "DROP TABLE IF EXISTS $t;\nCREATE TABLE IF NOT EXISTS $t (id int, n int);\nSELECT get_or_set_cached_data('count', 'SELECT maybe(''$t'')');\n" } 1 .. 300;
    at_once($nodes{with}, ($script) x $sessions);
    my ($count, $example) = errors_of(slurp_file($nodes{with}->logfile, $at));
    for (1 .. 10) { last if !own($count); again(($script) x $sessions); }
    my @others = own($count);
    is(join("\n", map { "$count->{$_} × $_: $example->{$_}" } @others), '', 'nor where all drop and create the same names');
    note(join ', ', map { "$count->{$_} × $_" } sort keys %$count);
}

$_->stop for values %nodes;
done_testing();
