# Whatever allocation in the shared memory fails: a miss or a false, nothing lost, nothing wrong, no error.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use CoherenceNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_node('main', conf => "cache_ext.memory = 1MB\n");
install($node);
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION fail_after(bigint) RETURNS boolean LANGUAGE c AS '$libdir/cache_ext', 'cache_ext_test_fail_after';
CREATE FUNCTION check_region() RETURNS boolean LANGUAGE c AS '$libdir/cache_ext', 'cache_ext_test_check';
CREATE FUNCTION used_bytes() RETURNS bigint LANGUAGE c AS '$libdir/cache_ext', 'cache_ext_test_used_bytes';
CREATE ROLE other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO other;
GRANT SELECT ON t TO other;
CREATE SEQUENCE tags;

-- What is done while allocations fail. Every value is checked against the truth.
CREATE PROCEDURE everything(n bigint) LANGUAGE plpgsql AS $$
DECLARE
    before jsonb := truth();
    answer jsonb;
BEGIN
    PERFORM set_cached_data('old', before, p_cache_tags => '{t,u}');
    COMMIT;
    PERFORM fail_after(n);
    -- new keys with new tags, small, large, compressible and not, in several scopes; replaced; added
    PERFORM set_cached_data('k', before, p_cache_tags => '{t}');
    COMMIT;
    PERFORM set_cached_data('k', before, p_cache_tags => ARRAY['t', 'a' || nextval('tags'), 'b' || nextval('tags')]);
    PERFORM set_cached_data('large', to_jsonb(repeat(md5(n::text), 2000)), p_cache_tags => ARRAY['large', 'c' || n]);
    PERFORM set_cached_data('random', (SELECT jsonb_agg(md5((n * i)::text)) FROM generate_series(1, 300) i), p_cache_tags => '{large}');
    PERFORM add_cached_data('added' || n, to_jsonb(n), p_cache_tags => ARRAY['d' || n]);
    COMMIT;
    PERFORM set_config('role', 'other', false);
    PERFORM set_cached_data('own' || n, to_jsonb(n), p_cache_tags => ARRAY['e' || n, 't']);
    COMMIT;
    PERFORM set_config('role', 'none', false);
    FOR i IN 1..40 LOOP
        PERFORM set_cached_data('many' || n || ':' || i, to_jsonb(i), p_cache_tags => ARRAY['f' || i]);
    END LOOP;
    COMMIT;
    answer := get_or_set_cached_data('computed', 'SELECT truth()', NULL, '{t}');
    IF answer <> before THEN RAISE EXCEPTION 'computed: % instead of %', answer, before; END IF;
    answer := get_or_set_cached_data('tracked', 'SELECT to_jsonb(sum(n)) FROM t');
    IF answer <> before THEN RAISE EXCEPTION 'tracked: % instead of %', answer, before; END IF;
    COMMIT;
    IF get_cached_data('k') <> before OR get_cached_data('old') <> before THEN RAISE EXCEPTION 'wrong before'; END IF;
    -- invalidations take no memory
    UPDATE t SET n = t.n + 1 WHERE id = 1;
    COMMIT;
    IF get_cached_data('k') <> truth() OR get_cached_data('old') <> truth() OR get_cached_data('computed') <> truth() OR get_cached_data('tracked') <> truth() THEN
        RAISE EXCEPTION 'stale after %', n;
    END IF;
    PERFORM invalidate_cache_by_tags('{large}');
    PERFORM invalidate_cache_by_pattern('many' || n || '*');
    PERFORM invalidate_cache_key('added' || n);
    COMMIT;
    IF get_cached_data('large') IS NOT NULL OR get_cached_data('many' || n || ':1') IS NOT NULL OR get_cached_data('added' || n) IS NOT NULL THEN
        RAISE EXCEPTION 'not invalidated after %', n;
    END IF;
    PERFORM fail_after(-1);
END $$;
SQL

my $failed = '';
for my $n (0 .. 60) {
    my ($status, $out, $err) = $node->psql('postgres', "CALL everything($n)");
    $failed .= "$n: $err\n" if $status != 0 || $err =~ /ERROR|WARNING/;
    my $after = value($node, 'SELECT fail_after(-1), check_region()');
    $failed .= "$n: the region disagrees with itself\n" if $after ne 't|t';
}
is($failed, '', 'with each of the first allocations failing, everything else goes on');
is(value($node, q(SELECT set_cached_data('again', '1'))), 't', 'then it works as ever');
is(value($node, q(SELECT get_cached_data('again'))), '1', 'and serves');

# --- nothing leaked: emptied, it is as it was
$node->safe_psql('postgres', q(SELECT invalidate_cache_by_pattern('*')));
my $used = value($node, 'SELECT used_bytes()');
for my $n (0 .. 60) { $node->psql('postgres', "CALL everything($n)"); }
$node->safe_psql('postgres', q(SELECT invalidate_cache_by_pattern('*')));
cmp_ok(value($node, 'SELECT used_bytes()'), '<=', $used, 'and no memory is lost');

# --- more than there is room for
is(value($node, q(SELECT count(*) FROM generate_series(1, 20000) i WHERE set_cached_data('fill' || i, to_jsonb(repeat('x', i % 700)), p_cache_tags => ARRAY['g' || i % 100, 'h' || i]) IS NULL)),
    '0', 'sets beyond the memory are answered');
is(value($node, 'SELECT check_region()'), 't', 'and the region is in order');
is(value($node, q(SELECT count(*) FROM generate_series(1, 20000) i WHERE get_cached_data('fill' || i) <> to_jsonb(repeat('x', i % 700)))), '0', 'what is left is right');
cmp_ok(value($node, q(SELECT count(get_cached_data('fill' || i)) FROM generate_series(1, 20000) i)), '>', 100, 'and there is something left');
is(value($node, q(SELECT set_cached_data('huge', to_jsonb(string_agg(md5(i::text), ''))) FROM generate_series(1, 30000) i)), 'f', 'what is larger than half of it is refused');
$node->safe_psql('postgres', q(SELECT invalidate_cache_by_tags(array_agg('g' || i)) FROM generate_series(0, 99) i));
is(value($node, q(SELECT count(get_cached_data('fill' || i)) FROM generate_series(1, 20000) i)), '0', 'and all of it can be invalidated');

$node->stop;
done_testing();
