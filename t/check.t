# `PAYMENT_CHECK=connect nginx -t` finds what only a server can know, and nginx
# alone does not ask.

use strict;
use warnings;

use lib 't/lib';

use File::Temp qw( tempdir );
use FreePort qw( free_port );
use PaymentTest;
use Test::More;

my $nginx = $ENV{TEST_NGINX_BINARY} || 'nginx';
my $module = $ENV{TEST_NGINX_LOAD_MODULES} // '';
my $dir = tempdir(CLEANUP => 1);
my $socket = "unix:$ENV{PAYMENT_TEST_DB_SOCKET}";
my $nobody = '127.0.0.1:' . free_port();

mkdir "$dir/logs";


sub check {
    my ($environment, %with) = @_;
    my %shard = (server   => $socket,
                 database => PaymentTest::database(),
                 user     => $ENV{TEST_NGINX_PAYMENT_DB_USER},
                 password => $ENV{TEST_NGINX_PAYMENT_DB_PASSWORD},
                 %with);
    my $shard = join ' ', map { "$_ $shard{$_};" } sort keys %shard;
    my $load = $module eq '' ? '' : "load_module $module;";
    my $paths = join ' ', map { "${_}_temp_path $dir/$_;" }
                              qw( client_body proxy fastcgi uwsgi scgi );

    open my $file, '>', "$dir/nginx.conf" or die "nginx.conf: $!";
    print $file <<"END";
$load
pid $dir/nginx.pid;
events { }
http {
    $paths
    payment_shard main { $shard }
    server {
        listen unix:$dir/listen;
        location /api/payments { payment_api; }
    }
}
END
    close $file;

    local %ENV = (%ENV, %$environment);
    my $said = `$nginx -t -p $dir/ -c $dir/nginx.conf -e $dir/logs/e.log 2>&1`;
    return ($? >> 8, $said);
}


my %connect = (PAYMENT_CHECK => 'connect');

# From 11.4 on a server makes a certificate for itself, which Connector/C 3.4
# verifies by the password.
my $has_tls = PaymentTest::sql('SELECT @@have_ssl') =~ /YES/;

PaymentTest::sql('CREATE DATABASE ' . PaymentTest::database() . '_empty', '');

for (
    ['a database that was never used', 0,
     qr/server "\Q$socket\E": the database is nobody's yet/],
    ['a wrong password', 1, qr/connecting failed: \(1045\) Access denied/,
     password => 'wrong'],
    ['a wrong database', 1, qr/connecting failed: \(10(44|49)\)/,
     database => 'there_is_none'],
    ['a database without tables', 1, qr/failed: \(\d+\).*payment_schema_version/,
     database => PaymentTest::database() . '_empty'],
    ['a server that is not there', 1, qr/"\Q$nobody\E": connecting failed: \(200[23]\)/,
     server => $nobody],
    ['one of two servers away', 0, qr/"\Q$nobody\E": connecting failed.*is nobody's yet/s,
     server => "$nobody $socket"],
    [$has_tls ? ('TLS by a certificate of the server\'s own', 0,
                 qr/is nobody's yet/)
              : ('no TLS at the server', 1, qr/connecting failed/),
     ssl => 'on', server => "127.0.0.1:$ENV{PAYMENT_TEST_DB_PORT}"],
) {
    my ($what, $expected, $says, %with) = @$_;
    my ($status, $said) = check(\%connect, %with);

    is($status, $expected, "nginx -t that connects: $what") or diag($said);
    like($said, $says, '.. and says so');
    like($said, $expected ? qr/"main" has no server that takes payments/
                          : qr/test is successful/, '.. and what follows');
    unlike($said, qr/\b\Q$ENV{TEST_NGINX_PAYMENT_DB_PASSWORD}\E\b/,
           '.. and not the password')
        if $ENV{TEST_NGINX_PAYMENT_DB_PASSWORD}
           ne $ENV{TEST_NGINX_PAYMENT_DB_USER};
}

# nothing was written by all of that; once the database is somebody's, it counts
my $identity = 'SELECT COUNT(*) FROM payment_identity';
is(PaymentTest::sql($identity) + 0, 0, 'a test writes nothing');

my $claim = sub {
    return 'REPLACE INTO payment_identity (installation, shard, slots, secret)'
           . " VALUES (UUID(), '$_[0]', '0-1023', REPEAT('x', 16))";
};

PaymentTest::sql($claim->('main'));
my ($status, $said) = check(\%connect);
is($status, 0, 'the database of the shard') or diag($said);
like($said, qr/server "\Q$socket\E" takes payments/, '.. takes payments');

PaymentTest::sql('UPDATE payment_topology SET epoch = 1, server_id = 4711');
($status, $said) = check(\%connect);
is($status, 1, 'the payments are another server\'s');
like($said, qr/another server has claimed the payments/, '.. and it says so');
PaymentTest::sql('UPDATE payment_topology SET epoch = 0, server_id = NULL');

PaymentTest::sql($_) for 'DELETE FROM payment_identity', $claim->('other');
($status, $said) = check(\%connect);
is($status, 1, 'the database of another shard');
like($said, qr/checking whose database it is failed: .*is shard "other"/,
     '.. is refused');

($status, $said) = check({}, password => 'wrong', server => $nobody);
is($status, 0, 'nginx -t alone asks no server') or diag($said);
unlike($said, qr/takes payments|connecting/, '.. nor speaks of one');

($status, $said) = check({ PAYMENT_CHECK => 'conect' });
is($status, 1, 'a word that it does not know is no silent success');
like($said, qr/PAYMENT_CHECK must be "connect"/, '.. and it says so');

done_testing();
