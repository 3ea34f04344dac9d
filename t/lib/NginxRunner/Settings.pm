package NginxRunner::Settings;

# What a test file or the environment may choose for the whole run: one hash,
# read by every part of the runner. The defaults are those of Test::Nginx.

use strict;
use warnings;

use Exporter qw( import );
use File::Spec;

use FreePort qw( free_port );

our @EXPORT = qw( %set servroot_paths );

my $port = $ENV{TEST_NGINX_SERVER_PORT} || $ENV{TEST_NGINX_PORT} || 1984;
my $root = $ENV{TEST_NGINX_SERVROOT} || File::Spec->rel2abs('t/servroot');

if ($ENV{TEST_NGINX_RANDOMIZE}) {
    $port = free_port();
    $root = File::Spec->rel2abs("t/servroot_$port");
}

our %set = (
    binary              => $ENV{TEST_NGINX_BINARY} || 'nginx',
    load_modules        => $ENV{TEST_NGINX_LOAD_MODULES} || '',
    port                => $port,
    client_port         => $ENV{TEST_NGINX_CLIENT_PORT} || $port,
    servroot            => $root,
    server_addr         => '127.0.0.1',
    server_name         => 'localhost',
    workers             => 1,
    worker_connections  => 64,
    master_process      => $ENV{TEST_NGINX_MASTER_PROCESS} || 'off',
    log_level           => $ENV{TEST_NGINX_LOG_LEVEL} || 'debug',
    event_type          => $ENV{TEST_NGINX_EVENT_TYPE},
    worker_user         => $ENV{TEST_NGINX_WORKER_USER},
    timeout             => $ENV{TEST_NGINX_TIMEOUT} || 3,
    no_shuffle          => $ENV{TEST_NGINX_NO_SHUFFLE},
    no_clean            => $ENV{TEST_NGINX_NO_CLEAN},
    use_hup             => $ENV{TEST_NGINX_USE_HUP},
    verbose             => $ENV{TEST_NGINX_VERBOSE},
    randomize           => $ENV{TEST_NGINX_RANDOMIZE},
    repeat_each         => 1,
    no_long_string      => 0,
    no_root_location    => 0,
    accumulate_log      => $ENV{TEST_NGINX_CHECK_ACCUM_ERR_LOG},
    config_preamble     => '',
    env_to_nginx        => [],
);

$ENV{TEST_NGINX_SERVER_ROOT} = $set{servroot};
$ENV{TEST_NGINX_SERVER_PORT} = $set{port}
    if !defined $ENV{TEST_NGINX_SERVER_PORT};


# The real runner can do these; ours would only pretend.

for my $mode (qw( CHECK_LEAK BENCHMARK USE_STAP USE_RR USE_HTTP2 USE_HTTP3 )) {
    die "TEST_NGINX_$mode needs the real Test::Nginx\n"
        if $ENV{"TEST_NGINX_$mode"};
}


sub servroot_paths {
    my $root = $set{servroot};

    return (
        conf        => "$root/conf",
        conf_file   => "$root/conf/nginx.conf",
        html        => "$root/html",
        cache       => "$root/cache",
        logs        => "$root/logs",
        error_log   => "$root/logs/error.log",
        access_log  => "$root/logs/access.log",
        pid_file    => "$root/logs/nginx.pid",
    );
}


1;
