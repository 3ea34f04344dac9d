# conf/two-nodes/balancer.conf sends a request to the other node only where that
# cannot do it twice. Its nodes are played by this test: one that takes a request
# and dies, and one that cannot be reached.

use strict;
use warnings;

use lib 't/lib';

use File::Temp qw( tempdir );
use FreePort qw( free_port );
use IO::Select;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw( time );

use constant SECONDS => 10;         # the longest wait for anything here

my $nginx = $ENV{TEST_NGINX_BINARY} || 'nginx';
my $dir = tempdir(CLEANUP => 1);
my $port = free_port();
my $id = '01890000-0000-7000-8000-000000000000';
my $pid;


sub contents {
    my $name = shift;

    open my $file, '<', $name or die "$name: $!";
    local $/;
    return scalar <$file>;
}


sub start_balancer {
    my (@nodes) = @_;
    my $text = contents('conf/two-nodes/balancer.conf');

    $text =~ s/127\.0\.0\.1:8080\b/127.0.0.1:$port/ or die;
    $text =~ s/127\.0\.0\.1:8081\b/127.0.0.1:$nodes[0]/ or die;
    $text =~ s/127\.0\.0\.1:8082\b/127.0.0.1:$nodes[1]/ or die;

    # here a node that has failed is asked again at once
    $text =~ s/max_fails=1 fail_timeout=1s/max_fails=0/g or die;
    $text =~ s/^#user .*/user  root;/m if $> == 0;

    mkdir "$dir/logs";
    open my $file, '>', "$dir/nginx.conf" or die "nginx.conf: $!";
    print $file $text;
    close $file;

    $pid = fork // die "fork: $!";
    exec $nginx, '-p', "$dir/", '-c', "$dir/nginx.conf",
         '-e', "$dir/logs/error.log", '-g', 'daemon off;' if $pid == 0;

    my $end = time + SECONDS;

    while (time < $end) {
        return if client();
        select undef, undef, undef, 0.02;
    }

    die "the balancer does not listen: " . contents("$dir/logs/error.log");
}


sub stop_balancer {
    kill TERM => $pid;
    waitpid $pid, 0;
}


sub client {
    return IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port");
}


sub node {
    return IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 16,
                                 ReuseAddr => 1) || die "listen: $!";
}


# Sends one request. Each node reads what it is sent, and then ends the
# connection (if $answer is empty) or answers. How many requests nodes were
# sent, and the status that the client was told.

sub attempts {
    my ($request, $headers, $answer, @nodes) = @_;
    my $body = $request =~ /^POST/ ? '{"merchantId":"M1"}' : '';
    my $client = client() || die "connect: $!";
    my $attempts = 0;
    my $end = time + SECONDS;
    my $all = IO::Select->new($client, @nodes);
    my %text;

    print $client "$request HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                  . $headers . 'Content-Length: ' . length($body)
                  . "\r\n\r\n$body";

    while (time < $end) {
        for my $ready ($all->can_read(0.1)) {
            if (grep { $_ == $ready } @nodes) {
                $all->add(scalar $ready->accept);
                next;
            }

            my $n = sysread $ready, $text{$ready} //= '', 65536,
                            length $text{$ready};

            if ($ready == $client) {
                next if $n;
                return ($attempts, $text{$ready} =~ m{^HTTP/1.1 (\d+)});
            }

            if ($n && $text{$ready} =~ /\r\n\r\n\Q$body\E\z/) {
                $attempts++;
                print $ready $answer if $answer;
            }

            if (!$n || $text{$ready} =~ /\r\n\r\n\Q$body\E\z/) {
                $all->remove($ready);
                close $ready;
            }
        }
    }

    die "no answer within ${\SECONDS} seconds";
}


my @nodes = (node(), node());
start_balancer(map { $_->sockport } @nodes);

my $key = "Idempotency-Key: k1\r\n";

for my $case (
    ['POST /api/payments/authorize', '', 2, 'always has a key'],
    ["POST /api/payments/capture/$id", $key, 2, 'has a key that can be seen'],
    ["POST /api/payments/refund/$id", $key, 2, 'has a key that can be seen'],
    ["GET /api/payments/$id", '', 2, 'changes nothing'],
    ["POST /api/payments/capture/$id", '', 1, 'may be a partial one'],
    ["POST /api/payments/refund/$id", '', 1, 'may be a partial one'],
    ["POST /api/payments/capture/$id", "Idempotency-Key:\r\n", 1,
     'has no key that counts'],
    ["POST /api/payments/capture/$id?x=/authorize", '', 1,
     'is none that is called authorize'],
) {
    my ($request, $headers, $expected, $why) = @$case;

    my ($n, $status) = attempts($request, $headers, '', @nodes);

    is($n, $expected, "$request: sent $expected time(s), for it $why");
    is($status, 502, '.. and then given up');
}

# what a node refused is not done, and what has a key may go to the other one
my $busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
my ($n, $status) = attempts('POST /api/payments/authorize', '', $busy, @nodes);
is($n, 2, 'a 503 of one node: the other is asked');
is($status, 503, '.. and its answer told');

stop_balancer();

# a node that cannot be reached has done nothing
close $nodes[0];
$nodes[0] = node();
my $gone = free_port();
start_balancer($gone, $nodes[1]->sockport);

my $ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

for my $try (1, 2) {
    ($n, $status) = attempts("POST /api/payments/capture/$id", '', $ok,
                             $nodes[1]);
    is($n, 1, 'a node that is not there: the other one gets it');
    is($status, 200, '.. and does it');
}

stop_balancer();

done_testing();
