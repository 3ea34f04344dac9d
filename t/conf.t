# The configurations in conf/ are ones that nginx takes: each is tested as it
# is, but for the paths of what is not on this machine.

use strict;
use warnings;

use File::Temp qw( tempdir );
use Test::More;

my $nginx = $ENV{TEST_NGINX_BINARY} || 'nginx';
my $module = $ENV{TEST_NGINX_LOAD_MODULES};
my $dir = tempdir(CLEANUP => 1);
chomp(my $here = `pwd`);

# the workers' user has to reach what is in it
chmod 0755, $dir;

if (!defined $module) {
    $module = "$here/build/ngx_http_payment_module.so";
}

mkdir "$dir/$_" for qw( logs etc );


sub contents {
    my $name = shift;

    open my $file, '<', $name or die "$name: $!";
    local $/;
    return scalar <$file>;
}


sub write_file {
    my ($name, $text) = @_;

    open my $file, '>', $name or die "$name: $!";
    print $file $text;
    close $file or die "$name: $!";
}


# What the configurations expect to find in /etc/nginx/payment.

sub make_etc {
    my $req = join ' ', qw( openssl req -x509 -newkey rsa:2048 -nodes -batch
                            -days 2 -subj /CN=test ),
                        '-keyout', "$dir/etc/server.key",
                        '-out', "$dir/etc/server.pem";
    my $said = `$req 2>&1`;
    die "openssl failed: $said" if $? != 0;

    for my $name (qw( merchants-ca db-ca kafka-ca )) {
        write_file("$dir/etc/$name.pem", contents("$dir/etc/server.pem"));
    }

    write_file("$dir/etc/db-password", "one-of-the-database\n");
    write_file("$dir/etc/kafka-password", "one-of-kafka\n");
    write_file("$dir/etc/api-keys.conf", sprintf qq{"%s"  M-1;\n}, 'a' x 64);
}


sub config_test {
    my ($text, $option) = @_;

    write_file("$dir/nginx.conf", moved($text));

    return run_nginx($option // '-t', "$dir/nginx.conf");
}


# Debian's nginx.conf with production.conf in it, by the commands of the
# document: of whichever release this is.

sub debians_test {
    my $option = shift;
    my ($chapter) = contents('docs/day-2.md') =~ /^## Installing\n(.*?)^## /ms;
    my ($script) = $chapter =~ /^(    cd .*?)^$/ms;

    my $etc = tempdir(DIR => $dir);

    mkdir "$etc/$_" for qw( conf.d modules-enabled sites-enabled );
    write_file("$etc/modules-enabled/50-mod-http-payment.conf",
               moved("load_module modules/ngx_http_payment_module.so;\n"));
    write_file("$etc/nginx.conf", contents('/etc/nginx/nginx.conf'));
    write_file("$etc/mime.types", contents('/etc/nginx/mime.types'));

    $script =~ s{/etc/nginx}{$etc}g;
    $script =~ s{/usr/share/doc/[^/]+}{$here}g;
    write_file("$etc/script", $script);
    is(system('sh', '-e', "$etc/script"), 0, 'the commands of the document');

    for my $name ("$etc/nginx.conf", "$etc/conf.d/payment.conf") {
        my $text = moved(contents($name));
        $text =~ s{/etc/nginx}{$etc}g;
        write_file($name, $text);
    }

    return run_nginx($option, "$etc/nginx.conf");
}


# The text with the paths of this test.

sub moved {
    my $text = shift;

    if ($module eq '') {
        $text =~ s/^load_module .*\n//m;
    }

    $text =~ s{^load_module\s+\S+;}{load_module  $module;}m;
    $text =~ s{/etc/nginx/payment}{$dir/etc}g;
    $text =~ s{/var/log/nginx}{$dir/logs}g;
    $text =~ s{/var/lib/nginx}{$dir}g;
    $text =~ s{/run/nginx-payment}{$dir}g;
    $text =~ s{\.\./\.\./conf/}{$here/conf/}g;
    $text =~ s{^pid\s+\S+;}{pid  $dir/nginx.pid;}m;

    # who is not root may not change user, nor take a low port
    if ($> != 0) {
        $text =~ s{^user .*\n}{}m;
        $text =~ s{listen\s+443\b}{listen  28443};
    }

    # nor has everybody the package's scratch directories
    if ($text !~ /client_body_temp_path/) {
        my $paths = join ' ', map { "${_}_temp_path $dir/$_;" }
                                  qw( client_body proxy fastcgi uwsgi scgi );
        $text =~ s/^http \{/http { $paths/m;
    }

    if ($text =~ /payment_kafka_brokers/ && $text !~ /payment_outbox_path/) {
        $text =~ s/^http \{/http { payment_outbox_path $dir\/outbox;/m;
    }

    return $text;
}


sub run_nginx {
    my ($option, $conf) = @_;

    my $said = `$nginx $option -p $dir/ -c $conf -e $dir/logs/e.log 2>&1`;
    return ($?, $said);
}


make_etc();

# shards.conf is a part of two of them
for my $name (grep { !m{/shards\.conf$} }
                   sort glob 'conf/*.conf conf/examples/*.conf '
                             . 'conf/two-nodes/*.conf')
{
    my ($status, $said) = config_test(contents($name));

    is($status, 0, "nginx -t takes $name") or diag($said);
    unlike($said, qr/\[(warn|error|crit|alert|emerg)\]/,
           "nginx -t has nothing to say about $name");
}

# a client gets what its log line and its event have
for my $name (qw( production quickstart )) {
    my $text = contents("conf/$name.conf");

    like($text, $_, "$name.conf tells a client of its trace")
        for qr/add_header +X-Request-Id +\$payment_trace_id +always;/,
            qr/payment_trace_context +make;/,
            qr/log_format +payment +escape=none +\$payment_log;/;
}

# what goes into a support bundle
my ($dumped, $dump) = config_test(contents('conf/production.conf'), '-T');

is($dumped, 0, 'nginx -T shows production.conf') or diag($dump);
like($dump, qr/payment_kafka_property_file/, 'all of it');
unlike($dump, qr/one-of-(the-database|kafka)/, 'but for the secrets');

# Debian's own, and production.conf in a file of conf.d
my ($taken, $both) = debians_test('-T');

is($taken, 0, "nginx -T takes Debian's nginx.conf with production.conf in it")
    or diag($both);
unlike($both, qr/\[(warn|error|crit|alert|emerg)\]/, 'and has nothing to say');

for my $directive (qw( error_log access_log server_tokens worker_connections
                       worker_processes worker_rlimit_nofile
                       worker_shutdown_timeout ))
{
    my ($wanted) = contents('conf/production.conf')
                   =~ /^ *($directive\s.*)$/m;
    my @there = map { s/^\s+//r } grep { !/access_log\s+off;/ }
                                       $both =~ /^[ \t]*$directive\s.*/mg;

    is_deeply(\@there, [moved($wanted)], "$directive of production.conf alone");
}

# the test would be worth nothing if anything passed
my ($status) = config_test(contents('conf/quickstart.conf') . "nonsense;\n");
isnt($status, 0, 'nginx -t refuses a directive that there is not');

done_testing();
