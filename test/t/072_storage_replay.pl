# What the storage service does for many users at once. Each page of a listing is compared with the table under the same role and snapshot, and what users store
# with the sum over the table.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use IPC::Run ();
use PostgreSQL::Test::Utils;
use StorageService;
use SupabaseNode;
use Test::More;

my ($users, $sessions_each, $requests) = (3, 2, 50);
my $seed = $ENV{CHECKER_SEED} // int(rand(2**31));
note("seed $seed");
srand($seed);

my $policies = <<'SQL';
CREATE TABLE shares (owner text, reader text, PRIMARY KEY (owner, reader));
GRANT SELECT ON shares TO authenticated;
-- A user's files are in a folder of his name.
CREATE POLICY own ON storage.objects TO authenticated
    USING ((storage.foldername(name))[1] = auth.uid()::text) WITH CHECK ((storage.foldername(name))[1] = auth.uid()::text AND storage.extension(name) <> 'exe');
CREATE POLICY shared ON storage.objects FOR SELECT TO authenticated
    USING (EXISTS (SELECT FROM public.shares s WHERE s.owner = (storage.foldername(objects.name))[1] AND s.reader = auth.uid()::text));
INSERT INTO storage.buckets (id, name) VALUES ('one', 'one'), ('two', 'two');
-- What a page should be: the table itself, under the same role and snapshot.
CREATE FUNCTION wrong_page(p_bucket text, p_prefix text, p_limit int, p_offset int) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('%s of %s: %s instead of %s', p_prefix, p_bucket, page, truth)
    FROM (SELECT (SELECT array_agg(l::text) FROM public.list_storage_objects(p_bucket, p_prefix, p_limit, p_offset) l) AS page,
                 (SELECT array_agg(ROW(name, id, updated_at, created_at, last_accessed_at, metadata)::text)
                  FROM (SELECT * FROM storage.objects WHERE bucket_id = p_bucket AND starts_with(name, p_prefix)
                        ORDER BY name COLLATE "C" LIMIT p_limit OFFSET p_offset) o) AS truth) s
    WHERE page IS DISTINCT FROM truth
$$;
-- What somebody's usage should be.
CREATE FUNCTION true_usage(p_user text, OUT total_bytes bigint, OUT file_count bigint, OUT buckets jsonb) LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT coalesce(sum(bytes), 0), coalesce(sum(files), 0), coalesce(jsonb_object_agg(bucket_id, jsonb_build_object('total_bytes', bytes, 'file_count', files)), '{}')
    FROM (SELECT bucket_id, sum(coalesce((metadata ->> 'size')::bigint, 0)) AS bytes, count(*) AS files FROM storage.objects o
          WHERE coalesce(to_jsonb(o) ->> 'owner_id', to_jsonb(o) ->> 'owner') = p_user GROUP BY bucket_id) b
$$;
CREATE FUNCTION wrong_usage(p_user uuid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('usage of %s: %s instead of %s', p_user, u, t) FROM public.get_user_storage_usage(p_user) u, public.true_usage(p_user::text) t
    WHERE (u.total_bytes, u.file_count, u.buckets) IS DISTINCT FROM (t.total_bytes, t.file_count, t.buckets)
$$;
CREATE FUNCTION wrong_own_usage() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('own usage: %s instead of %s', u, t) FROM public.calculate_storage_usage() u, public.true_usage(auth.uid()::text) t
    WHERE (u ->> 'total_bytes', u ->> 'file_count', u -> 'buckets') IS DISTINCT FROM (t.total_bytes::text, t.file_count::text, t.buckets)
$$;
SQL

sub one_of { return $_[ rand @_ ]; }

sub name_for { my ($user) = @_; return join '/', $user, one_of('', 'a', 'a/b', 'c d'), one_of('1', '2', '3') . one_of('.png', '.png', '.exe'); }

# A read by anybody: of usage, or of one of the listings.
sub look {
    my ($user) = @_;
    return in_request($user, 'SELECT w FROM wrong_own_usage() w WHERE w IS NOT NULL', one_of('GET', 'POST')) if rand() < 0.2;
    return in_request(undef, sprintf("SELECT w FROM unnest('{%s}'::uuid[]) u, wrong_usage(u) w WHERE w IS NOT NULL", join(',', map { user_id($_) } 1 .. $users)), 'GET')
        if rand() < 0.2;
    my $other = user_id(1 + int(rand $users));
    my $prefix = one_of('', "$user/", "$user/a", "$user/a/", "$other/", "$other/a/b/", substr($other, 0, 20));
    my ($limit, $offset) = @{ one_of([ 100, 0 ], [ 3, 0 ], [ 3, 3 ]) };
    return in_request(one_of($user, $user, undef), sprintf("SELECT w FROM wrong_page('%s', '%s', %d, %d) w WHERE w IS NOT NULL", one_of('one', 'two'), $prefix, $limit, $offset), one_of('GET', 'POST'));
}

sub share { my ($user) = @_; return '\o /dev/null' . "\nSET ROLE service_role;\n" . sprintf(one_of("INSERT INTO public.shares VALUES ('%s', '%s') ON CONFLICT DO NOTHING;\n",
            "DELETE FROM public.shares WHERE owner = '%s' AND reader = '%s';\n"), $user, user_id(1 + int(rand $users))) . "RESET ROLE;\n"; }

sub change {
    my ($user) = @_;
    my ($bucket, $other_bucket, $name) = (one_of('one', 'two'), one_of('one', 'two'), name_for($user));
    my $size = int(rand 10000);
    my $what = rand;
    return service_upload($user, $bucket, $name, $size, rand() < 0.5) if $what < 0.4;
    return service_upload_ownerless($bucket, $name, $size) if $what < 0.45;
    return service_resumable($user, $bucket, $name, $size) if $what < 0.5;
    return service_move($user, $bucket, $name, $other_bucket, name_for($user)) if $what < 0.6;
    return service_copy($user, $bucket, $name, $other_bucket, name_for($user)) if $what < 0.7;
    return service_delete($user, $bucket, $name) if $what < 0.8;
    return service_delete_many($user, $bucket, map { name_for($user) } 1 .. 3) if $what < 0.9;
    return service_empty($bucket) if $what < 0.92;
    return share($user);
}

sub script_for { my ($user) = @_; return "\\o /dev/null\n" . join '', map { change($user) . join '', map { look($user) } 1 .. 3 } 1 .. $requests; }

# Runs all sessions at once. What they print is what was wrong; of errors only what is no part of the game.
sub play {
    my ($node) = @_;
    my @players;
    for my $number (0 .. $users * $sessions_each - 1) {
        my $player = { in => script_for(user_id(1 + $number % $users)), out => '', err => '' };
        $player->{run} = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-U', 'supabase_storage_admin', '-v', 'VERBOSITY=verbose' ],
            '<', \$player->{in}, '>', \$player->{out}, '2>', \$player->{err});
        push @players, $player;
    }
    $_->{run}->finish for @players;
    return (join('', map { $_->{out} } @players), join("\n", grep { /ERROR|FATAL|PANIC|WARNING/ && !/ERROR:  (42501|23505|22012|40P01|25P02)/ } map { split /\n/, $_->{err} } @players));
}

for my $how ('with preloading', 'with preloading, an older service', 'without preloading') {
    my $node = new_supabase_node($how =~ s/\W+/_/gr, no_preload => $how eq 'without preloading', older => scalar($how =~ /older/),
        conf => "max_connections = 30\nfsync = off\n");
    $node->safe_psql('postgres', $policies);
    $StorageService::older = $how =~ /older/;
    my (undef, $trouble) = run_as($node, 'postgres', 'SELECT enable_storage_usage_cache()', session => 'postgres');
    is($trouble, '', "$how: enabled by postgres");
    my ($wrong, $errors) = play($node);
    is($wrong, '', "$how: every page and every usage was what the table said");
    is($errors, '', "$how: and nothing failed that does not fail without us");
    cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM storage.objects'), '>', 0, "$how: something was uploaded");
    my $hits = $node->safe_psql('postgres', 'SELECT hits FROM get_cache_metrics()');
    cmp_ok($hits, '>', 0, "$how: pages came from the cache ($hits)");
    $node->stop;
}

done_testing();
