package FreePort;

# Free TCP ports, without a race against another run of the tests: a port is
# bound, for as long as the process lives, by a socket that never listens.
# Nobody else can bind it who asks here or in freeport.py, and the kernel gives
# it to no outgoing connection. The server that it is meant for can, because
# it binds with SO_REUSEADDR, as all servers do.

use strict;
use warnings;

use Exporter qw( import );
use Socket qw( PF_INET SOCK_STREAM SOL_SOCKET SO_REUSEADDR INADDR_ANY
               pack_sockaddr_in );

our @EXPORT_OK = qw( free_port );

# below the range of outgoing connections, above what is well known
use constant {
    FIRST => 20000,
    LAST  => 31999,
    TRIES => 1000,
};

my @held;


# The first of $count ports in a row.

sub free_port {
    my $count = shift // 1;

    for (1 .. TRIES) {
        my $first = FIRST + int rand(LAST - FIRST + 2 - $count);
        my @sockets = map { hold($_) // () } $first .. $first + $count - 1;

        next if @sockets < $count;

        push @held, @sockets;
        return $first;
    }

    die "no free port\n";
}


# Bound without SO_REUSEADDR, so that whoever else has the port is noticed.

sub hold {
    my ($port) = @_;

    socket my $socket, PF_INET, SOCK_STREAM, 0 or die "socket() failed: $!\n";

    bind $socket, pack_sockaddr_in($port, INADDR_ANY) or return undef;
    setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1
        or die "setsockopt(SO_REUSEADDR) failed: $!\n";

    return $socket;
}

1;
