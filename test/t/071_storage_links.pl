# Links to storage objects, checked with another HMAC than the server's, and as an interface before the server calls for them.
use strict;
use warnings FATAL => 'all';
use Digest::SHA qw(hmac_sha256);
use FindBin;
use JSON::PP qw(decode_json);
use lib $FindBin::RealBin;
use MIME::Base64 qw(decode_base64url encode_base64url);
use SupabaseNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $secret = 'a secret of the project, with "quotes" and some length';
my $node = new_supabase_node('links', conf => "cache_ext.jwt_secret = '$secret'\n");
$node->safe_psql('postgres', <<'SQL');
INSERT INTO storage.buckets (id, name) VALUES ('photos', 'photos');
INSERT INTO storage.objects (bucket_id, name, owner_id) SELECT 'photos', n || '/cat.png', format('00000000-0000-4000-8000-%s', lpad(n::text, 12, '0')) FROM generate_series(1, 2) n;
CREATE POLICY own ON storage.objects TO authenticated USING (owner_id = auth.uid()::text);
SQL

# What a token says; undef where it was signed with anything but the secret.
sub claims_of {
    my ($link) = @_;
    my ($signed, $signature) = $link =~ /\?token=([\w-]+\.[\w-]+)\.([\w-]+)$/ or return;
    return if $signature ne encode_base64url(hmac_sha256($signed, $secret));
    my ($header, $claims) = map { decode_base64url($_) } split /\./, $signed;
    return if $header ne '{"alg":"HS256"}';
    return decode_json($claims);
}

my $me = user_id(1);
my ($out, $err) = run_as($node, 'authenticated', q{SELECT create_signed_storage_url('photos', '1/cat.png', 3600)}, user => $me, read_only => 1);
is($err, '', 'a user gets a link in a read-only transaction');
like($out, qr{^/object/sign/photos/1/cat\.png\?token=}, 'it is the path that the service serves');
my $claims = claims_of($out);
is_deeply([ sort keys %{ $claims // {} } ], [ 'exp', 'iat', 'scope', 'url' ], 'its token is signed with the secret, and says no more than it must');
is("$claims->{scope} $claims->{url}", 'download photos/1/cat.png', 'for the download of one object');
is($claims->{exp} - $claims->{iat}, 3600, 'for an hour');
cmp_ok(abs($claims->{iat} - time), '<', 60, 'from now on');

(undef, $err) = run_as($node, 'authenticated', q{SELECT create_signed_storage_url('photos', '2/cat.png', 3600)}, user => $me);
like($err, qr/ERROR:  42704: storage object "photos\/2\/cat\.png" does not exist, or the caller may not see it/, 'none of an object that is hidden');

($out, $err) = run_as($node, 'authenticated', q{SELECT create_signed_upload_url('photos', 'new file.png')}, user => $me);
is($err, '', 'a user gets a link for an upload');
like($out, qr{^/object/upload/sign/photos/new%20file\.png\?token=}, 'it is the path that the service takes');
$claims = claims_of($out);
is(join('|', map { "$_=$claims->{$_}" } qw(owner scope upsert url)), "owner=$me|scope=upload|upsert=0|url=photos/new file.png", 'its token says who and what');
(undef, $err) = run_as($node, 'authenticated', q{SELECT create_signed_upload_url('photos', 'new.png')}, user => $me, read_only => 1);
like($err, qr/ERROR:  25006: /, 'not in a read-only transaction');
(undef, $err) = run_as($node, 'authenticated', q{SELECT create_signed_upload_url('photos', '1/cat.png')}, user => $me);
like($err, qr/ERROR:  23505: /, 'not in the place of another object');
($out) = run_as($node, 'authenticated', q{SELECT create_signed_upload_url('photos', '1/cat.png', true)}, user => $me);
is(claims_of($out)->{upsert}, 1, 'unless it may be replaced');
(undef, $err) = run_as($node, 'authenticated', q{SELECT create_signed_upload_url('photos', '2/cat.png', true)}, user => $me);
like($err, qr/ERROR:  42501: /, 'which another user\'s may not');
($out) = run_as($node, 'service_role', q{SELECT create_signed_upload_url('photos', 'x.png')});
is(claims_of($out)->{owner}, undef, 'an upload by the service key belongs to nobody');
is($node->safe_psql('postgres', 'SELECT count(*) FROM storage.objects'), '2', 'what was tried is not there');

for my $call (q{create_signed_storage_url('photos', '1/cat.png', 3600)}, q{create_signed_upload_url('photos', 'x')}, q{get_public_storage_url('photos', 'x')}) {
    (undef, $err) = run_as($node, 'anon', "SELECT $call");
    like($err, qr/ERROR:  42501: permission denied for function/, "anon: $call");
}

# Who cannot see the setting gets links all the same, and finds the secret nowhere.
for my $role ('authenticated', 'service_role') {
    ($out) = run_as($node, $role, q{SELECT count(*) FROM pg_settings WHERE name = 'cache_ext.jwt_secret'});
    is($out, '0', "$role is not shown the secret");
    (undef, $err) = run_as($node, $role, q{SELECT current_setting('cache_ext.jwt_secret')});
    like($err, qr/ERROR:  42501: /, 'nor told it when asking');
}
unlike(slurp_file($node->logfile), qr/\Q$secret\E/, 'nor does the log tell it');

# A new secret counts from the next reload on.
$secret = 'another';
$node->safe_psql('postgres', "ALTER SYSTEM SET cache_ext.jwt_secret = 'another'");
$node->reload;
ok($node->poll_query_until('postgres', "SELECT current_setting('cache_ext.jwt_secret') = 'another'"), 'reloaded');
ok(claims_of($node->safe_psql('postgres', q{SELECT create_signed_storage_url('photos', '1/cat.png', 60)})), 'it signs with the new secret');

done_testing();
