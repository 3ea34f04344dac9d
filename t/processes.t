# The helper process, as an operator sees it with ps and kill: there once, with
# its own title, respawned, gone with the master, one after any number of
# reloads, none by "nginx -t".

use lib 't/lib';
use PaymentTest kafka => 1;
use Test::Nginx::Socket 'no_plan';

master_on();
workers(2);


sub count {
    my ($wanted) = @_;

    PaymentTest::await { PaymentTest::helpers() == $wanted };

    my @now = PaymentTest::helpers();

    return @now == 1 ? "1 helper\n" : @now . " helpers\n";
}


# Another helper than these, and nothing of these left.

sub replaced {
    my (@old) = @_;
    my @now;

    PaymentTest::await {
        @now = PaymentTest::helpers();
        @now == 1 && !grep { $_ == $now[0] } @old;
    };

    return @now != 1 ? @now . " helpers\n"
         : (grep { $_ == $now[0] } @old) ? "the same helper\n"
         : "another helper\n";
}


# An event that must come out of Kafka: whoever helps, publishes.

my $n = 0;

sub publishes {
    $n++;

    my ($code, undef, $body) = PaymentTest::http('POST',
        '/api/payments/authorize', qq[{"merchantId":"M$n","amount":1,]
        . qq["currency":"KRW","idempotencyKey":"p$n"}]);

    return "not authorized: $code\n" if $code ne '200';

    my $id = JSON::PP::decode_json($body)->{paymentId};
    my @events = PaymentTest::events_in_kafka($id, 1);

    return @events . " event published\n";
}

run_tests();

__DATA__

=== one helper, beside two workers
--- request
GET /status
--- response_body_filters eval
sub { main::count(1) }
--- response_body
1 helper



=== which is the master's child
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    my ($pid) = PaymentTest::helpers();
    my ($parent) = PaymentTest::read_file("/proc/$pid/stat") =~ /\) \S (\d+)/;
    return $parent == PaymentTest::master_pid() ? "the master's" : "of $parent";
}
--- response_body chomp
the master's



=== its title
--- request
GET /status
--- response_body_filters eval
sub { main::count(1); PaymentTest::helper_title() }
--- response_body_like: ^nginx: .*payment outbox



=== it publishes
--- request
GET /status
--- response_body_filters eval
sub { main::publishes() }
--- response_body
1 event published



=== it holds no listening socket
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    my ($pid) = PaymentTest::helpers();
    my $port = sprintf '%04X', Test::Nginx::Socket->can('server_port')->();
    my ($inode) = PaymentTest::read_file('/proc/net/tcp')
        =~ /^\s*\d+: [0-9A-F]+:$port [0-9A-F]+:0000 0A (?:\S+ +){5}(\d+)/m;
    my @held = grep { (readlink // '') eq "socket:[$inode]" } glob "/proc/$pid/fd/*";
    return @held . " held\n";
}
--- response_body
0 held



=== killed, it is there again, and publishes
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    my @old = PaymentTest::helpers();
    kill 'KILL', @old;
    return main::replaced(@old) . main::publishes();
}
--- response_body
another helper
1 event published
--- error_log
exited on signal 9



=== five reloads, one helper, and it publishes
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    for (1 .. 5) {
        my @old = PaymentTest::helpers();
        kill 'HUP', PaymentTest::master_pid();
        my $said = main::replaced(@old);
        return "reload $_: $said" if $said ne "another helper\n";
    }
    return main::count(1) . main::publishes();
}
--- response_body
1 helper
1 event published



=== five reloads in a row, without waiting for one
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    my @old = PaymentTest::helpers();
    kill('HUP', PaymentTest::master_pid()), select undef, undef, undef, 0.02 for 1 .. 5;
    return main::replaced(@old) . main::publishes();
}
--- response_body
another helper
1 event published



=== a reload that fails leaves it alone
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    my @old = PaymentTest::helpers();
    my $conf = "$ENV{TEST_NGINX_SERVER_ROOT}/conf/nginx.conf";
    my $log = "$ENV{TEST_NGINX_SERVER_ROOT}/logs/error.log";
    rename $conf, "$conf.good";
    open my $out, '>', $conf; print $out "nonsense;\n"; close $out;
    kill 'HUP', PaymentTest::master_pid();
    PaymentTest::await { PaymentTest::read_file($log) =~ /unknown directive "nonsense"/ };
    rename "$conf.good", $conf;
    my @now = PaymentTest::helpers();
    return "@old" eq "@now" ? "the same helper\n" . main::publishes() : "@old, now @now\n";
}
--- response_body
the same helper
1 event published
--- error_log
unknown directive "nonsense"



=== nginx -t makes none
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    my @old = PaymentTest::helpers();
    my $said = PaymentTest::nginx_test();
    my @now = PaymentTest::helpers();
    return "$said, " . ("@old" eq "@now" ? 'the same helper' : "@old, now @now") . "\n";
}
--- response_body
ok, the same helper



=== USR1 reopens its log too
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    my ($pid) = PaymentTest::helpers();
    my $log = "$ENV{TEST_NGINX_SERVER_ROOT}/logs/error.log";
    rename $log, "$log.1";
    kill 'USR1', PaymentTest::master_pid();
    my $reopened = PaymentTest::await {
        grep { (readlink // '') eq $log } glob "/proc/$pid/fd/*"
    };
    return $reopened ? "reopened\n" : "not reopened\n";
}
--- response_body
reopened



=== QUIT: gone, and the lease is given back
--- request
GET /status
--- response_body_filters eval
sub {
    my $published = main::publishes();
    my $log = "$ENV{TEST_NGINX_SERVER_ROOT}/logs/error.log";
    kill 'QUIT', PaymentTest::master_pid();
    my $said = main::count(0);
    my $held = PaymentTest::sql('SELECT COUNT(*) FROM outbox_lease
        WHERE lock_until > UTC_TIMESTAMP(3) + INTERVAL 2 SECOND');
    return $published . $said . "leases held: $held";
}
--- response_body
1 event published
0 helpers
leases held: 0



=== TERM: gone
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    kill 'TERM', PaymentTest::master_pid();
    return main::count(0);
}
--- response_body
0 helpers



=== a killed master takes it along
--- request
GET /status
--- response_body_filters eval
sub {
    main::count(1);
    my $master = PaymentTest::master_pid();
    my @workers = CORE::split ' ', PaymentTest::read_file("/proc/$master/task/$master/children");
    kill 'KILL', $master;
    my $said = main::count(0);
    kill 'KILL', @workers;
    unlink "$ENV{TEST_NGINX_SERVER_ROOT}/logs/nginx.pid";
    return $said;
}
--- response_body
0 helpers
--- no_error_log
[emerg]



=== no outbox, no helper
--- http_config
    payment_outbox off;
--- request
GET /status
--- response_body_filters eval
sub { scalar(() = PaymentTest::helpers()) . " helpers\n" }
--- response_body
0 helpers



=== beside a proxy cache, which has the same process
--- http_config
    proxy_cache_path cache keys_zone=c:1m;
    payment_outbox on;
    payment_kafka_brokers 127.0.0.1:$TEST_NGINX_PAYMENT_KAFKA_PORT;
    payment_kafka_topic $TEST_NGINX_PAYMENT_TOPIC;
    payment_outbox_initial_delay 0;
    payment_outbox_lock_at_most_for 5s;
    payment_outbox_lock_at_least_for 0;
--- request
GET /status
--- response_body_filters eval
sub { main::count(1) . main::publishes() }
--- response_body
1 helper
1 event published



=== counters live through a reload
--- request
GET /status
--- response_body_filters eval
sub {
    main::publishes();
    my $count = sub { PaymentTest::status()->{requests}{authorize}{OK} };
    my $before = $count->();
    my @old = PaymentTest::helpers();
    kill 'HUP', PaymentTest::master_pid();
    main::replaced(@old);
    my $after = $count->();
    return $before > 0 && $after == $before ? "kept\n" : "$before, then $after\n";
}
--- response_body
kept
