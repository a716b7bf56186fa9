# What the tests of coherence across the states of a server have in common: a table that is watched, a computation over it, and a look at
# both sides.
package CoherenceNode;
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Exporter 'import';
our @EXPORT = qw(new_node install fill look many value $FILL $LOOK);

our $FILL = q(SELECT set_cached_data('k', truth(), p_cache_tags => '{t}'));
our $LOOK = q(SELECT concat_ws('|', coalesce(c::text, 'miss'), v) FROM (SELECT get_cached_data('k') AS c, truth() AS v OFFSET 0) s);

# A running server with the library preloaded, unless told otherwise, and further settings.
sub new_node {
    my ($name, %options) = @_;
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init(allows_streaming => 1);
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'") unless $options{no_preload};
    $node->append_conf('postgresql.conf', "max_prepared_transactions = 20\nrestart_after_crash = on\nautovacuum = off\n" . ($options{conf} // ''));
    $node->start;
    return $node;
}

sub install {
    my ($node, $database) = @_;
    $node->safe_psql($database // 'postgres', <<'SQL');
CREATE EXTENSION IF NOT EXISTS cache_ext;
CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO t VALUES (1, 10), (2, 20);
CREATE TRIGGER t_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON t
    FOR EACH STATEMENT EXECUTE FUNCTION trigger_cache_invalidation('t');
CREATE FUNCTION truth() RETURNS jsonb STABLE LANGUAGE sql AS $$ SELECT to_jsonb(sum(n)) FROM t $$;
SQL
}

sub value { my ($node, $query, $database) = @_; return $node->safe_psql($database // 'postgres', $query); }

# True: the set was accepted.
sub fill { return value($_[0], $FILL, $_[1]) eq 't'; }

# "cached|truth", each under one snapshot; "miss" for a miss.
sub look { return value($_[0], $LOOK, $_[1]); }

# Many short transactions that invalidate a tag.
sub many {
    my ($node, $count, $tag) = @_;
    $node->safe_psql('postgres', "DO \$\$ BEGIN FOR i IN 1..$count LOOP PERFORM invalidate_cache_by_tags('{$tag}'); COMMIT; END LOOP; END \$\$");
}

1;
