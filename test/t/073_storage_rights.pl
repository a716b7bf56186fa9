# Storage on a Supabase server, as its roles may use it: enabled by postgres, which is no superuser; with a table storage_usage that the application has already;
# called by users over PostgREST.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use StorageService;
use SupabaseNode;
use Test::More;

my $node = new_supabase_node('rights', conf => "cache_ext.jwt_secret = 'secret'\n");
my @postgres = (session => 'postgres');
my @users = map { user_id($_) } 1 .. 3;

# What an application has made before: fewer columns, rows of its own, more columns than ours.
my (undef, $err) = run_as($node, 'postgres', <<"SQL", @postgres);
CREATE TABLE public.storage_usage (user_id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, total_bytes bigint, plan text DEFAULT 'free');
ALTER TABLE public.storage_usage ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON public.storage_usage FOR SELECT TO authenticated USING (user_id = auth.uid());
INSERT INTO auth.users (id, email) SELECT id, id || '\@example.org' FROM unnest('{$users[0],$users[1]}'::uuid[]) id;
INSERT INTO public.storage_usage (user_id, total_bytes, plan) VALUES ('$users[0]', 12345, 'pro');
SQL
is($err, '', 'the application has a table of its own');
$node->safe_psql('postgres', "INSERT INTO storage.buckets (id, name) VALUES ('b', 'b')");
$node->safe_psql('postgres', "CREATE POLICY own ON storage.objects TO authenticated USING (owner_id = auth.uid()::text)");

(undef, $err) = run_as($node, 'authenticated', 'SELECT enable_storage_usage_cache()', user => $users[0]);
like($err, qr/ERROR:  42501: /, 'a user does not enable it');
(undef, $err) = run_as($node, 'postgres', 'SELECT enable_storage_usage_cache()', @postgres);
unlike($err, qr/ERROR/, 'postgres does');
(undef, $err) = run_as($node, 'postgres', 'SELECT enable_storage_usage_cache()', @postgres);
unlike($err, qr/ERROR/, 'and again');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'storage.objects'::regclass AND tgfoid = 'handle_storage_change'::regproc"),
    '2', 'which makes nothing twice');
is($node->safe_psql('postgres', 'SELECT plan FROM public.storage_usage'), 'pro', 'the application keeps its row');
is($node->safe_psql('postgres', "SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute WHERE attrelid = 'public.storage_usage'::regclass AND attnum > 0"),
    'buckets file_count last_calculated_at plan total_bytes user_id', 'and its column, beside those that were missing');

# The service works as before, and usage is right.
$node->safe_psql('postgres', "\\o /dev/null\n" . join('', map { service_upload($users[$_], 'b', "$_/file", 1000 * ($_ + 1), 0) } 0 .. 2), extra_params => [ '-U', 'supabase_storage_admin' ]);
for my $method ([ GET => 1 ], [ POST => 0 ]) {
    my ($out, $trouble) = run_as($node, 'authenticated', 'SELECT u.total_bytes, u.file_count, u.buckets FROM get_user_storage_usage() u', user => $users[1], read_only => $method->[1]);
    is($out, '2000|1|{"b": {"file_count": 1, "total_bytes": 2000}}', "$method->[0]: a user's usage");
    ($out) = run_as($node, 'authenticated', "SELECT calculate_storage_usage() ->> 'total_bytes'", user => $users[1], read_only => $method->[1]);
    is($out, '2000', "$method->[0]: as an endpoint");
    ($out) = run_as($node, 'authenticated', "SELECT storage_cache_stats() ->> 'total_bytes'", user => $users[1], read_only => $method->[1]);
    is($out, '2000', "$method->[0]: and how it is kept");
}
for my $call ('refresh_storage_cache()', 'clear_storage_cache()') {
    my (undef, $trouble) = run_as($node, 'authenticated', "SELECT $call", user => $users[1], read_only => 1);
    like($trouble, qr/ERROR:  25006: /, "GET: $call");
    (undef, $trouble) = run_as($node, 'authenticated', "SELECT $call", user => $users[1]);
    is($trouble, '', "POST: $call");
    my ($out) = run_as($node, 'authenticated', 'SELECT total_bytes FROM get_user_storage_usage()', user => $users[1]);
    is($out, '2000', 'and the usage is still right');
}
(undef, $err) = run_as($node, 'authenticated', "SELECT get_user_storage_usage('$users[0]')", user => $users[1]);
like($err, qr/ERROR:  42501: /, "another user's usage is not shown");
my ($out) = run_as($node, 'service_role', "SELECT total_bytes FROM get_user_storage_usage('$users[0]')");
is($out, '1000', 'but to the service');
(undef, $err) = run_as($node, 'authenticated', 'SELECT calculate_storage_usage()');
like($err, qr/ERROR:  22004: /, 'who is nobody has no usage');

# The table of the application follows, for those who are users of it; row security shows each the own row.
$node->safe_psql('postgres', 'SELECT refresh_storage_usage_cache()');
ok($node->poll_query_until('postgres', "SELECT string_agg(concat_ws(':', right(user_id::text, 1), total_bytes, file_count, plan), ' ' ORDER BY user_id) = '1:1000:1:pro 2:2000:1:free' FROM public.storage_usage"),
    'the table of the application has the usage of its users');
($out) = run_as($node, 'authenticated', 'SELECT total_bytes FROM storage_usage', user => $users[1], read_only => 1);
is($out, '2000', 'a user sees the own row');
$node->safe_psql('postgres', "DELETE FROM auth.users WHERE id = '$users[1]'");
is($node->safe_psql('postgres', "SELECT count(*) FROM public.storage_usage WHERE user_id = '$users[1]'"), '0', 'the row goes with the user');

# Nobody who has not signed in may do anything.
my @calls = split /\n/, $node->safe_psql('postgres', <<'SQL');
SELECT format('%I(%s)', p.proname, (SELECT string_agg('NULL::' || format_type(t, NULL), ', ') FROM unnest(p.proargtypes) t))
FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'cache_ext'
WHERE p.proname ~ 'storage|signed_upload' AND p.prorettype <> 'trigger'::regtype AND p.pronamespace = 'public'::regnamespace
SQL
cmp_ok(scalar(@calls), '>=', 14, 'there are ' . @calls . ' functions');
for my $call (@calls) {
    (undef, $err) = run_as($node, 'anon', "SELECT $call");
    like($err, qr/ERROR:  42501: permission denied for function/, "anon: $call");
}
(undef, $err) = run_as($node, 'anon', 'SELECT * FROM cache_ext_internal.storage_totals');
like($err, qr/ERROR:  42501: /, 'anon: the tables underneath');
(undef, $err) = run_as($node, 'authenticated', 'SELECT * FROM cache_ext_internal.storage_totals', user => $users[0]);
like($err, qr/ERROR:  42501: /, 'nor may a user read them');

# A listing and links as a user has them, in requests that only read.
($out) = run_as($node, 'authenticated', "SELECT name FROM list_storage_objects('b')", user => $users[0], read_only => 1);
is($out, '0/file', 'a user lists the own objects');
($out) = run_as($node, 'authenticated', "SELECT count(*) FROM get_cache_metrics()", user => $users[0]);
# Links count for nothing.
(undef, $err) = run_as($node, 'authenticated', "SELECT create_signed_upload_url('b', '0/' || n) FROM generate_series(1, 20) n", user => $users[0]);
is($err, '', 'a user gets links for uploads');
($out) = run_as($node, 'authenticated', 'SELECT total_bytes, file_count FROM get_user_storage_usage()', user => $users[0]);
is($out, '1000|1', 'and they do not count as usage');
is($node->safe_psql('postgres', "SELECT count(*) FROM cache_ext_internal.storage_deltas WHERE owner = '$users[0]' AND changed_at > now() - interval '1 minute' AND files = 0"), '0',
    'nor leave anything to be added up');

# Where there was no table, one is made.
my $fresh = new_supabase_node('fresh');
(undef, $err) = run_as($fresh, 'postgres', 'SELECT enable_storage_usage_cache()', @postgres);
unlike($err, qr/ERROR/, 'postgres enables it where there is no table yet');
is($fresh->safe_psql('postgres', "SELECT relrowsecurity FROM pg_class WHERE oid = 'storage_usage'::regclass"), 't', 'the table that is made has row security');
for my $privilege ('SELECT', 'INSERT', 'UPDATE', 'DELETE') {
    is($fresh->safe_psql('postgres', "SELECT has_table_privilege('anon', 'storage_usage', '$privilege')"), 'f', "anon: no $privilege on it");
}

done_testing();
