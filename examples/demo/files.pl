# Reads what  find -printf '%s\t%T@\t%U\t%p\0'  printed and prints a psql script that loads the files as storage objects.
#
#   perl files.pl FOLDER [MOST] <files       paths are taken relative to FOLDER; MOST as for packages.pl
#
# The bucket is the folder's subfolder, the owner the installed package to which the file belongs, or its user.

use strict;
use warnings;
use File::Basename;
require(dirname(__FILE__) . "/lines.pl");

my $folder = shift // die "which folder?\n";
my $most = shift // 0;

my %package_of;
for my $list (glob '/var/lib/dpkg/info/*.list') {
    my ($package) = $list =~ m{/([^/:]+)(?::[^/]*)?\.list$} or next;
    open my $paths, '<', $list or next;
    while (my $path = <$paths>) {
        chomp $path;
        $path =~ s{^/(bin|sbin|lib[^/]*)/}{/usr/$1/};    # where these are links into /usr
        $package_of{$path} //= $package;
    }
}

my $count = 0;
print "COPY storage.objects (bucket_id, name, owner_id, created_at, metadata) FROM stdin;\n";
$/ = "\0";
while (my $record = <STDIN>) {
    chomp $record;
    my ($size, $changed, $user, $path) = split /\t/, $record, 4;
    next unless defined $path && index($path, "$folder/") == 0;
    my $owner = $package_of{$path} // "user $user";
    my $name = substr($path, 1 + length $folder);
    my $bucket = $name =~ s{^([^/]+)/}{} ? $1 : 'files';
    my $shown = well_formed($name);
    # Different bytes must not become the same name.
    $shown .= " #$." if $shown ne $name;
    $changed =~ s/\..*//;
    print copy_line(well_formed($bucket), $shown, well_formed($owner), timestamp($changed),
        qq({"size": $size, "lastModified": $changed}));
    last if $most > 0 && ++$count >= $most;
}
print "\\.\n";

sub timestamp {
    my ($second, $minute, $hour, $day, $month, $year) = gmtime shift;
    return sprintf '%04d-%02d-%02d %02d:%02d:%02d+00', $year + 1900, $month + 1, $day, $hour, $minute, $second;
}
