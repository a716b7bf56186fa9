# The environment that the tests of storage run in is what it claims to be: its roles have the rights that Supabase's have, and no more.
use strict;
use warnings FATAL => 'all';
use FindBin;
use lib $FindBin::RealBin;
use SupabaseNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_supabase_node('supabase');
my @postgres = (session => 'postgres');

is($node->safe_psql('postgres', "SELECT rolname FROM pg_roles WHERE rolsuper"), 'supabase_admin', 'only supabase_admin is a superuser');
is($node->safe_psql('postgres', "SELECT rolbypassrls FROM pg_roles WHERE rolname = 'postgres'"), 't', 'postgres is above row security');

# What postgres may do with the table of objects.
my ($out, $err) = run_as($node, 'postgres', <<'SQL', @postgres);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER noted AFTER INSERT ON storage.objects REFERENCING NEW TABLE AS fresh FOR EACH ROW EXECUTE FUNCTION noted();
SQL
is($err, '', 'postgres may create a trigger on storage.objects');
for my $not ('DROP TRIGGER noted ON storage.objects', 'ALTER TABLE storage.objects DISABLE TRIGGER noted', 'ALTER TABLE storage.objects ADD COLUMN x int',
    'CREATE INDEX ON storage.objects (owner_id)', 'CREATE POLICY p ON storage.objects USING (true)')
{
    (undef, $err) = run_as($node, 'postgres', $not, @postgres);
    like($err, qr/42501: must be owner/, "but not: $not");
}

# Default privileges reach what is made in public, by postgres and by supabase_admin.
(undef, $err) = run_as($node, 'postgres', 'CREATE TABLE public.by_postgres (id int)', @postgres);
is($err, '', 'postgres creates a table in public');
$node->safe_psql('postgres', 'CREATE TABLE public.by_admin (id int)');
is($node->safe_psql('postgres', "SELECT bool_and(has_table_privilege('anon', t, 'SELECT, INSERT')) FROM unnest('{by_postgres,by_admin}'::regclass[]) t"),
    't', 'anon has all on new tables');
is($node->safe_psql('postgres', "SELECT has_function_privilege('anon', 'get_cached_data(text, interval)', 'EXECUTE')"), 'f', 'but nothing of ours');

# The service inserts on behalf of callers; row security without a policy shows and takes nothing; nobody deletes by hand.
$node->safe_psql('postgres', "INSERT INTO storage.buckets (id, name) VALUES ('b', 'b')");
my @service = (session => 'supabase_storage_admin');
($out, $err) = run_as($node, 'service_role', q{INSERT INTO storage.objects (bucket_id, name, owner_id) VALUES ('b', 'x/y.txt', 'me') RETURNING path_tokens}, @service);
like($out, qr/^\{x,y.txt\}$/m, 'the service inserts as service_role');
(undef, $err) = run_as($node, 'authenticated', q{INSERT INTO storage.objects (bucket_id, name) VALUES ('b', 'z')}, @service, user => user_id(1));
like($err, qr/42501: new row violates row-level security policy/, 'not as a user without a policy');
($out, $err) = run_as($node, 'authenticated', 'SELECT count(*) FROM storage.objects', @service, user => user_id(1));
is($out, '0', 'nor is anything shown');
(undef, $err) = run_as($node, 'service_role', 'DELETE FROM storage.objects', @service);
like($err, qr/42501: rows of the storage tables/, 'a delete by hand is refused');
(undef, $err) = run_as($node, 'service_role', q{SET LOCAL storage.allow_delete_query = 'true'; DELETE FROM storage.objects}, @service);
is($err, '', 'a delete by the service is not');
($out, $err) = run_as($node, 'authenticated', 'SELECT auth.uid(), current_user, session_user', user => user_id(7));
is($out, user_id(7) . '|authenticated|authenticator', 'who calls is known');

done_testing();
