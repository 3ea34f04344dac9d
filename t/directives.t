# Every directive is accepted with a good value, and nginx refuses to start with
# a bad one, naming it. No server is asked: the refusals need none.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';


# A shard with these lines instead of, or beside, the usual ones.

sub shard {
    my (@lines) = @_;
    my %usual = (
        slots       => '0-1023',
        server      => 'unix:$TEST_NGINX_PAYMENT_DB_SOCKET',
        database    => '$TEST_NGINX_PAYMENT_DB_NAME',
        user        => '$TEST_NGINX_PAYMENT_DB_USER',
        password    => '$TEST_NGINX_PAYMENT_DB_PASSWORD',
    );

    for (@lines) {
        my ($name) = /^(\w+)/;
        delete $usual{$name};
    }

    return join "\n", 'payment_shard main {',
           (map { "    $_ $usual{$_};" } sort keys %usual),
           (map { /^\w+$/ ? () : "    $_;" } @lines), "}\n";
}


# Several shards, by their slots; each has a database of its own.

sub shards {
    my $n = 0;

    return join '', map {
        my $one = shard("slots $_");
        $n++;
        $one =~ s/main/shard$n/;
        $one =~ s/database .*;/database none_$n;/ if $n > 1;
        $one
    } @_;
}

our $kafka = 'payment_kafka_brokers 127.0.0.1:$TEST_NGINX_PAYMENT_KAFKA_PORT;'
             . "\n";

run_tests();

__DATA__

=== all directives at once, each with a good value
--- http_config eval
main::shard('durability local', 'connections 3', 'connect_timeout 1500ms', 'read_timeout 4s', 'idle_timeout 5m',
            'max_age 1h', 'max_requests 100000') . '
    payment_batch_size 100;
    payment_batch_bytes 512k;
    payment_batch_spare_delay 30ms;
    payment_queue_size 1000;
    payment_queue_bytes 8m;
    payment_queue_timeout 500ms;
    payment_retries 4;
    payment_retry_interval 5ms;
    payment_retry_max_interval 80ms;
    payment_idempotency_retention 48h;

    payment_outbox on;
    payment_outbox_path outbox_temp;
    payment_outbox_poll_interval 20ms;
    payment_outbox_max_delay 5ms;
    payment_outbox_batch_size 500;
    payment_outbox_max_in_flight 10000;
    payment_outbox_initial_delay 100ms;
    payment_outbox_lock_at_most_for 10s;
    payment_outbox_lock_at_least_for 0;
    payment_outbox_max_retries 7;
    payment_outbox_retry_interval 2s;
    payment_outbox_dead_letter divert;
    payment_outbox_archive off;
    payment_operations off;
    payment_outbox_drain_timeout 2s;

    payment_kafka_brokers 127.0.0.1:$TEST_NGINX_PAYMENT_KAFKA_PORT,localhost:$TEST_NGINX_PAYMENT_KAFKA_PORT;
    payment_kafka_topic $TEST_NGINX_PAYMENT_TOPIC;
    payment_kafka_profile safe;
    payment_kafka_property client.id test;
    payment_kafka_property message.max.bytes 900000;
    payment_kafka_property_file linger.ms ../html/linger;

    payment_event_source https://payments.example.net/;
    payment_event_type_prefix net.example.payment.;
    payment_event_dataschema https://payments.example.net/event-schema.json;
    payment_event_sequence on;
    payment_trace_exporter http://127.0.0.1:4318/v1/traces sample=12.5% service=payments;

    payment_breaker on;
    payment_breaker_failure_rate_threshold 40;
    payment_breaker_slow_call_rate_threshold 12.5;
    payment_breaker_slow_call_duration_threshold 1500ms;
    payment_breaker_wait_duration_in_open_state 20s;
    payment_breaker_permitted_number_of_calls_in_half_open_state 4;
    payment_breaker_minimum_number_of_calls 10;
    payment_breaker_sliding_window_type time;
    payment_breaker_sliding_window_size 60;
    payment_breaker_max_wait_duration_in_half_open_state 5s;
    payment_breaker_automatic_transition_from_open_to_half_open_enabled off;

    payment_idempotency_replay replay;
    payment_unknown_members ignore;
    payment_void_remainder off;
    payment_list off;
    payment_authorization_lifetime 7d;
    payment_currencies KRW USD EUR;
    payment_max_amount 100000;
    payment_max_body_size 4k;
    payment_timeout 3s;
    payment_intercept_errors off;
    payment_trace_context make;
    payment_challenge off;
    payment_problem_base https://payments.example/problems#;
'
--- config
    payment_merchant $arg_merchant;
    location /api/payments {
        payment_merchant $arg_m;
        payment_idempotency_replay conflict;
        payment_unknown_members refuse;
        payment_void_remainder on;
        payment_list on;
        payment_authorization_lifetime $arg_lifetime;
        payment_currencies EUR;
        payment_max_amount 50000;
        payment_max_body_size 2k;
        payment_timeout 2s;
        payment_api;
    }
    location = /status { payment_status; }
    location = /status.json { payment_status json; }
    location = /metrics { payment_status prometheus; }
    location = /breaker { payment_status breaker; }
    location = /openapi { payment_openapi; }
    location = /admin { payment_outbox_admin; }
    location = /health { payment_health; }
    location = /live { payment_health live; }
    location = /ready { payment_health ready; }
    location = /any { payment_health ready any; }
    location = /all { payment_health ready all; }
    location = /asyncapi { payment_asyncapi; }
    location = /dashboard { payment_dashboard status=/status admin=/admin; }
    location = /schema { payment_event_schema; }
    location @problem { payment_problem RATE_LIMIT_EXCEEDED "too many"; }
--- user_files
>>> linger
2
--- request eval
["GET /status", "GET /status.json", "GET /metrics", "GET /openapi", "GET /live", "GET /asyncapi", "GET /schema"]
--- error_code eval
[200, 200, 200, 200, 200, 200, 200]
--- response_headers_like eval
["Content-Type: application/json.*", "Content-Type: application/json.*",
 "Content-Type: text/plain.*", "Content-Type: application/.*json.*",
 "Content-Type: application/json.*",
 "Content-Type: application/vnd\\.aai\\.asyncapi\\+json;version=3\\.0\\.0",
 "Content-Type: application/schema\\+json"]



=== what may be said otherwise
--- http_config eval
main::shards('0-99 200', '100-199 201-1023') . $main::kafka . '
    payment_kafka_topic payment.$event;
    payment_kafka_profile reference;
    payment_outbox_dead_letter block;
    payment_breaker off;
    payment_breaker_sliding_window_type count;
    payment_outbox off;
'
--- request
GET /status
--- response_headers_like
Content-Type: application/json.*



=== nothing at all: the module in an nginx that does not use it
--- http_config
    # payment_shard: not here
--- config
    location = /ok { return 200 "ok\n"; }
--- request
GET /ok
--- response_headers
Content-Length: 3
--- response_body
ok



=== a location inherits, and may say otherwise
--- http_config
    payment_max_amount 100;
--- config
    payment_currencies KRW;
    location /a {
        payment_api;
    }
    location /b {
        payment_max_amount 1000;
        payment_currencies USD;
        payment_api;
    }
--- request eval
[map { qq[POST /$_->[0]/authorize
{"merchantId":"M1","amount":$_->[1],"currency":"$_->[2]","idempotencyKey":"d4-$_->[0]-$_->[1]-$_->[2]"}] }
 ['a', 100, 'KRW'], ['a', 101, 'KRW'], ['a', 100, 'USD'],
 ['b', 1000, 'USD'], ['b', 1001, 'USD'], ['b', 1000, 'KRW']]
--- error_code eval
[200, 400, 400, 200, 400, 400]



=== nginx -t asks no server: none of these is there
--- http_config eval
main::shard('server 127.0.0.1:1', 'server unix:/nonexistent.sock') . '
    payment_kafka_brokers 127.0.0.1:1;
'
--- request
GET /status
--- response_body_filters eval
sub {
    my $before = Time::HiRes::time();
    my $said = PaymentTest::nginx_test();
    return $said . (Time::HiRes::time() - $before < 2 ? ', soon' : ', late') . "\n";
}
--- response_body
ok, soon



=== payment_batch_size 0
--- http_config
    payment_batch_size 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_batch_size/



=== payment_batch_size -1
--- http_config
    payment_batch_size -1;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_batch_size/



=== payment_batch_size many
--- http_config
    payment_batch_size many;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_batch_size/



=== payment_batch_size 1000000000
--- http_config
    payment_batch_size 1000000000;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_batch_size/



=== payment_batch_bytes 0
--- http_config
    payment_batch_bytes 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_batch_bytes/



=== payment_batch_bytes x
--- http_config
    payment_batch_bytes x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_batch_bytes/



=== payment_batch_spare_delay x
--- http_config
    payment_batch_spare_delay x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_batch_spare_delay/



=== payment_queue_size 0
--- http_config
    payment_queue_size 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_queue_size/



=== payment_queue_size 4096k
--- http_config
    payment_queue_size 4096k;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_queue_size/



=== payment_queue_bytes 0
--- http_config
    payment_queue_bytes 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_queue_bytes/



=== payment_queue_bytes lots
--- http_config
    payment_queue_bytes lots;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_queue_bytes/



=== payment_queue_timeout 0
--- http_config
    payment_queue_timeout 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_queue_timeout/



=== payment_queue_timeout soon
--- http_config
    payment_queue_timeout soon;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_queue_timeout/



=== payment_retries -1
--- http_config
    payment_retries -1;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_retries/



=== payment_retries three
--- http_config
    payment_retries three;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_retries/



=== payment_retry_interval 0
--- http_config
    payment_retry_interval 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_retry_interval/



=== payment_retry_interval 10xs
--- http_config
    payment_retry_interval 10xs;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_retry_interval/



=== payment_retry_max_interval 0
--- http_config
    payment_retry_max_interval 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_retry_max_interval/



=== payment_retry_max_interval never
--- http_config
    payment_retry_max_interval never;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_retry_max_interval/



=== payment_idempotency_retention 0
--- http_config
    payment_idempotency_retention 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_idempotency_retention/



=== payment_idempotency_retention day
--- http_config
    payment_idempotency_retention day;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_idempotency_retention/



=== payment_authorization_lifetime soon
--- http_config
    payment_authorization_lifetime soon;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_authorization_lifetime.* must be a time/



=== payment_authorization_lifetime 11y
--- http_config
    payment_authorization_lifetime 11y;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_authorization_lifetime.* of ten years at most/



=== payment_authorization_lifetime ""
--- http_config
    payment_authorization_lifetime "";
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_authorization_lifetime/



=== payment_outbox yes
--- http_config
    payment_outbox yes;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox/



=== payment_outbox_poll_interval 0
--- http_config
    payment_outbox_poll_interval 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_poll_interval/



=== payment_outbox_poll_interval often
--- http_config
    payment_outbox_poll_interval often;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_poll_interval/



=== payment_outbox_batch_size 0
--- http_config
    payment_outbox_batch_size 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_batch_size/



=== payment_outbox_batch_size all
--- http_config
    payment_outbox_batch_size all;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_batch_size/



=== payment_outbox_max_in_flight 0
--- http_config
    payment_outbox_max_in_flight 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_max_in_flight/



=== payment_outbox_max_in_flight x
--- http_config
    payment_outbox_max_in_flight x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_max_in_flight/



=== payment_outbox_initial_delay -1s
--- http_config
    payment_outbox_initial_delay -1s;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_initial_delay/



=== payment_outbox_lock_at_most_for x
--- http_config
    payment_outbox_lock_at_most_for x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_lock_at_most_for/



=== payment_outbox_lock_at_least_for x
--- http_config
    payment_outbox_lock_at_least_for x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_lock_at_least_for/



=== payment_outbox_max_retries x
--- http_config
    payment_outbox_max_retries x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_max_retries/



=== payment_outbox_retry_interval 0
--- http_config
    payment_outbox_retry_interval 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_retry_interval/



=== payment_outbox_dead_letter drop
--- http_config
    payment_outbox_dead_letter drop;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_dead_letter/



=== payment_operations maybe
--- http_config
    payment_operations maybe;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_operations/



=== payment_outbox_archive maybe
--- http_config
    payment_outbox_archive maybe;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_archive/



=== payment_outbox_drain_timeout x
--- http_config
    payment_outbox_drain_timeout x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_outbox_drain_timeout/



=== payment_kafka_profile fast
--- http_config
    payment_kafka_profile fast;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_kafka_profile/



=== payment_kafka_property_file one
--- http_config
    payment_kafka_property_file sasl.password;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_kafka_property_file/



=== payment_kafka_property one
--- http_config
    payment_kafka_property one;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_kafka_property/



=== payment_breaker maybe
--- http_config
    payment_breaker maybe;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker/



=== payment_breaker_failure_rate_threshold 0
--- http_config
    payment_breaker_failure_rate_threshold 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_failure_rate_threshold/



=== payment_breaker_failure_rate_threshold 101
--- http_config
    payment_breaker_failure_rate_threshold 101;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_failure_rate_threshold/



=== payment_breaker_failure_rate_threshold half
--- http_config
    payment_breaker_failure_rate_threshold half;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_failure_rate_threshold/



=== payment_breaker_slow_call_rate_threshold 0
--- http_config
    payment_breaker_slow_call_rate_threshold 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_slow_call_rate_threshold/



=== payment_breaker_slow_call_rate_threshold 100.5
--- http_config
    payment_breaker_slow_call_rate_threshold 100.5;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_slow_call_rate_threshold/



=== payment_breaker_slow_call_duration_threshold 0
--- http_config
    payment_breaker_slow_call_duration_threshold 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_slow_call_duration_threshold/



=== payment_breaker_wait_duration_in_open_state 0
--- http_config
    payment_breaker_wait_duration_in_open_state 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_wait_duration_in_open_state/



=== payment_breaker_permitted_number_of_calls_in_half_open_state 0
--- http_config
    payment_breaker_permitted_number_of_calls_in_half_open_state 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_permitted_number_of_calls_in_half_open_state/



=== payment_breaker_minimum_number_of_calls 0
--- http_config
    payment_breaker_minimum_number_of_calls 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_minimum_number_of_calls/



=== payment_breaker_sliding_window_type sum
--- http_config
    payment_breaker_sliding_window_type sum;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_sliding_window_type/



=== payment_breaker_sliding_window_size 0
--- http_config
    payment_breaker_sliding_window_size 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_sliding_window_size/



=== payment_breaker_max_wait_duration_in_half_open_state x
--- http_config
    payment_breaker_max_wait_duration_in_half_open_state x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_max_wait_duration_in_half_open_state/



=== payment_breaker_automatic_transition_from_open_to_half_open_enabled 1
--- http_config
    payment_breaker_automatic_transition_from_open_to_half_open_enabled 1;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_breaker_automatic_transition_from_open_to_half_open_enabled/



=== payment_idempotency_replay always
--- http_config
    payment_idempotency_replay always;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_idempotency_replay/



=== payment_unknown_members warn
--- http_config
    payment_unknown_members warn;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_unknown_members/



=== payment_currencies krw
--- http_config
    payment_currencies krw;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_currencies/



=== payment_currencies KRW XYZ
--- http_config
    payment_currencies KRW XYZ;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_currencies/



=== payment_currencies
--- http_config
    payment_currencies;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_currencies/



=== payment_max_amount 0
--- http_config
    payment_max_amount 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_max_amount/



=== payment_max_amount -5
--- http_config
    payment_max_amount -5;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_max_amount/



=== payment_max_amount 9007199254740992
--- http_config
    payment_max_amount 9007199254740992;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_max_amount/



=== payment_max_amount 1.5
--- http_config
    payment_max_amount 1.5;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_max_amount/



=== payment_max_body_size 0
--- http_config
    payment_max_body_size 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_max_body_size/



=== payment_max_body_size big
--- http_config
    payment_max_body_size big;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_max_body_size/



=== payment_timeout 0
--- http_config
    payment_timeout 0;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_timeout/



=== payment_timeout x
--- http_config
    payment_timeout x;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_timeout/



=== payment_intercept_errors maybe
--- http_config
    payment_intercept_errors maybe;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_intercept_errors/



=== payment_merchant
--- http_config
    payment_merchant;
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_merchant/



=== payment_batch_size twice
--- http_config
    payment_batch_size 10;
    payment_batch_size 10;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_batch_size" directive is duplicate/



=== payment_outbox twice
--- http_config
    payment_outbox off;
    payment_outbox off;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_outbox" directive is duplicate/



=== payment_currencies twice
--- http_config
    payment_currencies KRW;
    payment_currencies KRW;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_currencies" directive is duplicate/



=== payment_max_amount twice
--- http_config
    payment_max_amount 5;
    payment_max_amount 5;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_max_amount" directive is duplicate/



=== payment_merchant twice
--- http_config
    payment_merchant $arg_a;
    payment_merchant $arg_a;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_merchant" directive is duplicate/



=== payment_breaker_failure_rate_threshold twice
--- http_config
    payment_breaker_failure_rate_threshold 50;
    payment_breaker_failure_rate_threshold 50;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_breaker_failure_rate_threshold" directive is duplicate/



=== the outbox without brokers
--- http_config eval
main::shard() . 'payment_outbox on;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:payment_kafka_brokers)/



=== a lease of less than a second
--- http_config eval
main::shard() . $main::kafka . 'payment_outbox_lock_at_most_for 999ms;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:payment_outbox_lock_at_most_for)/



=== a lease held for longer than it lasts
--- http_config eval
main::shard() . $main::kafka . 'payment_outbox_lock_at_most_for 2s; payment_outbox_lock_at_least_for 3s;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:payment_outbox_lock_at_least_for)/



=== a broker that is no address
--- http_config eval
main::shard() . 'payment_kafka_brokers 127.0.0.1:x;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:payment_kafka_brokers)/



=== a topic that Kafka would not have
--- http_config eval
main::shard() . $main::kafka . 'payment_kafka_topic "a b";'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:payment_kafka_topic)/



=== a topic with an unknown variable
--- http_config eval
main::shard() . $main::kafka . 'payment_kafka_topic payment.$nothing;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:payment_kafka_topic)/



=== a property that librdkafka does not know
--- http_config eval
main::shard() . $main::kafka . 'payment_kafka_property no.such.property 1;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:no\.such\.property)/



=== a property with a bad value
--- http_config eval
main::shard() . $main::kafka . 'payment_kafka_property linger.ms soon;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:linger\.ms)/



=== properties that contradict each other
--- http_config eval
main::shard() . $main::kafka . 'payment_kafka_profile safe; payment_kafka_property acks 1;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:payment_kafka_property|acks)/



=== a property that is not for its user
--- http_config eval
main::shard() . $main::kafka . 'payment_kafka_property bootstrap.servers other:9092;'
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:bootstrap\.servers)/



=== payment_shard: a slot that nobody has
--- http_config eval
main::shards('0-511', '513-1023')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:no payment_shard has slot 512)/



=== payment_shard: a gap of many
--- http_config eval
main::shards('0-99', '200-1023')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:no payment_shard has slots 100-199)/



=== payment_shard: the last slots missing
--- http_config eval
main::shards('0-1000')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:no payment_shard has slots 1001-1023)/



=== payment_shard: the first slot missing
--- http_config eval
main::shards('1-1023')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:no payment_shard has slot 0)/



=== payment_shard: an overlap
--- http_config eval
main::shards('0-512', '512-1023')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:shard1.* and .*shard2.* both have slot 512)/



=== payment_shard: a slot twice in one
--- http_config eval
main::shards('0-1023 7')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:slot 7 twice)/



=== payment_shard: all slots twice
--- http_config eval
main::shards('0-1023', '0-1023')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:both have slot 0)/



=== payment_shard: a slot that is none
--- http_config eval
main::shards('0-1024')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:slots \"0-1024\")/



=== payment_shard: a range the wrong way round
--- http_config eval
main::shards('512-0')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:slots \"512-0\")/



=== payment_shard: no number
--- http_config eval
main::shards('all')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:slots \"all\")/



=== payment_shard: several shards, one without slots
--- http_config eval
main::shards('0-1023') . main::shard('slots')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:slots.*main|main.*slots)/



=== payment_shard: one name twice
--- http_config eval
main::shard('slots 0-511') . main::shard('slots 512-1023')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:payment_shard \"main\")/



=== payment_shard: no server
--- http_config eval
main::shard('server')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:server)/



=== payment_shard: no database
--- http_config eval
main::shard('database')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:database)/



=== payment_shard: no user
--- http_config eval
main::shard('user')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:user)/



=== payment_shard: a server without a host
--- http_config eval
main::shard('server :3306')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:server \":3306\")/



=== payment_shard: a server with a bad port
--- http_config eval
main::shard('server 127.0.0.1:70000')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:server \"127\.0\.0\.1:70000\")/



=== payment_shard: a socket without a path
--- http_config eval
main::shard('server unix:')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:server \"unix:\")/



=== payment_shard: a server twice
--- http_config eval
main::shard('server 127.0.0.1:3306', 'server 127.0.0.1:3306')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:server \"127\.0\.0\.1:3306\")/



=== payment_shard: no connections
--- http_config eval
main::shard('connections 0')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:connections)/



=== payment_shard: a bad time
--- http_config eval
main::shard('connect_timeout soon')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:connect_timeout)/



=== payment_shard: no time
--- http_config eval
main::shard('connect_timeout 0')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:connect_timeout)/



=== payment_shard: a bad flag
--- http_config eval
main::shard('ssl maybe')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:ssl)/



=== payment_shard: durability is one of two words
--- http_config eval
main::shard('durability remote')
--- must_die
--- error_log eval
qr/\[emerg\] .*invalid value "remote"/



=== payment_shard: durability replica with one server has nobody to confirm
--- http_config eval
main::shard('durability replica')
--- must_die
--- error_log eval
qr/\[emerg\] .*"durability replica" needs several servers/



=== payment_shard: a certificate without its key
--- http_config eval
main::shard('ssl on', 'ssl_certificate nginx.conf')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:ssl_certificate_key)/



=== payment_shard: a CA that is not there
--- http_config eval
main::shard('ssl on', 'ssl_ca /nonexistent.pem')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:nonexistent\.pem)/



=== payment_shard: verification without TLS
--- http_config eval
main::shard('ssl_verify on')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:ssl_verify)/



=== payment_shard: a password file that is not there
--- http_config eval
main::shard('password', 'password_file /nonexistent')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:nonexistent)/



=== payment_shard: two passwords
--- http_config eval
main::shard('password a', 'password b')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:password)/



=== payment_shard: a directive that is none
--- http_config eval
main::shard('colour blue')
--- must_die
--- error_log eval
qr/\[emerg\] .*(?:colour)/



=== payment_api needs a shard
--- http_config
    # payment_shard: not here
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_shard/



=== payment_api in a server
--- config
    payment_api;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_api" directive is not allowed here/



=== payment_status in a server
--- config
    payment_status;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_status" directive is not allowed here/



=== payment_shard in a server
--- config
    payment_shard x { server 127.0.0.1; }
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_shard" directive is not allowed here/



=== payment_batch_size in a location
--- config
    location /a { payment_batch_size 5; }
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_batch_size" directive is not allowed here/



=== payment_api with an argument
--- config
    location /a { payment_api on; }
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_api/



=== payment_api twice
--- config
    location /a { payment_api; payment_api; }
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_api" directive is duplicate/



=== payment_status in an unknown format
--- config
    location = /s { payment_status xml; }
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_status/



=== a challenge that is none
--- http_config
    payment_challenge "";
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_challenge" directive must be "off" or a challenge/



=== a base of problems that is no URI's beginning
--- http_config
    payment_problem_base problems/;
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_problem_base" directive must be the beginning of a URI/



=== a base of problems that JSON would have to escape
--- http_config
    payment_problem_base 'https://x/"';
--- must_die
--- error_log eval
qr/\[emerg\] .*"payment_problem_base" directive must be the beginning of a URI/



=== a base of problems that is too long
--- http_config eval
'payment_problem_base https://x/' . 'x' x 250 . ';'
--- must_die
--- error_log eval
qr/\[emerg\] .*of at most 256 characters/



=== a problem whose code is none of the API's
--- config
    location @p { payment_problem TEAPOT; }
--- must_die
--- error_log eval
qr/\[emerg\] .*invalid value "TEAPOT" in "payment_problem" directive, it must be a code/



=== payment_health of an unknown kind
--- config
    location = /h { payment_health dead; }
--- must_die
--- error_log eval
qr/\[emerg\] .*invalid value "dead" in "payment_health" directive, it must be "live", "ready", "ready any" or "ready all"/



=== payment_health ready of an unknown number of shards
--- config
    location = /h { payment_health ready most; }
--- must_die
--- error_log eval
qr/\[emerg\] .*invalid value "most" in "payment_health" directive, it must be "any" or "all"/



=== payment_health live says nothing of shards
--- config
    location = /h { payment_health live all; }
--- must_die
--- error_log eval
qr/\[emerg\] .*invalid value "live" in "payment_health"/



=== payment_status where another handler is
--- config
    location = /s { payment_api; payment_status; }
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_status/



=== payment_api where another handler is
--- config
    location = /s { payment_status; payment_api; }
--- must_die
--- error_log eval
qr/\[emerg\] .*payment_api/



=== a password is not in the log, whatever is wrong beside it
--- http_config eval
main::shard('password hunter2', 'connections 0')
--- must_die
--- error_log
[emerg]
--- no_error_log
hunter2
