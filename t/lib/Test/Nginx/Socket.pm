package Test::Nginx::Socket;

# The door our t/*.t files come in by. It decides who runs them: the real
# Test::Nginx when it is installed anywhere else in @INC, else our own small
# runner, NginxRunner, which knows the sections that we use and no others.
# Either listens on a port that is free, unless one of the variables says where.

use strict;
use warnings;

use Cwd qw( realpath );

use FreePort qw( free_port );

my $real;

BEGIN {
    $ENV{TEST_NGINX_PORT} ||= free_port()
        if !$ENV{TEST_NGINX_SERVER_PORT} && !$ENV{TEST_NGINX_RANDOMIZE};

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
