# Reads a package index (paragraphs of "Field: value") and prints a psql script that loads it.
#
#   perl packages.pl [MOST] <index        at most MOST packages, all if it is 0 or missing

use strict;
use warnings;
use File::Basename;
require(dirname(__FILE__) . "/lines.pl");

my $most = shift // 0;
my (%seen, @dependencies);

print "COPY packages (name, version, section, maintainer, installed_kb, description) FROM stdin;\n";
$/ = "";    # a paragraph at a time
while (my $paragraph = <STDIN>) {
    my ($description) = $paragraph =~ /^Description(?:-en)?:[ \t]*(.*)/mi;    # its first line
    $paragraph =~ s/\n[ \t]+/ /g;    # a field may go on in the next line
    my %field;
    while ($paragraph =~ /^([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*?)[ \t]*$/mg) {
        $field{lc $1} = $2 unless exists $field{lc $1};
    }
    my $name = $field{package};
    # dpkg's own list also has packages of which only the settings are left.
    next if !defined $name || $name eq '' || exists $field{status} && $field{status} !~ / installed$/;
    next if $seen{$name}++;    # another version or architecture
    my $size = $field{'installed-size'} // 0;
    $size = 0 unless $size =~ /^[0-9]{1,15}$/;
    print copy_line(map { defined $_ ? well_formed($_) : undef }
        $name, $field{version}, $field{section} // 'unknown', $field{maintainer} // 'unknown', $size,
        $description // '');

    for my $kind ('depends', 'pre-depends', 'recommends') {
        my $list = $field{$kind} // next;
        $list =~ s/\([^)]*\)|\[[^]]*\]|<[^>]*>//g;    # versions, architectures, profiles
        for my $other (split /[,|]/, $list) {
            $other =~ s/^\s+|\s+$//g;
            $other =~ s/:[a-z0-9]+$//;                 # name:any
            push @dependencies, copy_line(well_formed($name), $kind, well_formed($other)) if $other ne '';
        }
    }
    last if $most > 0 && keys %seen >= $most;
}
print "\\.\nCOPY dependencies (package, kind, dependency) FROM stdin;\n", @dependencies, "\\.\n";
