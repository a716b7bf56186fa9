# Shared by packages.pl and files.pl: values for COPY's text format. Nothing beyond perl-base is used.

use strict;
use warnings;

# One well-formed UTF-8 sequence, as bytes.
my $character = qr/[\x01-\x7f]
    | [\xc2-\xdf][\x80-\xbf]
    | \xe0[\xa0-\xbf][\x80-\xbf] | [\xe1-\xec\xee\xef][\x80-\xbf]{2} | \xed[\x80-\x9f][\x80-\xbf]
    | \xf0[\x90-\xbf][\x80-\xbf]{2} | [\xf1-\xf3][\x80-\xbf]{3} | \xf4[\x80-\x8f][\x80-\xbf]{2}/x;

my %escape = ("\\" => "\\\\", "\t" => "\\t", "\n" => "\\n", "\r" => "\\r");

# Bytes that are no UTF-8 are shown as U+FFFD and their number in hexadecimal.
sub well_formed {
    my ($value) = @_;
    return $value if $value !~ /[^\x01-\x7f]/;
    $value =~ s/\G((?:$character)*+)([^\x01-\x7f]|\z)/$1 . ($2 eq '' ? '' : sprintf("\xef\xbf\xbd%02x", ord $2))/ge;
    return $value;
}

# copy_line(VALUE…): a line for COPY … FROM STDIN. An undefined value is a NULL.
sub copy_line {
    return join("\t", map {
        my $value = $_;
        if (defined $value) {
            $value =~ s/([\\\t\n\r])/$escape{$1}/g;
        } else {
            $value = '\N';
        }
        $value;
    } @_) . "\n";
}

1;
