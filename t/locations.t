# Where the module's kinds of location may stand, and what nginx's own
# directives may do with them: limit_except, if, internal, mirror, rewrite,
# error_page. A location answers there as it does alone.

use lib 't/lib';
use PaymentTest;
use Test::Nginx::Socket 'no_plan';

our $json = 'Content-Type: application/json';

# all kinds but that of the API
our @others = map { "GET /$_" } qw( status metrics openapi admin health dashboard
                                   asyncapi schema );

# the log of conf/production.conf, and the same line made of variables
our ($line) = PaymentTest::read_file('conf/production.conf')
    =~ /\n(    log_format  payment .*?)\n\n    access_log /s
    or die "conf/production.conf has no log_format as this test knows it\n";
our ($own) = PaymentTest::read_file('docs/operations.md')
    =~ /\n(    log_format  own .*?;)\n/s
    or die "docs/operations.md has no log_format as this test knows it\n";

# both logs of a block, a line of one beside that of the other, when they are there
sub lines {
    my ($wanted) = @_;
    my $logs = Test::Nginx::Socket->can('server_root')->() . '/logs';
    my @of;

    PaymentTest::await {
        @of = map { [split /\n/, PaymentTest::read_file("$logs/$_.log")] }
                  qw( access own );
        @{$of[0]} == $wanted && @{$of[1]} == $wanted;
    };

    return map { [$of[0][$_], $of[1][$_]] } 0 .. $wanted - 1;
}

# all kinds; the words of the first argument stand inside each of them
sub locations {
    my ($inside) = @_;

    return <<"END";
    location /api/payments { payment_api; $inside }
    location = /status { payment_status; $inside }
    location = /metrics { payment_status prometheus; $inside }
    location = /openapi { payment_openapi; $inside }
    location = /admin { payment_outbox_admin; $inside }
    location = /health { payment_health live; $inside }
    location = /dashboard { payment_dashboard; $inside }
    location = /asyncapi { payment_asyncapi; $inside }
    location = /schema { payment_event_schema; $inside }
END
}

sub body {
    my ($key) = @_;

    return '{"merchantId":"M1","amount":1000,"currency":"KRW",'
           . qq("idempotencyKey":"$key"});
}

# one request whose chunks are not chunks, and another that must not be read
sub malformed {
    my ($line, $type) = @_;

    return "$line HTTP/1.1\r\nHost: localhost\r\n"
           . "Content-Type: $type\r\nTransfer-Encoding: chunked\r\n\r\n"
           . "nonsense\r\n"
           . "GET /after HTTP/1.1\r\nHost: localhost\r\n"
           . "Connection: close\r\n\r\n";
}

run_tests();

__DATA__

=== limit_except lets the methods through that it admits
--- config eval
main::locations('limit_except PATCH { allow all; }')
--- request eval
["POST /api/payments/authorize\n" . main::body('l1'),
 'GET /api/payments/01890000-0000-7000-8000-000000000000?merchantId=M1',
 @main::others]
--- more_headers eval
[$main::json, ('X: y') x 9]
--- error_code eval
[200, 404, (200) x 8]
--- response_headers_like eval
["Content-Type: application/json", "Content-Type: application/problem\\+json",
 "Content-Type: application/json", "Content-Type: text/plain.*",
 "Content-Type: application/openapi\\+json", "Content-Type: application/json",
 "Content-Type: application/json", "Content-Type: text/html.*",
 "Content-Type: application/vnd.aai.asyncapi\\+json.*",
 "Content-Type: application/schema\\+json"]



=== and refuses those that it does not
--- config eval
main::locations('limit_except POST { deny all; }')
--- request eval
["POST /api/payments/authorize\n" . main::body('l2'),
 'GET /api/payments/01890000-0000-7000-8000-000000000000?merchantId=M1',
 @main::others]
--- more_headers eval
[$main::json, ('X: y') x 9]
--- error_code eval
[200, (403) x 9]
--- response_headers_like eval
[("Content-Type: .*") x 10]



=== what limit_except says of payments counts in it
--- config
    location /api/payments {
        payment_max_amount 5;
        payment_api;
        limit_except GET { allow all; }
    }
--- request eval
["POST /api/payments/authorize\n" . main::body('l3')]
--- error_code eval
[400]



=== an "if" changes nothing, whether it is true or not
--- config eval
main::locations('set $x ""; if ($request_method) { set $x 1; }'
                . ' if ($request_method = PUT) { set $x 2; }')
--- init
PaymentTest::given(A => {});
--- request eval
["POST /api/payments/authorize\n" . main::body('l4'),
 'GET /api/payments/{A}?merchantId=M1',
 @main::others]
--- more_headers eval
[$main::json, ('X: y') x 9]
--- error_code eval
[(200) x 10]
--- response_headers_like eval
[("Content-Type: .*") x 10]



=== nor to what counts as a path below the location
--- config
    location /api/payments {
        if ($request_method) { set $x 1; }
        payment_api;
    }
    location /plain { payment_api; }
--- init
PaymentTest::given(A => {});
--- request eval
[map { ("POST $_/a/b/authorize\n" . main::body('l5'),
        "GET $_/a/{A}?merchantId=M1") } '/api/payments', '/plain']
--- error_code eval
[(404) x 4]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
[("404 NOT_FOUND\n") x 4]



=== a location inside is not one of ours by that
--- config
    location /api/payments {
        payment_api;
        location /api/payments/inside { }
        location ~ \.html$ { return 200 "html\n"; }
    }
--- request eval
["GET /api/payments/inside/x?merchantId=M1", "GET /api/payments/x.html"]
--- error_code eval
[404, 200]
--- response_headers_like eval
[("Content-Type: text/.*") x 2]



=== an URI that was rewritten has no prefix any more
--- config
    location /api/payments {
        rewrite ^/api/payments/(.*)$ /v2/$1 break;
        payment_api;
    }
--- init
PaymentTest::given(A => {});
--- request eval
["POST /api/payments/authorize\n" . main::body('l7'),
 "POST /api/payments/capture/{A}\n" . '{"merchantId":"M1"}',
 "GET /api/payments/{A}?merchantId=M1"]
--- error_code eval
[200, 200, 200]
--- response_body_filters eval
\&PaymentTest::told
--- response_body eval
["P1 AUTHORIZED 1000 KRW, captured 0, refunded 0\n",
 "A CAPTURED 1000 KRW, captured 1000, refunded 0\n",
 "A CAPTURED 1000 KRW, captured 1000, refunded 0\n"]



=== internal, and reached by rewrite, try_files and a named location
--- config
    location /in/ { internal; payment_api; }
    location @named { payment_api; }
    location /rewritten/ { rewrite ^/rewritten/(.*)$ /in/$1 last; }
    location /tried/ { try_files /nothing @named; }
    location /erred/ { error_page 418 = @named; return 418; }
--- request eval
[map { "POST $_\n" . main::body("l8-$_") }
 '/in/authorize', '/rewritten/authorize', '/tried/authorize',
 '/erred/authorize']
--- error_code eval
[404, 200, 200, 200]
--- response_headers_like eval
["Content-Type: text/html", ("Content-Type: application/json") x 3]



=== a mirror has the body, and the payment is made once
--- config
    location /api/payments {
        mirror /copy;
        payment_api;
    }
    location = /copy { internal; return 204; }
--- request eval
"POST /api/payments/authorize\n" . main::body('l9')
--- response_body_filters eval
\&PaymentTest::told_and_kept
--- response_body
P1 AUTHORIZED 1000 KRW, captured 0, refunded 0
row: M1 AUTHORIZED 1000 KRW, captured 0, refunded 0, version 1
events: authorized



=== nor does it change what is only read
--- http_config
    payment_operations on;
--- config
    location /api/payments {
        mirror /copy;
        payment_api;
    }
    location = /copy { internal; return 204; }
--- init
PaymentTest::given(A => { idempotencyKey => 'l10' });
--- request eval
["GET /api/payments/{A}?merchantId=M1",
 "GET /api/payments/{A}/operations?merchantId=M1",
 "GET /api/payments?merchantId=M1&idempotencyKey=l10"]
--- more_headers eval
[('Content-Encoding: gzip') x 3]
--- error_code eval
[(200) x 3]
--- response_headers_like eval
[("Content-Type: application/json") x 3]



=== the variables outlive error_page
--- http_config
    log_format payment '[$payment_operation $payment_error $payment_replayed] $status';
--- config
    access_log logs/access.log payment;
    error_page 400 404 /nice.html;
    error_page 405 = @named;
    location /api/payments {
        payment_intercept_errors on;
        payment_api;
    }
    location = /nice.html { internal; return 200 "nice\n"; }
    location @named { return 200 "named\n"; }
    location = /ok { access_log off; return 200 "ok\n"; }
--- init
PaymentTest::http('POST', '/api/payments/authorize', '{}');
PaymentTest::http('GET', '/api/payments/x');
PaymentTest::http('GET', '/api/payments/authorize');
--- request
GET /ok
--- response_headers
Content-Length: 3
--- access_log eval
[qr/^\[authorize INVALID_REQUEST 0\] 400$/,
 qr/^\[get NOT_FOUND 0\] 404$/,
 qr/^\[authorize METHOD_NOT_ALLOWED 0\] 200$/]



=== the log of production.conf is JSON, with numbers as numbers
--- http_config eval
q{map $http_x_m $payment_client { default $http_x_m; }} . $main::line . $main::own
--- config
    access_log logs/access.log payment;
    access_log logs/own.log own;
    payment_merchant $payment_client;
    error_page 429 @limited;
    location /api/payments { payment_api; }
    location @limited { payment_problem RATE_LIMIT_EXCEEDED; }
    location /other { return 200 "other\n"; }
    location = /limited { return 429; }
    location = /ok { access_log off; return 200 "ok\n"; }
--- init
PaymentTest::http('POST', '/api/payments/authorize', main::body('log'), 'X-M: M1') for 1, 2;
PaymentTest::http('POST', '/api/payments/authorize', main::body('log'), 'X-M: "quoted"');
PaymentTest::http('GET', '/api/payments/x', undef, 'X-M: M1');
PaymentTest::http('GET', '/other%22%5C%01');
PaymentTest::http('GET', '/limited', undef, 'X-M: M1');
--- request
GET /ok
--- response_headers
Content-Length: 3
--- response_body_filters eval
sub {
    return CORE::join '', map {
        my ($text, $own) = @$_;
        my $line = JSON::PP::decode_json($text);
        my %kind = map {
            my ($value) = $text =~ /"$_":("|true|false|null|[0-9.]+)/;
            ($_ => $value eq '"' ? 'text' : $value =~ /^[0-9]/ ? 'number' : $value)
        } qw( status request_time queue commit batch replayed );
        CORE::join(' ', @kind{qw( status request_time queue commit batch replayed )},
                   $line->{operation}, $line->{error}, "[$line->{merchant}]",
                   CORE::length $line->{trace}, $line->{uri} =~ s/\x01/01/r,
                   $text eq $own ? 'as its own' : "not $own") . "\n"
    } main::lines(6);
}
--- response_body
number number number number number false authorize  [M1] 32 /api/payments/authorize as its own
number number number number number true authorize  [M1] 32 /api/payments/authorize as its own
number number null null null false authorize MERCHANT_MISMATCH ["quoted"] 32 /api/payments/authorize as its own
number number null null null false get NOT_FOUND [M1] 32 /api/payments/x as its own
number number null null null null   [] 0 /other"\01 as its own
number number null null null false get RATE_LIMIT_EXCEEDED [M1] 32 /limited as its own


=== nor can a method of HTTP/2, which may be anything, add to a line
--- http_config eval
q{map $host $payment_client { default ""; }} . $main::line . $main::own
--- config
    $TEST_NGINX_PAYMENT_HTTP2;
    access_log logs/access.log payment;
    access_log logs/own.log own;
    location /api/payments { payment_api; }
    location = /ok { access_log off; return 200 "ok\n"; }
--- init
PaymentTest::http2('A","status":200,"x":"\\', '/api/payments/x');
--- request
GET /ok
--- response_headers
Content-Length: 3
--- response_body_filters eval
sub {
    my ($text, $own) = @{(main::lines(1))[0]};
    my $line = JSON::PP::decode_json($text);
    return "$line->{status} [$line->{method}] " . ($text eq $own ? "as its own\n" : $own);
}
--- response_body
400 [A","status":200,"x":"\] as its own



=== maps of the names that a log's variables have
--- http_config
    map  $payment_queue_time  $payment_log_queue  { "" none; default some; }
    log_format payment '$payment_log_queue $payment_log_batch';
--- config
    access_log logs/access.log payment;
    location /api/payments { payment_api; }
    location = /ok { access_log off; return 200 "ok\n"; }
--- init
PaymentTest::http('POST', '/api/payments/authorize', main::body('maps'));
PaymentTest::http('GET', '/api/payments/x');
--- request
GET /ok
--- response_headers
Content-Length: 3
--- access_log eval
[qr/^some 1$/, qr/^none null$/]



=== of an error_page that is a payment_api, they tell the last word
--- http_config
    log_format payment '[$payment_operation $payment_error $payment_status] $status';
--- config
    error_page 400 = @generous;
    location /api/payments {
        payment_intercept_errors on;
        payment_max_amount 10;
        payment_api;
        access_log logs/access.log payment;
    }
    location @generous {
        payment_api;
        access_log logs/access.log payment;
    }
    location = /ok { access_log off; return 200 "ok\n"; }
--- init
PaymentTest::http('POST', '/api/payments/authorize', main::body('l11'));
--- request
GET /ok
--- response_headers
Content-Length: 3
--- access_log eval
[qr/^\[authorize - AUTHORIZED\] 200$/]



=== a malformed body of a request that is refused ends the connection
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('POST /api/payments/nothing/here', 'application/json')
--- error_code: 400
--- response_headers
Connection: close
Content-Type: application/problem+json
--- response_body_like eval
qr/"code":"INVALID_REQUEST"/
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body



=== the same with a method that is not allowed
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('PUT /api/payments/authorize', 'application/json')
--- error_code: 400
--- response_headers
Connection: close
Allow: POST
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body



=== with an id that is none
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('POST /api/payments/capture/x', 'application/json')
--- error_code: 400
--- response_headers
Connection: close
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body



=== with a content type that is refused
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('POST /api/payments/authorize', 'text/plain')
--- error_code: 400
--- response_headers
Connection: close
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body



=== with a GET
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('GET /api/payments/01890000-0000-7000-8000-000000000000',
                'application/json')
--- error_code: 400
--- response_headers
Connection: close
Content-Type: application/problem+json
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body



=== with a look-up
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('GET /api/payments?merchantId=M1&idempotencyKey=k',
                'application/json')
--- error_code: 400
--- response_headers
Connection: close
Content-Type: application/problem+json
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body



=== with a page of operations
--- http_config
    payment_operations on;
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('GET /api/payments/01890000-0000-7000-8000-000000000000'
                . '/operations?merchantId=M1', 'application/json')
--- error_code: 400
--- response_headers
Connection: close
Content-Type: application/problem+json
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body



=== of a location that is only read
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('GET /metrics', 'text/plain')
--- error_code: 400
--- response_headers
Connection: close
Content-Type: application/problem+json
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body



=== and of the outbox's administration
--- config eval
main::locations('') . 'location = /after { return 200 "AFTER\n"; }'
--- raw_request eval
main::malformed('POST /admin', 'text/plain')
--- error_code: 400
--- response_headers
Connection: close
Content-Type: application/problem+json
--- response_body_unlike eval
qr/AFTER/
--- error_log
client sent invalid chunked body
