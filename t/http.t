# payment_api is an nginx handler like any other: methods, bodies in any shape,
# keep-alive, HTTP/2 and 3, error pages and access rules behave as nginx's users
# expect.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

our $json = 'Content-Type: application/json';

sub body {
    my ($key, $amount) = @_;

    return sprintf '{"merchantId":"M1","amount":%d,"currency":"KRW",'
                   . '"idempotencyKey":"%s"}', $amount // 1000, $key;
}

sub raw {
    my ($uri, $headers, $body) = @_;

    return "POST $uri HTTP/1.1\r\nHost: localhost\r\n"
           . "Content-Type: application/json\r\n$headers\r\n$body";
}

# Filter of a response: what four authorizations and a GET are told.

sub many {
    my ($http, $key) = @_;

    return sub {
        my @a = map { [$http->('POST', '/api/payments/authorize', $_)] }
                body($key), body($key), '{}', '';
        my $get = JSON::PP::decode_json($a[0][2])->{paymentId};

        push @a, [$http->('GET', "/api/payments/$get?merchantId=M1")];

        return join '', map { "HTTP/$_->[1]: " . PaymentTest::told($_->[2]) } @a;
    };
}

run_tests();

__DATA__

=== HEAD of an operation is a method that is not allowed, without a body
--- request
HEAD /api/payments/authorize
--- error_code: 405
--- response_headers
Allow: POST
Content-Type: application/problem+json
--- response_body eval
""



=== OPTIONS is left to nginx's own directives, so not allowed by itself
--- request eval
["OPTIONS /api/payments/authorize",
 "OPTIONS /api/payments/01890000-0000-7000-8000-000000000000"]
--- error_code eval
[405, 405]
--- response_headers eval
["Allow: POST", "Allow: GET, HEAD"]



=== CORS by nginx's own directives
--- config
    location /api/payments {
        add_header Access-Control-Allow-Origin "https://shop.example" always;
        if ($request_method = OPTIONS) {
            add_header Access-Control-Allow-Origin "https://shop.example";
            add_header Access-Control-Allow-Methods "GET, POST";
            add_header Access-Control-Allow-Headers "Content-Type, Idempotency-Key";
            return 204;
        }
        payment_api;
    }
--- request eval
["OPTIONS /api/payments/authorize",
 "POST /api/payments/authorize\n" . main::body('h3'),
 "POST /api/payments/authorize\n{}"]
--- more_headers eval
[$main::json, $main::json, $main::json]
--- error_code eval
[204, 200, 400]
--- response_headers eval
["Access-Control-Allow-Origin: https://shop.example\nAccess-Control-Allow-Methods: GET, POST",
 ("Access-Control-Allow-Origin: https://shop.example") x 2]



=== Expect: 100-continue
--- raw_request eval
main::raw('/api/payments/authorize', "Connection: close\r\nExpect: 100-continue\r\n"
          . "Content-Length: " . length(main::body('h4')) . "\r\n", main::body('h4'))
--- error_code: 100
--- response_body_like eval
qr/^HTTP\/1\.1 200 OK\r\n.*"status":"AUTHORIZED"/s



=== Expect: 100-continue, and the body on its own
--- raw_request eval
[main::raw('/api/payments/authorize', "Connection: close\r\nExpect: 100-continue\r\n"
           . "Content-Length: " . length(main::body('h5')) . "\r\n", ''),
 main::body('h5')]
--- raw_request_middle_delay: 0.1
--- error_code: 100
--- response_body_like eval
qr/^HTTP\/1\.1 200 OK\r\n.*"status":"AUTHORIZED"/s



=== a body too large is refused before it is sent
--- raw_request eval
main::raw('/api/payments/authorize', "Connection: close\r\nExpect: 100-continue\r\n"
          . "Content-Length: 100000\r\n", '')
--- timeout: 500ms
--- abort
--- error_code: 413
--- response_body_filters eval
\&PaymentTest::told
--- response_body
413 PAYLOAD_TOO_LARGE



=== a chunked body
--- request eval
my $b = main::body('h7');
"POST /api/payments/authorize\n" . CORE::join('', map { sprintf "%x\r\n%s\r\n", length, $_ }
    substr($b, 0, 10), substr($b, 10, 1), substr($b, 11)) . "0\r\n\r\n"
--- more_headers
Content-Type: application/json
Transfer-Encoding: chunked
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
row: M1 AUTHORIZED 1000 KRW, captured 0, refunded 0, version 1
events: authorized



=== a body that comes in pieces
--- raw_request eval
my $b = main::body('h8');
my $r = main::raw('/api/payments/authorize', "Connection: close\r\nContent-Length: "
                  . length($b) . "\r\n", $b);
[unpack '(a40)*', $r]
--- raw_request_middle_delay: 0.01
--- response_body_filters eval
\&PaymentTest::told
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0



=== a body in a temporary file
--- config
    location /api/payments {
        client_body_in_file_only clean;
        payment_api;
    }
--- request eval
"POST /api/payments/authorize\n" . main::body('h9')
--- response_body_filters eval
\&PaymentTest::told
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0



=== a body larger than nginx's buffer
--- config
    location /api/payments {
        client_body_buffer_size 128;
        payment_api;
    }
--- request eval
my $b = main::body('h10');
$b =~ s/}$/' ' x 4000 . '}'/e;
"POST /api/payments/authorize\n$b"
--- response_body_filters eval
\&PaymentTest::told
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0



=== keep-alive and pipelining, good and bad in turn
--- pipelined_requests eval
["POST /api/payments/authorize\n" . main::body('h11-1'),
 "POST /api/payments/authorize\n{}",
 "GET /api/payments/01890000-0000-7000-8000-000000000000?merchantId=M1",
 "POST /api/payments/authorize\n" . main::body('h11-2'),
 "GET /api/payments/authorize",
 "POST /api/payments/authorize\n" . main::body('h11-1')]
--- error_code eval
[200, 400, 404, 200, 405, 200]
--- response_body_filters eval
sub { my $t = PaymentTest::told(shift); $t =~ s/,.*//s; $t }
--- response_body_like eval
["^P1 AUTHORIZED", "^400 INVALID_REQUEST", "^404 NOT_FOUND", "^P2 AUTHORIZED",
 "^405 METHOD_NOT_ALLOWED", "^P1 AUTHORIZED"]



=== the rest of a refused body is not taken for a request
--- pipelined_requests eval
["POST /api/payments/authorize\n" . '{"merchantId":"' . 'GET / ' x 2000 . '"}',
 "POST /api/payments/nothing/here\n" . main::body('h12'),
 "GET /status"]
--- error_code eval
[413, 404, 200]
--- no_error_log
client sent invalid
[alert]



=== HTTP/1.0
--- request eval
"POST /api/payments/authorize HTTP/1.0\n" . main::body('h13')
--- response_body_filters eval
\&PaymentTest::told
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0



=== HTTP/2
--- config
    $TEST_NGINX_PAYMENT_HTTP2;
    location /api/payments { payment_api; }
    location = /status { payment_status; }
--- request
GET /status
--- response_body_filters eval
main::many(\&PaymentTest::http2, "h14")
--- response_body
HTTP/2: P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
HTTP/2: P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
HTTP/2: 400 INVALID_REQUEST merchantId
HTTP/2: 400 INVALID_REQUEST
HTTP/2: P1 AUTHORIZED 1000 KRW, captured 0, refunded 0



=== HTTP/3
--- skip_eval: 2: !PaymentTest::can_http3()
--- config
    $TEST_NGINX_PAYMENT_HTTP3;
    location /api/payments { payment_api; }
    location = /status { payment_status; }
--- request
GET /status
--- response_body_filters eval
main::many(\&PaymentTest::http3, "h15")
--- response_body
HTTP/3: P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
HTTP/3: P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
HTTP/3: 400 INVALID_REQUEST merchantId
HTTP/3: 400 INVALID_REQUEST
HTTP/3: P1 AUTHORIZED 1000 KRW, captured 0, refunded 0



=== our answers are ours: error_page does not touch them
--- config
    error_page 400 404 405 409 413 415 /nice.html;
    location /api/payments { payment_api; }
    location = /nice.html { return 200 "nice\n"; }
--- request eval
["POST /api/payments/authorize\n{}", "GET /api/payments/x?merchantId=M1"]
--- error_code eval
[400, 404]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["400 INVALID_REQUEST merchantId\n", "404 NOT_FOUND\n"]



=== unless payment_intercept_errors says so
--- config
    error_page 400 404 /nice.html;
    location /api/payments {
        payment_intercept_errors on;
        payment_api;
    }
    location = /nice.html { internal; return 200 "nice\n"; }
--- request eval
["POST /api/payments/authorize\n{}", "GET /api/payments/x?merchantId=M1",
 "POST /api/payments/authorize\n" . main::body('h16')]
--- more_headers eval
[$main::json, $main::json, $main::json]
--- error_code eval
[400, 404, 200]
--- response_headers_like eval
["Content-Type: .*", "Content-Type: .*", "Content-Type: application/json"]
--- response_body_like eval
["^nice\n\$", "^nice\n\$", "AUTHORIZED"]



=== nginx's own answers keep its error pages
--- config
    location /api/payments {
        client_max_body_size 50;
        error_page 413 /large.html;
        payment_api;
    }
    location = /large.html { internal; return 200 "nginx says no\n"; }
--- request eval
"POST /api/payments/authorize\n" . main::body('h17')
--- error_code: 413
--- response_headers_like
Content-Type: .*
--- response_body
nginx says no



=== allow and deny, satisfy any
--- config
    location /denied {
        deny all;
        payment_api;
    }
    location /any {
        satisfy any;
        deny all;
        auth_request /yes;
        payment_api;
    }
    location /all {
        satisfy all;
        deny all;
        auth_request /yes;
        payment_api;
    }
    location = /yes { internal; return 204; }
--- request eval
[map { "POST /$_/authorize\n" . main::body("h18-$_") } qw( denied any all )]
--- error_code eval
[403, 200, 403]
--- response_headers_like eval
[("Content-Type: .*") x 3]



=== a rewrite in front
--- config
    location /old/pay {
        rewrite ^/old/pay/(.*)$ /api/payments/$1 last;
    }
    location /api/payments { payment_api; }
--- request eval
"POST /old/pay/authorize\n" . main::body('h19')
--- response_body_filters eval
\&PaymentTest::told
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0



=== locations of every kind
--- config
    location = /exact/authorize { payment_api; }
    location ~ ^/re/v\d+/ { payment_api; }
    location ^~ /caret/ { payment_api; }
    location /slash/ { payment_api; }
--- request eval
[map { "POST $_\n" . main::body("h20-$_") }
 '/exact/authorize', '/re/v1/authorize', '/caret/authorize', '/slash/authorize']
--- error_code eval
[200, 200, 200, 200]



=== and the operations in them
--- config
    location /api/payments { payment_api; }
    location ~ ^/re/v\d+/ { payment_api; }
    location /slash/ { payment_api; }
--- init
PaymentTest::given(A => {});
--- request eval
["GET /re/v1/{A}?merchantId=M1",
 "POST /re/v1/capture/{A}\n" . '{"merchantId":"M1","amount":1}',
 "POST /slash/capture/{A}\n" . '{"merchantId":"M1","amount":1}',
 "POST /slash/refund/{A}\n" . '{"merchantId":"M1","amount":1,"reason":"r"}']
--- error_code eval
[200, 200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["A AUTHORIZED 1000 KRW, captured 0, refunded 0\n",
 "A PARTIALLY_CAPTURED 1000 KRW, captured 1, refunded 0\n",
 "A PARTIALLY_CAPTURED 1000 KRW, captured 2, refunded 0\n",
 "A PARTIALLY_REFUNDED 1000 KRW, captured 2, refunded 1\n"]



=== gzip, and other filters, have the body too
--- config
    location /api/payments {
        gzip on;
        gzip_types application/json;
        gzip_min_length 1;
        payment_api;
    }
--- request eval
"POST /api/payments/authorize\n" . main::body('h22')
--- more_headers
Content-Type: application/json
Accept-Encoding: gzip
--- response_headers
Content-Encoding: gzip
Content-Type: application/json
--- response_body_like eval
qr/^\x1f\x8b/



=== a client that goes away: the payment goes on
--- raw_request eval
main::raw('/api/payments/authorize', "Content-Length: " . length(main::body('h23'))
          . "\r\n", main::body('h23'))
--- shutdown
--- timeout: 1
--- abort
--- ignore_response
--- no_error_log
[alert]
[emerg]



=== and its answer waits under its key
--- init
PaymentTest::http('POST', '/api/payments/authorize', main::body('h24'));
--- request eval
"POST /api/payments/authorize\n" . main::body('h24')
--- response_headers
Idempotent-Replayed: true



=== a client that sends half a body
--- raw_request eval
main::raw('/api/payments/authorize', "Content-Length: 500\r\n", '{"merchantId":')
--- timeout: 200ms
--- abort
--- ignore_response
--- no_error_log
[alert]
[emerg]



=== what the access log can say of a payment
--- http_config
    log_format payment '[$payment_operation $payment_status $payment_shard '
                       '$payment_replayed $payment_error] $payment_id '
                       '$payment_batch_size $payment_queue_time $payment_commit_time;';
--- config
    location /api/payments {
        access_log logs/access.log payment;
        payment_api;
    }
--- request eval
["POST /api/payments/authorize\n" . main::body('h26'),
 "POST /api/payments/authorize\n" . main::body('h26'),
 "POST /api/payments/authorize\n{}"]
--- error_code eval
[200, 200, 400]
--- access_log eval
[qr/^\[authorize .*\]/]



=== each variable, as it is logged
--- http_config
    log_format payment '[$payment_operation $payment_status $payment_shard '
                       '$payment_replayed $payment_error] $payment_id '
                       '$payment_batch_size $payment_queue_time $payment_commit_time;';
--- config
    location /api/payments {
        access_log logs/access.log payment;
        payment_api;
    }
    location = /ok { access_log off; return 200 "ok\n"; }
--- init
PaymentTest::http('POST', '/api/payments/authorize', main::body('h27')) for 1, 2;
PaymentTest::http('POST', '/api/payments/authorize', '{}');
PaymentTest::http('GET', '/api/payments/x');
--- request
GET /ok
--- response_headers
Content-Length: 3
--- access_log eval
my $id = '[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}';
my $time = '\d+\.\d{3,6}';
[qr/^\[authorize AUTHORIZED main 0 -\] $id 1 $time $time;$/,
 qr/^\[authorize AUTHORIZED main 1 -\] $id \d+ $time $time;$/,
 qr/^\[authorize - - 0 INVALID_REQUEST\] - - - -;$/,
 qr/^\[get - - 0 NOT_FOUND\] - - - -;$/]



=== in every other location the variables are empty
--- http_config
    log_format payment '[$payment_operation $payment_status $payment_id]';
--- config
    location = /plain {
        access_log logs/access.log payment;
        return 200 "plain\n";
    }
--- request
GET /plain
--- response_headers
Content-Length: 6
--- access_log
[- - -]



=== identity is no encoding, and neither is an empty one
--- request eval
[map { "POST /api/payments/authorize\n" . main::body("h29-$_") } 1, 2]
--- more_headers eval
[map { "Content-Type: application/json\nContent-Encoding: $_" } 'Identity', '']
--- error_code eval
[200, 200]
