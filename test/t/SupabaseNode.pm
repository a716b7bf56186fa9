# A server as Supabase sets one up: its superuser is supabase_admin, so that postgres is the plain role that it is there.
package SupabaseNode;
use strict;
use warnings FATAL => 'all';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Exporter 'import';
our @EXPORT = qw(new_supabase_node run_as settings_of user_id);

# A running server with the library preloaded and the extension created, as the server's superuser does it for postgres. Options: no_preload; conf,
# further settings; older, for the storage service from before owner_id; no_extension.
sub new_supabase_node {
    my ($name, %options) = @_;
    $ENV{PGUSER} = 'supabase_admin';
    my $node = PostgreSQL::Test::Cluster->new($name);
    $node->init(extra => [ '-U', 'supabase_admin' ]);
    $node->append_conf('postgresql.conf', "shared_preload_libraries = 'cache_ext'") unless $options{no_preload};
    $node->append_conf('postgresql.conf', "autovacuum = off\n" . ($options{conf} // ''));
    $node->start;
    my $folder = "$ENV{CACHE_EXT_SOURCE}/test/supabase";
    my $variant = $options{older} ? "\\set older 1\n" : '';
    $node->safe_psql('postgres', "$variant\\i $folder/setup.sql");
    $node->safe_psql('postgres', 'CREATE EXTENSION cache_ext SCHEMA public') unless $options{no_extension};
    return $node;
}

# The id of a user of the application.
sub user_id { return sprintf('00000000-0000-4000-8000-%012d', $_[0]); }

# What a transaction on behalf of a caller begins with. User undef: nobody is signed in, the role alone says who calls.
sub settings_of {
    my ($role, $user) = @_;
    my $sub = defined $user ? sprintf('"sub":"%s",', $user) : '';
    return "SELECT set_config('role', '$role', true), set_config('request.jwt.claims', '{$sub\"role\":\"$role\"}', true);";
}

# Runs statements in one transaction as PostgREST (session user authenticator) or the storage service (supabase_storage_admin) does on behalf of a caller.
# Options: user, the caller's id; session, the session's user; read_only. Returns (standard output, standard error) without what the settings print.
sub run_as {
    my ($node, $role, $statements, %options) = @_;
    my $session = $options{session} // 'authenticator';
    my $mode = $options{read_only} ? ' READ ONLY' : '';
    my $settings = settings_of($role, $options{user});
    my ($out, $err) = ('', '');
    $node->psql('postgres', "\\o /dev/null\nBEGIN$mode;\n$settings\n\\o\n$statements;\nCOMMIT;", stdout => \$out, stderr => \$err,
        on_error_stop => 1, extra_params => [ '-U', $session, '-v', 'VERBOSITY=verbose' ]);
    return ($out, $err);
}

1;
