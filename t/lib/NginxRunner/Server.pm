package NginxRunner::Server;

# The nginx under test: its servroot, its nginx.conf, its start and its end.
# One server at a time, found again through its pid file, so that one that an
# earlier run left behind is stopped too. Every wait has a limit.

use strict;
use warnings;

use Exporter qw( import );
use File::Path qw( make_path remove_tree );
use IO::Socket::INET;
use POSIX qw( WNOHANG );
use Test::More ();

use NginxRunner::Settings;
use NginxRunner::Util;

our @EXPORT = qw( start_server stop_server reload_server run_expecting_death
                  write_user_files server_pid );

my %path = servroot_paths();
my $generation = 0;     # of the configuration, when blocks follow by HUP
my $child;              # valgrind's, which stays in the foreground


sub server_pid {
    my $pid = read_file($path{pid_file});

    return undef if !defined $pid || $pid !~ /^(\d+)\s*$/;
    return $1;
}


sub start_server {
    my ($block) = @_;
    my $name = $block->name;

    prepare($block);

    my ($status, $tries) = (0, 0);

    # An address is free again a moment after its last owner went away.

    await(10, sub {
        $status = run_nginx($block);
        return $status == 0
               || (read_file($path{error_log}) // '')
                  !~ /bind\(\) to .* failed .*Address already in use/;
    });

    if ($status != 0) {
        warn read_file($path{error_log}) // '';
        bail_out("$name - Cannot start nginx (status $status)\n");
    }

    await($set{timeout}, sub { server_pid() && is_listening() })
        or bail_out("$name - nginx has no pid file or listens to nobody\n");
}


sub stop_server {
    my ($name) = @_;
    my $pid = server_pid();

    if (defined $pid && is_alive($pid)) {
        verbose("QUIT to $pid");
        kill $ENV{TEST_NGINX_FAST_SHUTDOWN} ? 'TERM' : 'QUIT', $pid;

        if (!await($set{timeout}, sub { reap(); !is_alive($pid) })) {
            warn "$name - nginx $pid does not quit, killing it\n";
            kill_tree($pid);
            await($set{timeout}, sub { reap(); !is_alive($pid) });
        }
    }

    unlink $path{pid_file};
}


# A master that had to be killed leaves its children: take them along.

sub kill_tree {
    my ($pid) = @_;

    my @children = children($pid);

    kill 'KILL', $pid, grep { is_alive($_) } @children;
}


sub reap {
    return if !defined $child;
    undef $child if waitpid($child, WNOHANG) != 0;
}


# The next block's configuration for a server that goes on running. Done when
# no old worker accepts any more and a new one answers.

sub reload_server {
    my ($block) = @_;
    my $pid = server_pid();

    return 0 if !defined $pid || !is_alive($pid);

    my @old = children($pid);

    empty_servroot();
    fill_servroot($block);

    kill 'USR1', $pid;
    await($set{timeout}, sub { -f $path{error_log} && -f $path{access_log} });

    kill 'HUP', $pid;

    if (defined $block->reload_fails) {
        await($set{timeout}, sub {
            (read_file($path{error_log}) // '') =~ /\[emerg\]/
        }) or Test::More::fail($block->name . ' - reload fails as expected');

        return 1;
    }

    await(10, sub {
        return !grep { is_alive($_) && !is_shutting_down($_) } @old;
    }) && await(10, sub { served_generation() eq $generation })
        or Test::More::fail($block->name . ' - configuration not reloaded');

    return 1;
}


sub children {
    my ($pid) = @_;

    return split ' ', read_file("/proc/$pid/task/$pid/children") // '';
}


sub is_shutting_down {
    my ($pid) = @_;

    return (read_file("/proc/$pid/cmdline") // '') =~ /is shutting down/;
}


# Returns the exit code, or -1 if nginx could not be run or died of a signal.

sub run_expecting_death {
    my ($block, $first) = @_;

    prepare($block) if $first;

    my $status = run_nginx($block);

    return $status == -1 || ($status & 127) ? -1 : $status >> 8;
}


sub prepare {
    my ($block) = @_;

    remove_servroot();

    make_path(@path{qw( conf html logs )});
    write_file("$path{html}/index.html",
               '<html><head><title>It works!</title></head>'
               . '<body>It works!</body></html>');

    fill_servroot($block);
}


sub fill_servroot {
    my ($block) = @_;

    if (defined(my $code = $block->post_setup_server_root)) {
        eval $code;
        bail_out($block->name, " - post_setup_server_root failed: $@") if $@;
    }

    write_user_files($block);
    write_config($block);
}


# Only what nginx and we put there. Anything else means that the servroot is
# somebody's real directory.

sub remove_servroot {
    my $root = $set{servroot};

    if (-d $root) {
        remove_tree(@path{qw( conf html logs cache )},
                    glob("$root/*_temp"), glob("$root/*_cache"));

        rmdir $root
            or bail_out("Can't remove $root (not empty?): $!\n");
    }

    make_path($root);
}


sub empty_servroot {
    unlink grep { -f && !/\.(?:pid|sock|crt|key)$/ }
           map { glob("$path{$_}/*") } qw( conf html logs );
}


sub write_user_files {
    my ($block) = @_;
    my $name = $block->name;
    my $spec = $block->user_files;

    return if !defined $spec;

    my @files;

    if (ref $spec) {
        bail_out("$name - user_files is neither a string nor an array\n")
            if ref $spec ne 'ARRAY';

        @files = @$spec;

    } else {
        for my $line (split /^/, $spec) {
            if ($line =~ /^>>> (\S+)(?:\s+(\S+))?/) {
                push @files, [$1, '', $2];

            } elsif (@files) {
                $files[-1][1] .= $line;
            }
        }
    }

    for my $file (@files) {
        my ($to, $content, $date) = @$file;

        $to = "$path{html}/$to" if $to !~ m{^/};

        make_path($1) if $to =~ m{^(.*)/} && !-d $1;
        write_file($to, expand_env($content // '', $name));

        if (defined $date) {
            local $ENV{TZ} = 'GMT';
            system('touch', '-t', $date, $to) == 0
                or bail_out("$name - bad date in user_files: $date\n");
        }
    }
}


sub write_config {
    my ($block) = @_;
    my $name = $block->name;

    my ($config, $http, $main, $post_main, $error_log) =
        map { expand_env($_ // '', $name) }
            $block->config // '', $block->http_config // '',
            $block->main_config // '', $block->post_main_config // '',
            $block->error_log_file // $path{error_log};

    my $level = $block->log_level // $set{log_level};
    my $master = $set{use_hup} ? 'on' : $set{master_process};
    my $daemon = $ENV{TEST_NGINX_USE_VALGRIND} ? 'off' : 'on';
    my $server_name = $block->server_name // $set{server_name};

    my $modules = join "\n", map { "load_module $_;" }
                             split ' ', $set{load_modules};
    my $env = join "\n", map { /\s/ ? "env '$_';" : "env $_;" }
                         qw( LD_PRELOAD LD_LIBRARY_PATH ASAN_OPTIONS ),
                         @{ $set{env_to_nginx} };
    my $user = defined $set{worker_user} ? "user $set{worker_user};"
             : $> == 0 ? 'user root;' : '';
    my $events = $set{event_type} ? "use $set{event_type};" : '';

    my $temp = join "\n", map { "    ${_}_temp_path $set{servroot}/${_}_temp;" }
                          grep { $http !~ /\b${_}_temp_path\b/ }
                          qw( client_body proxy fastcgi scgi uwsgi );

    my $root_location = $set{no_root_location} ? '' : <<"END";
        location / {
            root $path{html};
            index index.html index.htm;
        }
END

    my $version_server = '';

    if ($set{use_hup}) {
        $generation++;
        $version_server = <<"END";
    server {
        listen $set{port};
        server_name Test-Nginx;
        access_log off;

        location = /ver {
            return 200 '$generation';
        }
    }
END
    }

    write_file($path{conf_file}, <<"END");
worker_processes $set{workers};
daemon $daemon;
master_process $master;
error_log $error_log $level;
pid $path{pid_file};
$user
$env
$modules
$main

http {
    access_log $path{access_log};
$temp

    default_type text/plain;
    keepalive_timeout 68000ms;

$http
    server {
        listen $set{port};
        server_name '$server_name';
        client_max_body_size 30M;

$set{config_preamble}
$config
$root_location
    }
$version_server
}

$post_main

events {
    accept_mutex off;
    worker_connections $set{worker_connections};
    $events
}
END
}


# Returns what wait() says of it.

sub run_nginx {
    my ($block) = @_;

    my @command = ($set{binary}, '-e', $path{error_log},
                   '-p', "$set{servroot}/", '-c', $path{conf_file});

    return run_under_valgrind(@command)
        if $ENV{TEST_NGINX_USE_VALGRIND} && !defined $block->must_die;

    my $pid = fork // bail_out("fork() failed: $!\n");

    if ($pid == 0) {
        open STDOUT, '>', '/dev/null';
        open STDERR, '>', '/dev/null' if defined $block->suppress_stderr
                                         || defined $block->must_die;
        no warnings 'exec';
        exec { $command[0] } @command
            or print STDERR "exec $command[0]: $!\n";
        POSIX::_exit(127);
    }

    my $status;

    await(30, sub {
        return 0 if waitpid($pid, WNOHANG) == 0;
        $status = $?;
        return 1;
    });

    return $status if defined $status;

    kill 'KILL', $pid;
    waitpid $pid, 0;

    return -1;
}


sub run_under_valgrind {
    my (@command) = @_;

    my @valgrind = qw( valgrind -q --num-callers=100 --leak-check=full
                       --show-possibly-lost=no --gen-suppressions=all );

    push @valgrind, '--suppressions=valgrind.suppress'
        if -f 'valgrind.suppress';

    $child = fork // bail_out("fork() failed: $!\n");

    if ($child == 0) {
        exec @valgrind, @command or POSIX::_exit(127);
    }

    await(30, sub { reap(); !defined $child || server_pid() && is_listening() })
        or return -1;

    return defined $child ? 0 : -1;
}


sub connect_to_server {
    return IO::Socket::INET->new(
        PeerAddr => $set{server_addr},
        PeerPort => $set{client_port},
        Proto    => 'tcp',
        Timeout  => $set{timeout},
    );
}


# Asked of the kernel, so that the server under test sees no extra connection.
# Where there is no /proc, a daemonized nginx listens already.

sub is_listening {
    my $hex = sprintf '%04X', $set{port};
    my $seen;

    for my $table (qw( /proc/net/tcp /proc/net/tcp6 )) {
        my $lines = read_file($table) // next;

        $seen = 1;
        return 1 if $lines =~ /^\s*\d+: [0-9A-F]+:$hex [0-9A-F]+:0000 0A /m;
    }

    return !$seen;
}


sub served_generation {
    my $sock = connect_to_server() or return '';

    $sock->timeout($set{timeout});
    print $sock "GET /ver HTTP/1.0\r\nHost: Test-Nginx\r\n\r\n";

    my $answer = do { local $/; <$sock> } // '';

    return $answer =~ /\r\n\r\n(\d+)$/ ? $1 : '';
}

1;
