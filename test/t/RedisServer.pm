# A Redis server for a test, on a socket of its own, and what breaks it: signals, restarts with and without its data, and a proxy that holds back,
# cuts and garbles. And a client, as an application has one.
package RedisServer;
use strict;
use warnings FATAL => 'all';
use Exporter 'import';
use IO::Select;
use IO::Socket::UNIX;
use POSIX ();
use PostgreSQL::Test::Utils;
use Socket qw(SOCK_STREAM AF_UNIX PF_UNSPEC);
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(becomes_true soon);

my @all;

# Waits until a condition holds, for as long as a machine may take that is busy with other things; a condition that dies does not hold yet. Whether it does.
sub becomes_true {
    my ($condition, $seconds) = @_;
    my $until = time + ($seconds // 60);
    my $holds;
    sleep 0.01 while !($holds = eval { $condition->() }) && time < $until;
    return $holds;
}

# The same as a test.
sub soon {
    my ($condition, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(becomes_true($condition), $what) || (diag($@), 0);
}

# CACHE_EXT_REDIS=valkey: the tests are run with Valkey.
sub program { return ($ENV{CACHE_EXT_REDIS} || 'redis') . '-server'; }

# Why there is none to be had; nothing where there is.
sub missing {
    my $program = program();
    for my $folder (split /:/, $ENV{PATH}) {
        return if -x "$folder/$program";
    }
    return "there is no $program (tools/setup installs it)";
}

# Not started yet. `args`: further settings of the server, as on its command line; `config`: the text of a file of settings, which the server may write to itself;
# `password`: what its clients have to say.
sub new {
    my ($class, %options) = @_;
    my $dir = PostgreSQL::Test::Utils::tempdir_short();
    chmod 0755, $dir;
    my $self = bless { dir => $dir, socket => "$dir/r.sock", args => $options{args} // [], save => $options{save} // '',
        password => $options{password}, owner => $$ }, $class;
    if (defined $options{config}) {
        append_to_file("$dir/conf", $options{config});
        $self->{config} = "$dir/conf";
    }
    push @all, $self;
    return $self;
}

sub url { my ($self, $options) = @_; return "unix:$self->{socket}" . ($options // ''); }

sub start {
    my ($self) = @_;
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        open STDIN, '<', '/dev/null';
        open STDOUT, '>>', "$self->{dir}/log";
        open STDERR, '>&', \*STDOUT;
        exec program(), $self->{config} // (), '--port', 0, '--unixsocket', $self->{socket}, '--unixsocketperm', 777, '--dir', $self->{dir}, '--daemonize', 'no',
            '--save', $self->{save}, @{ $self->{args} }
          or POSIX::_exit(1);
    }
    $self->{pid} = $pid;
    for (my $until = time + 60; time < $until;) {
        my $client = eval { $self->client };
        return $self if $client && (eval { $client->do('PING') } // '') eq 'PONG';
        die program() . " does not start:\n" . slurp_file("$self->{dir}/log") if waitpid($pid, POSIX::WNOHANG()) == $pid;
        sleep 0.02;
    }
    die program() . ' does not answer';
}

# Ends it: with SIGTERM as an administrator does, else as told.
sub stop {
    my ($self, $signal) = @_;
    my $pid = delete $self->{pid} or return;
    kill 'CONT', $pid;
    kill $signal // 'TERM', $pid;
    waitpid $pid, 0;
    unlink $self->{socket};
}

sub signal { my ($self, $signal) = @_; kill $signal, $self->{pid}; }

# What it kept on disk is gone.
sub forget { my ($self) = @_; unlink glob "$self->{dir}/*.rdb"; PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', "$self->{dir}/appendonlydir"); }

sub client {
    my ($self) = @_;
    my $client = RedisClient->new($self->{socket});
    $client->do('AUTH', $self->{password}) if defined $self->{password};
    return $client;
}

# A command by a connection of its own.
sub do { my ($self, @words) = @_; return $self->client->do(@words); }

# A proxy before it, in a process of its own; its address is `proxy_url`.
sub start_proxy {
    my ($self) = @_;
    my $path = "$self->{dir}/proxy.sock";
    my $listener = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $path, Listen => 64) or die "proxy: $!";
    chmod 0777, $path;
    socketpair(my $here, my $there, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
    my $pid = fork // die "fork: $!";
    if ($pid == 0) {
        close $here;
        eval { RedisServer::Proxy::run($listener, $there, $self->{socket}); 1 } or append_to_file("$self->{dir}/log", "the proxy died: $@");
        POSIX::_exit(0);
    }
    close $there;
    @$self{qw(proxy_pid proxy_control proxy_socket)} = ($pid, $here, $path);
    return $self;
}

sub proxy_url { my ($self, $options) = @_; return "unix:$self->{proxy_socket}" . ($options // ''); }

# What the proxy is to do from now on: "pass"; "hold" (nothing goes either way, connections are taken); "slow" (each piece a little later);
# "crumble" (in small pieces); and once: "cut" (all connections), "garble" (an answer each, which is replaced).
sub proxy {
    my ($self, $what) = @_;
    syswrite $self->{proxy_control}, "$what\n";
    sysread $self->{proxy_control}, my $done, 1;
}

sub end {
    my ($self) = @_;
    return if $self->{owner} != $$;
    $self->stop('KILL');
    if (my $pid = delete $self->{proxy_pid}) {
        kill 'KILL', $pid;
        waitpid $pid, 0;
    }
}

END {
    my $status = $?;
    $_->end for @all;
    $? = $status;
}

package RedisServer::Proxy;
use Time::HiRes qw(sleep time);

sub run {
    my ($listener, $control, $target) = @_;
    $SIG{PIPE} = 'IGNORE';
    my ($mode, %peer, %server_side, %later, %garble) = ('pass');
    my $drop = sub {
        my @both = grep { $_ } $_[0], $peer{ $_[0] };
        for my $one (@both) {
            delete $_->{$one} for \%server_side, \%later, \%garble;
            delete $peer{$one};
            close $one;
        }
    };
    my $send = sub {
        my ($to, $data) = @_;
        while (length $data) {
            my $done = syswrite $to, $data;
            return 0 unless defined $done;
            substr($data, 0, $done) = '';
        }
        return 1;
    };
    my %handle;
    for (;;) {
        my $select = IO::Select->new($control, $listener, $mode eq 'hold' ? () : values %handle);
        for my $ready ($select->can_read(0.005)) {
            if ($ready == $control) {
                my $line = readline $control;
                return unless defined $line;
                chomp $line;
                if ($line eq 'cut') {
                    for my $one (my @all = values %handle) { $drop->($one) if $peer{$one}; }
                    %handle = ();
                } elsif ($line eq 'garble') {
                    $garble{$_} = 1 for keys %server_side;
                } else {
                    $mode = $line;
                }
                syswrite $control, '.';
            } elsif ($ready == $listener) {
                my $client = $listener->accept or next;
                my $server = IO::Socket::UNIX->new(Type => Socket::SOCK_STREAM, Peer => $target);
                if (!$server) { close $client; next; }
                $_->blocking(1) for $client, $server;
                ($peer{$client}, $peer{$server}) = ($server, $client);
                $server_side{$server} = 1;
                ($handle{$client}, $handle{$server}) = ($client, $server);
            } elsif ($peer{$ready}) {
                my $other = $peer{$ready};
                my $got = sysread $ready, my $data, $mode eq 'crumble' ? 1 + int rand 7 : 65536;
                if ($got && delete $garble{$ready}) {
                    # Nothing that any Redis has ever said, whatever came before.
                    $data = "\x00\xff?HTTP/1.1 400 Bad Request\r\n\r\n" . $data;
                }
                sleep 0.003 if $mode eq 'slow';
                if (!$got || !$send->($other, $data)) {
                    delete @handle{ $ready, $other };
                    $drop->($ready);
                }
            }
        }
    }
}

package RedisClient;
use IO::Socket::UNIX;
use Time::HiRes qw(time);

sub new {
    my ($class, $path) = @_;
    my $socket = IO::Socket::UNIX->new(Type => Socket::SOCK_STREAM, Peer => $path) or die "no connection to $path: $!\n";
    return bless { socket => $socket, buffer => '', timeout => 60 }, $class;
}

sub send {
    my ($self, @words) = @_;
    local $SIG{PIPE} = 'IGNORE';
    utf8::encode($_) for grep { utf8::is_utf8($_) } @words;
    my $packed = '*' . @words . "\r\n" . join '', map { '$' . length($_) . "\r\n$_\r\n" } @words;
    while (length $packed) {
        my $done = syswrite $self->{socket}, $packed;
        die "the connection is lost: $!\n" unless defined $done;
        substr($packed, 0, $done) = '';
    }
}

# The next answer: text, number, undef, or a list of such. An error dies; without an answer in time, "no answer".
sub receive {
    my ($self, $timeout) = @_;
    my $until = time + ($timeout // $self->{timeout});
    for (;;) {
        my $at = 0;
        my @answer = eval { value(\$self->{buffer}, \$at) };
        my $error = $@;
        if (@answer || $error ne "incomplete\n") {
            substr($self->{buffer}, 0, $at) = '';
            die $error if !@answer;
            return $answer[0];
        }
        my $left = $until - time;
        die "no answer\n" if $left <= 0 || !IO::Select->new($self->{socket})->can_read($left);
        sysread($self->{socket}, $self->{buffer}, 65536, length $self->{buffer}) or die "the connection is lost\n";
    }
}

sub value {
    my ($buffer, $at) = @_;
    my $end = index $$buffer, "\r\n", $$at;
    die "incomplete\n" if $end < 0;
    my $type = substr $$buffer, $$at, 1;
    my $rest = substr $$buffer, $$at + 1, $end - $$at - 1;
    $$at = $end + 2;
    return $rest if $type eq '+' || $type eq ':';
    die "$rest\n" if $type eq '-';
    die "an answer that cannot be read: $type$rest\n" if $type !~ /[*\$]/ || $rest !~ /^-?\d+$/;
    return undef if $rest < 0;    ## no critic
    if ($type eq '$') {
        die "incomplete\n" if length($$buffer) < $$at + $rest + 2;
        my $text = substr $$buffer, $$at, $rest;
        $$at += $rest + 2;
        return $text;
    }
    my @list;
    for (1 .. $rest) { push @list, value($buffer, $at); }
    return \@list;
}

sub do { my ($self, @words) = @_; $self->send(@words); return $self->receive; }

# All messages of a channel that this client is subscribed to, up to one that another client says now.
sub messages_until_now {
    my ($self, $other, $channel) = @_;
    $other->do('PUBLISH', $channel, 'now');
    my @messages;
    for (;;) {
        my $push = $self->receive;
        next if $push->[0] ne 'message';
        return @messages if $push->[2] eq 'now';
        push @messages, $push->[2];
    }
}

# Messages that arrive within the time, or until there are as many as asked for; after SUBSCRIBE.
sub messages {
    my ($self, $count, $timeout) = @_;
    my @messages;
    my $until = time + ($timeout // 10);
    while (@messages < $count) {
        my $push = eval { $self->receive($until - time) };
        last if !defined $push;
        push @messages, $push->[2] if $push->[0] eq 'message';
    }
    return @messages;
}

1;
