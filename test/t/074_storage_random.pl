# Storage usage under random statements of one session: after each statement, within triggers and cursors, and in each snapshot it is the sum over the table.
#
# CHECKER_SEED: which (another each time). CHECKER_TRANSACTIONS: how many (100).
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CHECKER_SEED} // int(rand(2**31));
my $transactions = $ENV{CHECKER_TRANSACTIONS} || 100;
note("seed $seed");
srand($seed);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'\nautovacuum = off\nfsync = off");
$node->start;
$node->safe_psql('postgres', q(
    CREATE EXTENSION cache_ext;
    CREATE TABLE objects (bucket_id text, name text, owner_id text, owner uuid, metadata jsonb, UNIQUE (name, bucket_id));
    CREATE FUNCTION u(n int) RETURNS uuid IMMUTABLE LANGUAGE sql AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
    SELECT enable_storage_usage_cache('objects');
    CREATE TABLE comparisons (n bigint);
    CREATE SEQUENCE compared;
    -- Raises nothing, so that what is done and rolled back goes on as it was drawn.
    CREATE FUNCTION compare(p_where text) RETURNS void LANGUAGE plpgsql AS $$
        DECLARE counted record; truth record;
        BEGIN
            FOR i IN 1..3 LOOP
                SELECT total_bytes, file_count, buckets INTO counted FROM get_user_storage_usage(u(i));
                SELECT coalesce(sum(bytes), 0) AS total_bytes, coalesce(sum(files), 0) AS file_count,
                       coalesce(jsonb_object_agg(bucket, jsonb_build_object('total_bytes', bytes, 'file_count', files)), '{}') AS buckets INTO truth
                FROM (SELECT coalesce(bucket_id, '') AS bucket, sum(cache_ext_internal.storage_object_size(metadata)) AS bytes, count(*) AS files
                      FROM objects WHERE coalesce(owner_id, owner::text) = u(i)::text GROUP BY 1) b;
                PERFORM nextval('compared');
                IF (counted.total_bytes, counted.file_count, counted.buckets) IS DISTINCT FROM (truth.total_bytes, truth.file_count, truth.buckets) THEN
                    RAISE WARNING 'wrong %, user %: % instead of %', p_where, i, counted, truth;
                END IF;
            END LOOP;
        END $$;
    CREATE FUNCTION quota() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM compare(concat_ws(' ', tg_name, tg_op)); RETURN coalesce(new, old); END $$;
    CREATE TRIGGER a_before BEFORE INSERT OR UPDATE OR DELETE ON objects FOR EACH ROW EXECUTE FUNCTION quota();
    CREATE TRIGGER z_after AFTER INSERT OR UPDATE OR DELETE ON objects FOR EACH ROW EXECUTE FUNCTION quota();
    CREATE CONSTRAINT TRIGGER z_deferred AFTER INSERT OR UPDATE ON objects DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION quota();));

sub one_of { return $_[ rand @_ ]; }
sub owner { return one_of('u(1)', 'u(2)', 'u(3)', 'NULL'); }
sub bucket { return one_of(q('a'), q('b'), q('ü"\\'), 'NULL'); }
sub name_of { return sprintf q('n%d'), rand 12; }
sub metadata {
    return one_of('NULL', map { "'$_'" } '{}', '[]', '{"size": 7}', '{"size": "12"}', '{"size": 1e3}', '{"size": 1.5}', '{"size": 9223372036854775807, "size": 4}',
        '{"size": "007"}', '{"size": -3}', '{"size": 900000000000000}');
}
sub row { return sprintf '(%s, %s, %s, %s, %s)', bucket(), name_of(), owner(), owner(), metadata(); }

sub statement {
    my $kind = int rand 9;
    return 'INSERT INTO objects VALUES ' . join(', ', map { row() } 0 .. rand 3) . ' ON CONFLICT DO NOTHING' if $kind < 3;
    return 'INSERT INTO objects VALUES ' . row() . ' ON CONFLICT (name, bucket_id) DO UPDATE SET metadata = excluded.metadata, owner_id = excluded.owner_id' if $kind == 3;
    return sprintf q(UPDATE objects SET owner_id = %s, bucket_id = %s, name = name || '%d' WHERE name = %s RETURNING (SELECT file_count FROM get_user_storage_usage(u(1)))),
        owner(), bucket(), rand 99999, name_of() if $kind == 4;
    return 'DELETE FROM objects WHERE name < ' . name_of() if $kind == 5;
    return 'MERGE INTO objects o USING (VALUES ' . row() . ') v (b, n, w, x, m) ON o.name = v.n WHEN MATCHED AND random() < 0.5 THEN DELETE '
        . 'WHEN MATCHED THEN UPDATE SET metadata = v.m::jsonb WHEN NOT MATCHED THEN INSERT (bucket_id, name, owner_id, metadata) VALUES (v.b, v.n, v.w::text, v.m::jsonb)' if $kind == 6;
    return 'TRUNCATE objects' if $kind == 7 && rand() < 0.4;
    return one_of('SELECT refresh_storage_usage_cache()', 'SELECT invalidate_storage_usage_cache(u(1))', 'SELECT 1');
}

my @script = ('SELECT setseed(' . rand() . ')');
for my $n (1 .. $transactions) {
    my ($depth, $has_cursor) = (0, rand() < 0.3);
    push @script, 'BEGIN' . one_of('', ' ISOLATION LEVEL REPEATABLE READ');
    push @script, "DECLARE c$n CURSOR FOR SELECT compare('cursor') FROM generate_series(1, 20)" if $has_cursor;
    for (0 .. rand 7) {
        my $what = rand;
        if ($what < 0.15) { push @script, 'SAVEPOINT s' . ++$depth; }
        elsif ($what < 0.25 && $depth) { push @script, "ROLLBACK TO s$depth"; }
        elsif ($what < 0.33 && $depth) { push @script, 'RELEASE s' . $depth--; }
        else { push @script, 'SAVEPOINT before', statement(), "SELECT compare('statement')"; }
        push @script, "FETCH 1 FROM c$n" if $has_cursor && rand() < 0.4;
    }
    push @script, one_of('COMMIT', 'COMMIT', 'ROLLBACK'), q(SELECT compare('transaction'));
}

# A statement that fails (a name that is there already, a TRUNCATE under a cursor) is rolled back, as psql does it.
my ($out, $errors);
$node->psql('postgres', join(";\n", @script) . ";\n", stdout => \$out, stderr => \$errors, on_error_stop => 0, extra_params => [ '-q', '-v', 'ON_ERROR_ROLLBACK=on' ]);
my @wrong = grep { /wrong/ } split /\n/, $errors;
is(join("\n", @wrong), '', 'usage is the sum over the table, whenever somebody asks') or note join ";\n", @script;
cmp_ok($node->safe_psql('postgres', 'SELECT last_value FROM compared'), '>', 10 * $transactions, 'and was compared often');
is(join("\n", grep { /ERROR/ && !/duplicate key|cannot TRUNCATE|must not be changed|MERGE command cannot affect|could not serialize/ } split /\n/, $errors), '', 'no other error');
$node->stop;

done_testing();
