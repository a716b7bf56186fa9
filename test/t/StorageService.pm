# What the storage service does in SQL for each request, as scripts for psql: the same transactions, roles and settings, in the same order.
package StorageService;
use strict;
use warnings FATAL => 'all';
use Exporter 'import';
our @EXPORT = qw(service_upload service_upload_ownerless service_delete service_delete_many service_move service_copy service_resumable service_empty in_request);

# True: the service is one from before owner_id.
our $older = 0;

my $version = 0;

sub literal { my ($text) = @_; return defined $text ? "'" . $text =~ s/'/''/gr . "'" : 'NULL'; }

# A transaction that begins as the service's do: all that says who asks is set for it alone. User undef: with the service key.
sub transaction {
    my ($user, $operation, $statements, $end) = @_;
    my $role = defined $user ? 'authenticated' : 'service_role';
    my $claims = defined $user ? qq({"sub":"$user","role":"$role"}) : qq({"role":"$role"});
    return <<"SQL";
BEGIN;
SELECT set_config('role', '$role', true), set_config('request.jwt.claim.role', '$role', true), set_config('request.jwt', '', true),
    set_config('request.jwt.claim.sub', @{[ literal($user // '') ]}, true), set_config('request.jwt.claims', '$claims', true),
    set_config('request.headers', '{}', true), set_config('request.method', 'POST', true), set_config('request.path', '/object', true),
    set_config('storage.operation', 'storage.object.$operation', true), set_config('storage.allow_delete_query', 'true', true);
$statements;
$end;
SQL
}

sub lock_object { my ($bucket, $name) = @_; return "SELECT pg_advisory_xact_lock(hashtextextended(" . literal("$bucket/$name") . ", 0))"; }

sub metadata { my ($size) = @_; return defined $size
        ? qq('{"eTag": "\\"x\\"", "size": $size, "mimetype": "image/png", "cacheControl": "max-age=3600", "lastModified": "2026-01-01T00:00:00.000Z", "contentLength": $size, "httpStatusCode": 200}')
        : q('{"mimetype": "image/png", "contentLength": 100}'); }

# The columns that say whose an object is, and their values.
sub owners { my ($owner) = @_; my $id = literal($owner); return $older ? ([ owner => $id ]) : ([ owner => $id ], [ owner_id => $id ]); }

# The row of an object. With $replace also where there is one; without an owner that is left as it is.
sub insert {
    my ($bucket, $name, $owner, $size, $replace) = @_;
    my @given = ([ metadata => metadata($size) ], [ version => "'v" . $version++ . "'" ]);
    push @given, [ user_metadata => "'{}'" ] unless $older;
    push @given, owners($owner) if defined $owner;
    my @all = ([ bucket_id => literal($bucket) ], [ name => literal($name) ], @given);
    my $sql = sprintf 'INSERT INTO storage.objects (%s) VALUES (%s)', join(', ', map { $_->[0] } @all), join(', ', map { $_->[1] } @all);
    return $sql unless $replace;
    return "$sql ON CONFLICT (name, bucket_id) DO UPDATE SET " . join(', ', map { "$_->[0] = EXCLUDED.$_->[0]" } @given) . ' RETURNING *';
}

# What a caller may do is tried and rolled back; the rest of the script runs where it was allowed.
sub if_allowed {
    my ($user, $operation, $attempt, @rest) = @_;
    my $probe = transaction($user, $operation, $attempt, '\set denied :ERROR' . "\nROLLBACK");
    return "$probe\\if :denied\n\\else\n" . join('', @rest) . "\\endif\n";
}

sub finish_upload {
    my ($bucket, $name, $owner, $size) = @_;
    return transaction(undef, 'upload',
        lock_object($bucket, $name) . ";\nSELECT id, version, metadata FROM storage.objects WHERE bucket_id = " . literal($bucket) . ' AND name = ' . literal($name) . " FOR UPDATE;\n"
            . insert($bucket, $name, $owner, $size, 1), 'COMMIT');
}

sub service_upload {
    my ($user, $bucket, $name, $size, $replace) = @_;
    return transaction(undef, 'upload', 'SELECT id, file_size_limit, allowed_mime_types FROM storage.buckets WHERE id = ' . literal($bucket), 'COMMIT')
        . if_allowed($user, 'upload', insert($bucket, $name, $user, undef, $replace), finish_upload($bucket, $name, $user, $size));
}

# With the service key: nobody owns what is new, and what is there keeps its owner.
sub service_upload_ownerless {
    my ($bucket, $name, $size) = @_;
    return if_allowed(undef, 'upload', insert($bucket, $name, undef, undef, 1), finish_upload($bucket, $name, undef, $size));
}

# In pieces: the right to it is tried when it begins, and there is one row at the end.
sub service_resumable {
    my ($user, $bucket, $name, $size) = @_;
    return if_allowed($user, 'tus_upload_create', insert($bucket, $name, $user, undef, 1),
        transaction($user, 'tus_upload_part', 'SELECT 1', 'COMMIT') x 2, finish_upload($bucket, $name, $user, $size));
}

sub service_delete {
    my ($user, $bucket, $name) = @_;
    my $where = 'bucket_id = ' . literal($bucket) . ' AND name = ' . literal($name);
    return transaction(undef, 'delete', "SELECT id, version, metadata FROM storage.objects WHERE $where FOR UPDATE;\nSET LOCAL ROLE authenticated;\n"
            . qq(SELECT set_config('request.jwt.claims', '{"sub":"$user","role":"authenticated"}', true), set_config('request.jwt.claim.sub', '$user', true);\n)
            . "DELETE FROM storage.objects WHERE $where RETURNING *", 'COMMIT');
}

sub service_delete_many {
    my ($user, $bucket, @names) = @_;
    return transaction($user, 'delete_many', 'DELETE FROM storage.objects WHERE bucket_id = ' . literal($bucket) . ' AND name = ANY (ARRAY['
            . join(', ', map { literal($_) } @names) . "]) RETURNING *", 'COMMIT');
}

sub service_move {
    my ($user, $bucket, $name, $to_bucket, $to_name) = @_;
    my $where = 'bucket_id = ' . literal($bucket) . ' AND name = ' . literal($name);
    my $new = join ', ', map { "$_->[0] = $_->[1]" } [ name => literal($to_name) ], [ bucket_id => literal($to_bucket) ], [ version => "'v" . $version++ . "'" ], owners($user);
    return if_allowed($user, 'move', "SELECT 1 / count(*) FROM storage.objects WHERE $where;\nUPDATE storage.objects SET $new WHERE $where RETURNING *",
        transaction(undef, 'move', lock_object($bucket, $to_name) . ";\nSELECT id FROM storage.objects WHERE $where FOR UPDATE;\n"
                . "UPDATE storage.objects SET $new WHERE $where RETURNING *", 'COMMIT'));
}

# The copy has the size of its source, whatever that was when it was looked at.
sub service_copy {
    my ($user, $bucket, $name, $to_bucket, $to_name) = @_;
    my $where = 'bucket_id = ' . literal($bucket) . ' AND name = ' . literal($name);
    my @all = ([ bucket_id => literal($to_bucket) ], [ name => literal($to_name) ], [ metadata => 'metadata' ], [ version => "'v" . $version++ . "'" ], owners($user));
    my ($columns, $values) = map { my $part = $_; join ', ', map { $_->[$part] } @all } 0, 1;
    my $updates = join ', ', map { "$_->[0] = EXCLUDED.$_->[0]" } @all[ 2 .. $#all ];
    return if_allowed($user, 'copy', "SELECT 1 / count(*) FROM storage.objects WHERE $where;\n" . insert($to_bucket, $to_name, $user, undef, 0),
        transaction(undef, 'copy', lock_object($to_bucket, $to_name) . ";\nINSERT INTO storage.objects ($columns) SELECT $values FROM storage.objects WHERE $where"
                . " ON CONFLICT (name, bucket_id) DO UPDATE SET $updates RETURNING *", 'COMMIT'));
}

sub service_empty {
    my ($bucket) = @_;
    return transaction(undef, 'empty', 'DELETE FROM storage.objects WHERE bucket_id = ' . literal($bucket) . ' AND id IN (SELECT id FROM storage.objects WHERE bucket_id = '
            . literal($bucket) . ' AND created_at < now() ORDER BY name LIMIT 500) RETURNING *', 'COMMIT');
}

# A request to PostgREST, which runs a GET in a read-only transaction and has the role's statement timeout count.
sub in_request {
    my ($user, $statement, $method) = @_;
    my $mode = $method eq 'GET' ? 'READ ONLY' : 'READ WRITE';
    my ($role, $timeout, $claims) = defined $user ? ('authenticated', '8s', qq({"sub":"$user","role":"authenticated"})) : ('service_role', '1min', '{"role":"service_role"}');
    return <<"SQL";
BEGIN ISOLATION LEVEL READ COMMITTED $mode;
SELECT set_config('search_path', 'public, extensions', true), set_config('role', '$role', true), set_config('statement_timeout', '$timeout', true),
    set_config('request.jwt.claims', '$claims', true), set_config('request.method', '$method', true), set_config('request.path', '/rpc', true);
\\o
$statement;
\\o /dev/null
COMMIT;
SQL
}

1;
