# From the commit to Kafka, with master_process off: the single process
# publishes what it has committed, and the queue is empty afterwards.

use lib 't/lib';
use PaymentTest kafka => 1;
use Test::Nginx::Socket 'no_plan';


$ENV{TEST_NGINX_PAYMENT_NEW_DB} = PaymentTest::database() . '_new';


# What Kafka has of the payments in these answers, once it has all of it.

sub in_kafka {
    my ($label, $wanted) = @_;

    return join '', map {
        my ($key, $value) = @$_;
        my $event = JSON::PP::decode_json($value);

        "$key: $event->{eventType} $event->{version}, $event->{status} "
        . "$event->{amount} $event->{currency}\n"
    } PaymentTest::events_in_kafka(PaymentTest::id_of($label), $wanted);
}

run_tests();

__DATA__

=== an authorization is in Kafka
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"o1"}
--- response_body_filters eval
sub { PaymentTest::told(shift) . main::in_kafka('P1', 1) }
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
M1: authorized 1, AUTHORIZED 1000 KRW



=== and not in the queue any more
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"o2"}
--- response_body_filters eval
sub {
    my $told = PaymentTest::told(shift);
    PaymentTest::await { PaymentTest::outbox_count() == 0 };
    return $told . 'queued: ' . PaymentTest::outbox_count() . "\n";
}
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
queued: 0



=== a payment's life, in order, once
--- init
PaymentTest::given(A => { merchantId => 'M3' }, capture => { amount => 700 },
                   refund => { amount => 100 }, refund => { amount => 600 });
--- request
GET /api/payments/{A}?merchantId=M3
--- response_body_filters eval
sub { PaymentTest::told(shift) . main::in_kafka('A', 4) }
--- response_body
A REFUNDED 1000 KRW, captured 700, refunded 700
M3: authorized 1, AUTHORIZED 1000 KRW
M3: captured 2, PARTIALLY_CAPTURED 1000 KRW
M3: refunded 3, PARTIALLY_REFUNDED 1000 KRW
M3: refunded 4, REFUNDED 1000 KRW



=== a replay has no second event
--- init
PaymentTest::given(A => { idempotencyKey => 'o4', amount => 5 });
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"M1","amount":5,"currency":"KRW","idempotencyKey":"$_"}] } 'o4', 'o4', 'o4-later']
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
[[\&PaymentTest::told], [\&PaymentTest::told],
 [sub { PaymentTest::told(shift) . main::in_kafka('P1', 1) . main::in_kafka('A', 1) }]]
--- response_body eval
["A AUTHORIZED 5 KRW, captured 0, refunded 0\n",
 "A AUTHORIZED 5 KRW, captured 0, refunded 0\n",
 "P1 AUTHORIZED 5 KRW, captured 0, refunded 0
M1: authorized 1, AUTHORIZED 5 KRW
M1: authorized 1, AUTHORIZED 5 KRW
"]



=== the event's headers
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"o5"}
--- more_headers
Content-Type: application/json
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    my ($event) = PaymentTest::events_in_kafka($id, 1);
    my %header = map { CORE::split /=/, $_, 2 } CORE::split /,/, $event->[2];
    $header{$_} = defined $header{$_} && $header{$_} =~ /\S/ ? 'there' : 'missing'
        for qw( ce_id ce_source ce_time );
    return CORE::join '', map { "$_: " . ($header{$_} // 'missing') . "\n" }
           qw( ce_specversion ce_type ce_id ce_source ce_time traceparent );
}
--- response_body_like
^ce_specversion: 1\.0
ce_type: \S*authorized\S*
ce_id: there
ce_source: there
ce_time: there
traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01$



=== log, answer and event share one trace
--- http_config
    log_format traced 'trace $payment_trace_id';
--- config
    location /api/payments {
        payment_api;
        payment_trace_context make;
        add_header X-Request-Id $payment_trace_id always;
        access_log logs/access.log traced;
    }
    location = /ok { access_log off; return 200 "ok\n"; }
--- request
GET /ok
--- response_headers
Content-Length: 3
--- response_body_filters eval
sub {
    return CORE::join '', map {
        my ($header, $key) = @$_;
        my (undef, $head, $body) = PaymentTest::http('POST', '/api/payments/authorize',
            qq({"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"$key"}),
            $header ? "traceparent: $header" : ());
        my ($answer) = $head =~ /^X-Request-Id: ([0-9a-f]{32})\r?$/mi;
        my $id = JSON::PP::decode_json($body)->{paymentId};
        my ($event) = PaymentTest::events_in_kafka($id, 1);
        my ($trace, $flags) = $event->[2]
            =~ /traceparent=00-([0-9a-f]{32})-[0-9a-f]{16}-(..)/;
        my $log;
        PaymentTest::await {
            $log = PaymentTest::read_file(Test::Nginx::Socket->can('server_root')->()
                                          . '/logs/access.log');
            $log =~ /^trace $answer$/m;
        };
        my $given = $header && $header =~ /$trace/ ? 'given' : 'made';
        $trace eq $answer && $trace !~ /^0+$/ ? "$given, $flags\n" : "$trace, $answer\n";
    } ['00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'trace-1'],
      ['01-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more', 'trace-2'],
      ['00-00000000000000000000000000000000-b7ad6b7169203331-01', 'trace-3'],
      ['', 'trace-4'];
}
--- response_body
given, 01
given, 01
made, 00
made, 00



=== log, answer and event share one span, where it is exported
--- http_config
    log_format spanned 'span $payment_span_id';
    payment_trace_exporter http://127.0.0.1:4318;
--- config
    location /api/payments {
        payment_api;
        add_header X-Span-Id $payment_span_id always;
        access_log logs/access.log spanned;
    }
    location = /ok { access_log off; return 200 "ok\n"; }
--- request
GET /ok
--- response_headers
Content-Length: 3
--- response_body_filters eval
sub {
    return CORE::join '', map {
        my $key = "span-$_";
        my (undef, $head, $body) = PaymentTest::http('POST', '/api/payments/authorize',
            qq({"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"$key"}),
            "traceparent: 00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-$_");
        my ($answer) = $head =~ /^X-Span-Id: ([0-9a-f]{16})\r?$/mi;
        my $id = JSON::PP::decode_json($body)->{paymentId};
        my ($event) = PaymentTest::events_in_kafka($id, 1);
        my ($span) = $event->[2] =~ /ce_traceparent=00-[0-9a-f]{32}-([0-9a-f]{16})/;
        my $logged = $answer // '-';
        PaymentTest::await {
            PaymentTest::read_file(Test::Nginx::Socket->can('server_root')->()
                                   . '/logs/access.log') =~ /^span $logged$/m;
        };
        $span eq 'b7ad6b7169203331' ? "the client's, $logged\n"
            : $span eq $logged ? "its own\n" : "$span, $logged\n";
    } '01', '00';
}
--- response_body
its own
the client's, -



=== a request without a context has none in its event, unless it is asked for
--- request
POST /api/payments/authorize
{"merchantId":"M1","amount":1000,"currency":"KRW","idempotencyKey":"untraced"}
--- more_headers
Content-Type: application/json
traceparent: ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    my ($event) = PaymentTest::events_in_kafka($id, 1);
    return $event->[2] =~ /traceparent/ ? "traced\n" : "untraced\n";
}
--- response_body
untraced



=== events that waited for a publisher are published when there is one
--- http_config
    payment_outbox off;
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"M6","amount":$_,"currency":"KRW","idempotencyKey":"o6-$_"}] } 1, 2]
--- error_code eval
[200, 200]
--- response_body_filters eval
my $n = 0;
sub {
    return '' if ++$n < 2;
    my $queued = PaymentTest::sql("SELECT COUNT(*) FROM outbox_event WHERE merchant_id = 'M6'");
    return "queued: $queued";
}
--- response_body eval
['', "queued: 2\n"]



=== a topic for each kind of event
--- http_config
    payment_kafka_brokers 127.0.0.1:$TEST_NGINX_PAYMENT_KAFKA_PORT;
    payment_kafka_topic $TEST_NGINX_PAYMENT_TOPIC.$event;
    payment_outbox_initial_delay 0;
    payment_outbox_lock_at_most_for 5s;
    payment_outbox_lock_at_least_for 0;
--- init
PaymentTest::given(A => { merchantId => 'M7' }, void => {});
--- request
GET /status
--- response_body_filters eval
sub {
    my $topic = $ENV{TEST_NGINX_PAYMENT_TOPIC};
    return CORE::join '', map {
        local $ENV{TEST_NGINX_PAYMENT_TOPIC} = "$topic.$_";
        "$_: " . main::in_kafka('A', 1);
    } qw( authorized voided );
}
--- response_body
authorized: M7: authorized 1, AUTHORIZED 1000 KRW
voided: M7: voided 2, VOIDED 1000 KRW



=== Kafka away: no client notices
--- http_config
    payment_kafka_brokers 127.0.0.1:1;
    payment_outbox_initial_delay 0;
    payment_outbox_lock_at_most_for 5s;
    payment_outbox_lock_at_least_for 0;
    payment_outbox_drain_timeout 1s;
--- request eval
[map { qq[POST /api/payments/authorize
{"merchantId":"M8","amount":$_,"currency":"KRW","idempotencyKey":"o8-$_"}] } 1 .. 3]
--- error_code eval
[200, 200, 200]



=== a lease is held while publishing, by this database's rules
--- request
POST /api/payments/authorize
{"merchantId":"M9","amount":1000,"currency":"KRW","idempotencyKey":"o9"}
--- response_body_filters eval
sub {
    my $id = JSON::PP::decode_json(shift)->{paymentId};
    PaymentTest::events_in_kafka($id, 1);
    return PaymentTest::sql("SELECT COUNT(*), MIN(lock_until > UTC_TIMESTAMP(3)),
                             MIN(epoch > 0), MIN(LENGTH(owner_uuid)) FROM outbox_lease
                             WHERE name = 'payment-outbox'");
}
--- response_body eval
"1\t1\t1\t36\n"



=== a new installation, by its defaults: the first event does not wait
--- http_config
    payment_shard main {
        server unix:$TEST_NGINX_PAYMENT_DB_SOCKET;
        database $TEST_NGINX_PAYMENT_NEW_DB;
        user $TEST_NGINX_PAYMENT_DB_USER;
        password $TEST_NGINX_PAYMENT_DB_PASSWORD;
    }
    payment_kafka_brokers 127.0.0.1:$TEST_NGINX_PAYMENT_KAFKA_PORT;
    payment_kafka_topic $TEST_NGINX_PAYMENT_TOPIC;
--- post_setup_server_root
PaymentTest::new_database($ENV{TEST_NGINX_PAYMENT_NEW_DB});
--- request
POST /api/payments/authorize
{"merchantId":"M10","amount":1000,"currency":"KRW","idempotencyKey":"o10"}
--- response_body_filters eval
sub { PaymentTest::told(shift) . main::in_kafka('P1', 1) }
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
M10: authorized 1, AUTHORIZED 1000 KRW



=== Kafka away: QUIT ends all the same, by its deadline, and frees the lease
--- http_config
    payment_kafka_brokers 127.0.0.1:1;
    payment_outbox_initial_delay 0;
    payment_outbox_lock_at_most_for 5s;
    payment_outbox_lock_at_least_for 0;
--- request
POST /api/payments/authorize
{"merchantId":"M11","amount":1000,"currency":"KRW","idempotencyKey":"o11"}
--- response_body_filters eval
sub {
    my $told = PaymentTest::told(shift);
    my $pid = PaymentTest::master_pid();
    PaymentTest::await { PaymentTest::status()->{outbox}{shards}[0]{in_flight} };
    my $begin = Time::HiRes::time();
    kill 'QUIT', $pid;
    PaymentTest::await { !PaymentTest::is_alive($pid) };
    my $took = Time::HiRes::time() - $begin;
    my $held = PaymentTest::sql("SELECT COUNT(*) FROM outbox_lease
        WHERE name = 'payment-outbox'
          AND lock_until > UTC_TIMESTAMP(3) + INTERVAL 1 SECOND");
    return $told . ($took < 3.2 ? 'within 3 s' : "after $took s") . ", leases held: $held";
}
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
within 3 s, leases held: 0
