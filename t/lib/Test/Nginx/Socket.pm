package Test::Nginx::Socket;

# The door our t/*.t files come in by. It decides who runs them: the real
# Test::Nginx when it is installed anywhere else in @INC, else our own small
# runner, NginxRunner, which knows the sections that we use and no others.
# Either listens on a port that is free, and has a directory of its own, so that
# files can run side by side; unless the variables say where.

use strict;
use warnings;

use Cwd qw( realpath );
use Fcntl qw( LOCK_EX LOCK_NB );
use File::Spec;

use FreePort qw( free_port );

use constant SERVROOTS_MAX => 64;

my $real;
my $servroot_lock;              # held as long as the file runs

# t/servroot, or the first t/servroot_N, that no other file has.

sub servroot {
    for my $n (1 .. SERVROOTS_MAX) {
        my $root = $n == 1 ? 't/servroot' : "t/servroot_$n";

        open $servroot_lock, '>', "$root.lock" or die "$root.lock: $!\n";

        return File::Spec->rel2abs($root)
            if flock $servroot_lock, LOCK_EX | LOCK_NB;
    }

    die "all servroots are taken\n";
}


BEGIN {
    $ENV{TEST_NGINX_PORT} ||= free_port()
        if !$ENV{TEST_NGINX_SERVER_PORT} && !$ENV{TEST_NGINX_RANDOMIZE};

    $ENV{TEST_NGINX_SERVROOT} ||= servroot() if !$ENV{TEST_NGINX_RANDOMIZE};

    my $own = realpath(__FILE__);

    for my $dir (grep { !ref } @INC) {
        my $file = "$dir/Test/Nginx/Socket.pm";

        next if !-f $file || realpath($file) eq $own;

        $real = realpath($file);
        last;
    }
}

if (defined $real) {
    require $real;

} else {
    require NginxRunner;

    our @ISA = ('NginxRunner');

    no warnings 'once';

    *import = sub {
        shift;
        unshift @_, 'NginxRunner';
        goto &{ NginxRunner->can('import') };
    };
}

1;
