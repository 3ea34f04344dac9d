# The configurations in conf/ are ones that nginx takes: each is tested as it
# is, but for the paths of what is not on this machine.

use strict;
use warnings;

use File::Temp qw( tempdir );
use Test::More;

my $nginx = $ENV{TEST_NGINX_BINARY} || 'nginx';
my $module = $ENV{TEST_NGINX_LOAD_MODULES};
my $dir = tempdir(CLEANUP => 1);

# the workers' user has to reach what is in it
chmod 0755, $dir;

if (!defined $module) {
    chomp(my $root = `pwd`);
    $module = "$root/build/ngx_http_payment_module.so";
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


# What production.conf expects to find in /etc/nginx/payment.

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
}


sub config_test {
    my ($text, $option) = @_;

    $option //= '-t';

    if ($module eq '') {
        $text =~ s/^load_module .*\n//m;
    }

    $text =~ s{^load_module\s+\S+;}{load_module  $module;}m;
    $text =~ s{/etc/nginx/payment}{$dir/etc}g;
    $text =~ s{/var/log/nginx}{$dir/logs}g;
    $text =~ s{/var/lib/nginx}{$dir}g;
    $text =~ s{/run/nginx-payment}{$dir}g;
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

    write_file("$dir/nginx.conf", $text);

    my $said = `$nginx $option -p $dir/ -c $dir/nginx.conf -e $dir/logs/e.log 2>&1`;
    return ($?, $said);
}


make_etc();

for my $name (sort glob 'conf/*.conf') {
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
            qr/trace\W+\$payment_trace_id\b/;
}

# what goes into a support bundle
my ($dumped, $dump) = config_test(contents('conf/production.conf'), '-T');

is($dumped, 0, 'nginx -T shows production.conf') or diag($dump);
like($dump, qr/payment_kafka_property_file/, 'all of it');
unlike($dump, qr/one-of-(the-database|kafka)/, 'but for the secrets');

# the test would be worth nothing if anything passed
my ($status) = config_test(contents('conf/quickstart.conf') . "nonsense;\n");
isnt($status, 0, 'nginx -t refuses a directive that there is not');

done_testing();
